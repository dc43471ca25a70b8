"""Class weights are inverse to the counts and average one; every loss is averaged as torch averages cross-entropy."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from pipeline.training.losses.weights import inverse_frequency, weighted_mean

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


# The mean, for any loss: torch's cross_entropy is the oracle


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_the_mean_of_cross_entropies_is_torchs_and_so_is_its_gradient(
    soft: bool, weighted: bool, smoothing: float
) -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 5, generator=rng).requires_grad_()
    targets = torch.rand(40, 5, generator=rng).softmax(1) if soft else torch.randint(5, (40,), generator=rng)
    weight = torch.tensor([0.2, 0.6, 1.0, 1.4, 1.8]) if weighted else None
    found = weighted_mean(-logits.log_softmax(1), targets, weight, smoothing)
    wanted = F.cross_entropy(logits, targets, weight, label_smoothing=smoothing)
    assert_close(found, wanted)
    assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (found, wanted)))


def test_shares_of_one_class_are_that_class() -> None:
    losses, labels = torch.rand(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    assert_close(weighted_mean(losses, F.one_hot(labels, 3).float()), weighted_mean(losses, labels))
    assert_close(weighted_mean(losses, labels), losses[torch.arange(6), labels].mean())
