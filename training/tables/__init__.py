"""Tables of the paper: plan, scores, writing."""
