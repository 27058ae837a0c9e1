"""A cohort as networks take it."""
