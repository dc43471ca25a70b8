"""Optimisers and learning-rate schedules; one file per technique."""
