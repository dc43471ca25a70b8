"""A-Softmax has the published psi, falls all the way, and is the softmax by angle where m is 1."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from pipeline.training.losses.a_softmax import a_softmax_logits, annealed, psi


def batch(count: int = 40, dim: int = 6, classes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Features, unit weights of the classes, labels."""
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(count, dim, generator=rng, dtype=torch.float64) * 3
    weights = F.normalize(torch.randn(classes, dim, generator=rng, dtype=torch.float64), dim=1)
    return features, weights, torch.randint(classes, (count,), generator=rng)


def loss(features: Tensor, weights: Tensor, labels: Tensor, m: int, weight: float = 0.0) -> Tensor:
    logits = features @ weights.T
    return F.cross_entropy(a_softmax_logits(logits, features.norm(dim=1), labels, m, weight), labels)


def by_hand(features: Tensor, weights: Tensor, labels: Tensor, m: int) -> float:
    """Eq. 6, image by image."""
    total = 0.0
    for x, label in zip(features.numpy(), labels.tolist(), strict=True):
        length = np.linalg.norm(x)
        angles = np.arccos(weights.numpy() @ x / length)
        k = int(m * angles[label] / math.pi)
        own = np.exp(length * ((-1) ** k * math.cos(m * angles[label]) - 2 * k))
        others = sum(np.exp(length * math.cos(angle)) for j, angle in enumerate(angles) if j != label)
        total -= math.log(own / (own + others))
    return total / len(labels)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_it_is_the_published_loss(m: int) -> None:
    assert loss(*batch(), m).item() == pytest.approx(by_hand(*batch(), m), rel=1e-9)


def test_a_margin_of_1_is_the_softmax_by_angle() -> None:
    features, weights, labels = batch()
    assert_close(loss(features, weights, labels, 1), F.cross_entropy(features @ weights.T, labels))


@pytest.mark.parametrize("m", [2, 3, 4])
def test_psi_falls_from_1_to_1_less_2m_without_a_jump(m: int) -> None:
    angles = torch.linspace(0, math.pi, 20_001, dtype=torch.float64)
    values = psi(angles.cos(), m)
    assert_close(values[[0, -1]], torch.tensor([1.0, 1 - 2 * m], dtype=torch.float64))
    steps = values.diff()
    assert (steps <= 1e-9).all()
    assert steps.min() > -0.01
    assert (values <= angles.cos() + 1e-9).all()


def test_a_larger_margin_asks_for_more() -> None:
    found = [loss(*batch(), m).item() for m in (1, 2, 3, 4)]
    assert found == sorted(found)
    assert found[0] < found[3]


def test_annealing_starts_without_margin_and_ends_at_its_floor() -> None:
    assert annealed(0, 5.0) == 1000
    assert annealed(100, 5.0) == pytest.approx(1000 / 13)
    assert annealed(10_000, 5.0) == 5.0
    assert annealed(10**9, 0.0) < 1e-5
    plain, whole = loss(*batch(), 1), loss(*batch(), 4)
    assert_close(loss(*batch(), 4, annealed(0, 5.0)), plain, rtol=0.01, atol=0)
    assert plain < loss(*batch(), 4, 5.0) < whole


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_gradients_are_those_of_differences(m: int) -> None:
    features, weights, labels = batch(8)
    assert torch.autograd.gradcheck(lambda x: loss(x, weights, labels, m, 0.5), features.requires_grad_())


def test_other_classes_logits_stay() -> None:
    features, weights, labels = batch()
    logits = features @ weights.T
    others = ~F.one_hot(labels, 5).bool()
    found = a_softmax_logits(logits, features.norm(dim=1), labels, 4)
    assert_close(found[others], logits[others])
    assert (found[~others] <= logits[~others]).all()


def test_an_image_without_features_has_a_finite_gradient() -> None:
    features = torch.zeros(2, 3, requires_grad=True)
    logits = features @ torch.eye(3)
    F.cross_entropy(
        a_softmax_logits(logits, features.norm(dim=1), torch.tensor([0, 1]), 4), torch.tensor([0, 1])
    ).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
