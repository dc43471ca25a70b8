"""Colours move along the data's principal axes, by as much as the data varies along them."""

import numpy as np
import torch
from torch.testing import assert_close

from pipeline.images.augment.pca import axes, pca_jitter


def test_a_pixels_shift_is_the_papers_sum_and_the_same_all_over_the_image() -> None:
    covariance = np.array([[0.06, 0.05, 0.04], [0.05, 0.06, 0.05], [0.04, 0.05, 0.07]])
    values, vectors = np.linalg.eigh(covariance)
    images = torch.full((2, 3, 4, 4), 100.0)
    draws = torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.5, 0.8413447]])  # alpha 0, and one deviation along the last axis
    found = pca_jitter(images, axes(covariance.tolist()), 0.1, draws)
    assert_close(found[0], images[0])
    shift = torch.from_numpy(255 * 0.1 * values[2] * vectors[:, 2]).float()
    assert_close(found[1].std((1, 2)), torch.zeros(3))
    assert_close((found[1] - images[1]).mean((1, 2)).abs(), shift.abs(), rtol=1e-3, atol=1e-4)


def test_deviation_0_and_data_of_one_colour_move_nothing() -> None:
    images, draws = torch.full((3, 3, 2, 2), 9.0), torch.rand(3, 3, generator=torch.Generator().manual_seed(0))
    assert_close(pca_jitter(images, axes(np.eye(3).tolist()), 0.0, draws), images)
    assert_close(pca_jitter(images, axes(np.zeros((3, 3)).tolist()), 0.5, draws), images)
