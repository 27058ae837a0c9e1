"""Runs on disk: what was trained, on whom, with what result."""
