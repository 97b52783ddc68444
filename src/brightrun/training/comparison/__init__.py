"""Two to four runs side by side, and whether a difference between them is proven."""
