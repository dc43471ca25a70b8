"""Models that differ only in how many training images they saw are a curve, and the report says who catches whom."""

from itertools import combinations

import numpy as np
import pytest
import torch

from pipeline.images import packed
from pipeline.report.sections import learning
from pipeline.report.words import signed_interval
from pipeline.scoring.curves import Curves, Point
from pipeline.scoring.curves import curves as curves_curves
from pipeline.scoring.intervals import intervals, over_replicates
from pipeline.scoring.pairs import Difference, Pair
from pipeline.training import task


def point(model: str, images: int, *scores: float) -> Point:
    score = over_replicates(scores) if len(scores) > 1 else intervals(np.array([[[9, 1], [1, 9]]]))["macro_f1"]
    return Point(model, images, np.array(scores), score)


CNN = [point("cnn_100", 1000, 0.80, 0.82), point("cnn_10", 100, 0.60, 0.62), point("cnn_50", 500, 0.70, 0.72)]


def curves(*points: tuple[str, Point]) -> Curves:
    return curves_curves({each.model: ({"backbone": name, "train_fraction": 0.5}, each) for name, each in points})


def test_a_curve_has_the_models_of_one_network_in_the_order_of_their_images() -> None:
    found = curves(*(("resnet18", each) for each in CNN), ("vit", point("vit", 1000, 0.5, 0.5)))
    assert list(found) == ["cnn"]  # the other network was trained on one number of images only
    assert [each.images for each in found["cnn"]] == [100, 500, 1000]


def test_networks_that_were_trained_alike_twice_are_no_curve() -> None:
    assert not curves(("resnet18", point("one", 1000, 0.5)), ("resnet18", point("two", 1000, 0.5)))


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ((0.40, 0.50, 0.60), "vit does not catch cnn up to 1,000 training images"),
        ((0.40, 0.50, 0.82), "vit catches cnn between 500 and 1,000 training images"),
        ((0.40, 0.75, 0.60), "vit does not catch cnn up to 1,000 training images"),  # ahead once is not caught
        ((0.61, 0.71, 0.81), "vit and cnn are level from 100 training images on"),
        ((0.90, 0.91, 0.92), "cnn does not catch vit up to 1,000 training images"),
    ],
)
def test_one_curve_catches_another_where_it_stays_level_or_above(scores: tuple[float, ...], said: str) -> None:
    others = [
        ("vit", point(f"vit_{images}", images, score - 0.01, score + 0.01))
        for images, score in zip((100, 500, 1000), scores, strict=True)
    ]
    found = curves(*(("resnet18", each) for each in CNN), *others)
    (sentence,) = learning.sentences(found, pairs([point for curve in found.values() for point in curve]))
    assert sentence.startswith(f"{said}: ")
    first, last = (abs(scores[k] - mean) for k, mean in ((0, 0.61), (-1, 0.81)))
    ends = [f"{signed_interval(gap, gap - 0.05, gap + 0.05)} at {n}" for gap, n in ((first, "100"), (last, "1,000"))]
    if "catches" not in said:
        assert sentence.endswith(f"is {' and '.join(ends)}."), "with the intervals of the pairs"


def pairs(points: list[Point]) -> list[Pair]:
    """Every two models with an interval of a tenth around their difference."""
    found = []
    for one, other in combinations(points, 2):
        gap = one.score.mean - other.score.mean
        each = Difference(gap, gap - 0.05, gap + 0.05, gap, gap, 0.01, 0.01, "better", "", "")
        found.append(Pair(one.model, other.model, {"macro_f1": each}, 1, 1))
    return found


def test_the_figure_has_a_line_for_each_family_through_its_means() -> None:
    figure = learning.learning_curves_figure(
        {"cnn": [(100, 0.6, 0.5, 0.7), (1000, 0.8, 0.7, 0.9)], "vit": [(100, 0.4, 0.4, 0.4)]}
    )
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["cnn"].get_xydata().tolist() == [[100, 0.6], [1000, 0.8]]
    assert lines["vit"].get_ydata().tolist() == [0.4]


def test_a_models_fraction_is_of_the_packed_images_the_same_whenever_it_is_taken() -> None:
    labels = torch.arange(200) % 4
    images = packed.Images(torch.arange(200, dtype=torch.uint8).view(200, 1, 1, 1), labels)
    tenth, fifth = (task.fraction_of(images, part, seed=3) for part in (0.1, 0.2))
    assert labels[tenth.pixels.flatten().long()].equal(tenth.labels)  # each pixel is its image's place
    assert tenth.labels.bincount().tolist() == [5, 5, 5, 5]
    assert set(tenth.pixels.flatten().tolist()) < set(fifth.pixels.flatten().tolist())
    assert task.fraction_of(images, 0.1, seed=3).pixels.equal(tenth.pixels)
    assert task.fraction_of(images, 1.0, seed=3) is images
