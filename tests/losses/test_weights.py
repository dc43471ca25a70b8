"""Class weights are inverse to the counts and average one."""

import pytest
import torch
from torch.testing import assert_close

from pipeline.losses.weights import inverse_frequency

PAPER = [944, 211, 549, 2640, 1482, 542, 1778]  # training images per class, Surprise to Neutral


def labels(counts: list[int]) -> torch.Tensor:
    shuffled = torch.randperm(sum(counts), generator=torch.Generator().manual_seed(0))
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))[shuffled]


def test_weights_of_the_papers_training_images() -> None:
    weights = inverse_frequency(labels(PAPER), 7)
    assert weights.mean().item() == pytest.approx(1)
    products = weights * torch.tensor(PAPER)
    assert_close(products, products[0].expand(7))
    assert weights.argmax() == 1  # Fear, the rarest
    assert weights[1] / weights[3] == pytest.approx(2640 / 211)
    assert weights[1].item() == pytest.approx(7 / 211 / sum(1 / count for count in PAPER))


def test_classes_of_one_size_all_weigh_one() -> None:
    assert_close(inverse_frequency(labels([12, 12, 12]), 3), torch.ones(3))


def test_weights_are_float32_for_the_loss() -> None:
    assert inverse_frequency(labels([3, 1]), 2).dtype == torch.float32
