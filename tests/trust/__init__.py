"""Inputs that are damaged or made to harm: what every reader does with them."""
