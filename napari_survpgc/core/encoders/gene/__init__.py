"""Gene encoders, one file each."""
