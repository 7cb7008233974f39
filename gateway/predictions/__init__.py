"""Predictions as Replicate's HTTP API has them, onto functions and jobs."""
