"""Digits are scikit-learn's, in its order."""

import numpy as np
from sklearn.datasets import load_digits

from pipeline.datasets import opened


def test_pixels_and_labels_are_scikit_learns() -> None:
    with opened("digits", "") as (about, collection):
        images = np.stack([image.pixels()[..., 0] for image in collection.images])  # (N, 8, 8)
        labels = [int(image.label) for image in collection.images]
    original = load_digits()
    assert images.shape == (1797, 8, 8)
    assert (images.min(), images.max()) == (0, 255)
    np.testing.assert_allclose(images / 255 * 16, original.images, atol=0.5 * 16 / 255)
    np.testing.assert_array_equal(labels, original.target)
    assert not about.flip
