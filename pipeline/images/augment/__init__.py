"""Augmentation of whole batches, with parameters of their own for each image; one file per technique."""
