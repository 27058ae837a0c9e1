"""One file a panel; each takes the session (and, where it draws in the canvas, the layers) and nothing of its siblings."""
