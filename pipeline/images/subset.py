"""Stratified, nested subsets of the training images: what a smaller fraction keeps, a larger one keeps too.

Legend: N images, K classes.
"""

import numpy as np


def kept(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Images that each class keeps, (K,) from (K,): its share, rounded, at least one of those there are."""
    return np.minimum(counts, np.maximum(1, np.rint(fraction * counts))).astype(np.int64)


def subset(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Places (M,), ascending, of a fraction of the images with `labels` (N,): a prefix of each class's own shuffle."""
    parts = []
    for label, wanted in enumerate(kept(np.bincount(labels), fraction)):
        own = np.flatnonzero(labels == label)
        parts.append(np.random.default_rng([seed, label, 1]).permutation(own)[:wanted])
    return np.sort(np.concatenate(parts))
