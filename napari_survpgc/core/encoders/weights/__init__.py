"""Weights on this machine: where they lie, how they are loaded, what was encoded with them."""
