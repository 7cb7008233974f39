"""Captured runs: what a device repeats as a whole, without a call per operator."""
