"""Layouts of expression files, one a module."""
