"""Several functions of one architecture as one graph over stacked weights."""
