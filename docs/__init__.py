"""Pages of the documentation, and the little code that draws and builds them."""
