"""Scores of systems, with their uncertainty."""
