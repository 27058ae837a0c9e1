"""Simulated patients whose hazard is known, and their H&E sections."""
