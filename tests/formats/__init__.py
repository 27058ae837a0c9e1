"""What files the product opens and refuses: one list of cases, tried by a test, printed as ``docs/formats.md``."""
