"""One network, one fold."""
