"""What several systems are built of."""
