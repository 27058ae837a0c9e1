"""The cohort tab."""
