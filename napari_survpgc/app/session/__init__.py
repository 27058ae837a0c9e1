"""The open case and the work on it."""
