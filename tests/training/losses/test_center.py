"""Centre loss draws features to their class's mean, and the centres follow by eq. 4."""

import torch
from torch import Tensor
from torch.testing import assert_close

from pipeline.training.losses.center import Centers

LABELS = torch.tensor([0, 0, 0, 2])


def features() -> Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


def test_it_is_half_the_mean_squared_distance_to_the_own_centre() -> None:
    centers, x = Centers(3), features()
    assert_close(centers.loss(x, LABELS), (x**2).sum() / 8)
    centers.centers = torch.arange(15.0).view(3, 5)
    wanted = sum(((row - centers.centers[label]) ** 2).sum() for row, label in zip(x, LABELS, strict=True)) / 8
    assert_close(centers.loss(x, LABELS), wanted)


def test_its_gradient_points_from_the_centre() -> None:
    centers, x = Centers(3), features().requires_grad_()
    centers.loss(x, LABELS).backward()
    assert x.grad is not None
    assert_close(x.grad, x.detach() / 4)


def test_centres_move_by_the_paper_and_those_without_images_stay() -> None:
    centers, x = Centers(3, rate=0.5), features()
    centers.loss(x, LABELS)
    centers.update(x, LABELS)
    assert_close(centers.centers[0], 0.5 * x[:3].sum(0) / 4)
    assert_close(centers.centers[2], 0.5 * x[3] / 2)
    assert not centers.centers[1].any()


def test_centres_end_at_their_classes_means() -> None:
    centers, x = Centers(3), features()
    for _ in range(200):
        centers.loss(x, LABELS)
        centers.update(x, LABELS)
    assert_close(centers.centers[0], x[:3].mean(0))
    assert_close(centers.loss(x[3:], LABELS[3:]), torch.tensor(0.0), atol=1e-6, rtol=0)
