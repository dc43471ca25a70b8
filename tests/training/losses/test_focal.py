"""Focal loss is cross-entropy at gamma 0, torchvision's for two classes, and its formula in between."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close
from torchvision.ops import sigmoid_focal_loss

from pipeline.training.losses.focal import losses
from pipeline.training.losses.weights import weighted_mean


def focal_loss(
    logits: Tensor, labels: Tensor, gamma: float = 2.0, weight: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    return weighted_mean(losses(logits, gamma), labels, weight, label_smoothing)


def batch(classes: int = 5, count: int = 40) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(count, classes, generator=rng) * 3
    return logits.requires_grad_(), torch.randint(classes, (count,), generator=rng)


WEIGHT = torch.tensor([0.2, 0.6, 1.0, 1.4, 1.8])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_gamma_0_is_cross_entropy_and_so_is_its_gradient(weight: Tensor | None, smoothing: float) -> None:
    logits, labels = batch()
    found = focal_loss(logits, labels, 0.0, weight, smoothing)
    wanted = F.cross_entropy(logits, labels, weight, label_smoothing=smoothing)
    assert_close(found, wanted)
    assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (found, wanted)))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_with_two_classes_it_is_torchvisions_sigmoid_focal_loss(gamma: float) -> None:
    logits, labels = batch(classes=2)
    wanted = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], labels.float(), alpha=-1, gamma=gamma, reduction="mean")
    assert_close(focal_loss(logits, labels, gamma), wanted)


def test_value_by_hand() -> None:
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]]).log()
    labels, weight = torch.tensor([0, 2]), torch.tensor([1.0, 1.0, 3.0])
    first, second = 0.3**2 * -math.log(0.7), 0.75**2 * -math.log(0.25)
    assert focal_loss(logits, labels).item() == pytest.approx((first + second) / 2)
    assert focal_loss(logits, labels, 2.0, weight).item() == pytest.approx((first + 3 * second) / 4)


def test_easy_images_count_less_and_gamma_says_how_much() -> None:
    logits, labels = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([0])
    values = [focal_loss(logits, labels, gamma).item() for gamma in (0.0, 1.0, 2.0)]
    assert values[1] / values[0] == pytest.approx(0.1, rel=1e-4)
    assert values[2] / values[0] == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.5])
def test_logits_that_are_sure_leave_loss_and_gradient_finite(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([0, 0]), gamma, label_smoothing=0.1)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()
