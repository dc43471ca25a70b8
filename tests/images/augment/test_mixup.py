"""Mixup's images are weighted sums, its shares those of the Beta distribution, folded."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch.testing import assert_close

from pipeline.images.augment.mixup import mixup, shares

PICTURES = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_an_image_is_the_weighted_sum_of_itself_and_its_partner(share: float) -> None:
    partners = torch.tensor([5, 0, 1, 2, 2, 5])
    found = mixup(PICTURES, partners, share)
    for row, partner in enumerate(partners):
        assert_close(found[row], share * PICTURES[row] + (1 - share) * PICTURES[partner])


def test_a_share_of_one_is_the_image_and_of_zero_its_partner_bit_for_bit() -> None:
    partners = torch.arange(6).roll(1)
    assert mixup(PICTURES, partners, 1.0).equal(PICTURES)
    assert mixup(PICTURES, partners, 0.0).equal(PICTURES[partners])


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 4.0])
def test_shares_are_those_of_scipys_beta_folded_at_one_half(alpha: float) -> None:
    beta = scipy.stats.beta(alpha, alpha)
    found = shares(2000, alpha, np.random.default_rng(0))
    assert 0.5 <= min(found) < max(found) <= 1
    assert scipy.stats.kstest(found, lambda x: 2 * (beta.cdf(x) - 0.5)).pvalue > 0.01


def test_a_small_alpha_hardly_mixes_and_a_large_one_halves() -> None:
    rng = np.random.default_rng(0)
    assert np.mean(shares(2000, 1e-3, rng)) > 0.99
    assert np.mean(shares(2000, 1e4, rng)) == pytest.approx(0.5, abs=0.01)
