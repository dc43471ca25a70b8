"""Losses over class logits; one file per technique."""
