"""Losses over class logits, margins on them and a pull on features; one file per technique.

A loss, `losses`, says what an image costs for each class, if that is the right one. How classes are weighted, labels
smoothed or shared is `weights.weighted_mean`'s, so that no loss can leave it out.
"""
