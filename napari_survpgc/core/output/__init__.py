"""What is written of a prediction."""
