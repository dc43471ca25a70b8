"""ArcFace adds its margin to the angle, and nothing where the margin is 0."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from pipeline.training.losses.arcface import arcface_logits

SCALE = 30.0


def batch(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of three classes, the first of which is the label, at these angles from it."""
    logits = torch.stack([angles.cos(), angles.sin() * 0.3, -angles.cos() * 0.5], dim=1) * SCALE
    return logits, torch.zeros(len(angles), dtype=torch.int64)


def test_no_margin_changes_nothing() -> None:
    logits, labels = batch(torch.linspace(0.01, 3.1, 50))
    assert_close(arcface_logits(logits, labels, 0.0, SCALE), logits, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("m", [0.1, 0.5, 1.0])
def test_the_own_class_is_scored_at_the_angle_and_the_margin(m: float) -> None:
    angles = torch.linspace(0.01, math.pi - m - 0.01, 50)
    logits, labels = batch(angles)
    found = arcface_logits(logits, labels, m, SCALE)
    assert_close(found[:, 0], SCALE * (angles + m).cos(), atol=1e-3, rtol=1e-4)
    assert_close(found[:, 1:], logits[:, 1:])


def test_beyond_a_straight_angle_the_target_goes_on_falling() -> None:
    logits, labels = batch(torch.linspace(0.01, math.pi - 0.01, 500))
    found = arcface_logits(logits, labels, 0.5, SCALE)[:, 0]
    assert (found.diff() < 0).all()


@pytest.mark.parametrize("angle", [0.0, math.pi])
def test_gradients_are_finite_where_features_lie_on_a_class(angle: float) -> None:
    logits, labels = batch(torch.tensor([angle]))
    logits.requires_grad_()
    arcface_logits(logits, labels, 0.5, SCALE).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
