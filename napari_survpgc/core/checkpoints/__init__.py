"""Checkpoints of others, read as tensors and made into bundles."""
