"""Scores against the number of training images: models that differ in nothing but how many they saw form a curve.

A curve takes the name that its models share: `cnn_10`, `cnn_25` and `cnn_100` are points of `cnn`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.scoring.intervals import Interval


@dataclass(frozen=True)
class Point:
    """One model: `images` it was trained on, `scores` (R,) of its replicates, and their mean with its interval."""

    model: str
    images: int
    scores: npt.NDArray[np.float64]
    score: Interval


Curves = dict[str, tuple[Point, ...]]  # each of two points or more, by images


def curves(points: Mapping[str, tuple[Mapping[str, Any], Point]]) -> Curves:
    """From model -> (its network's settings, its point); empty where no network was trained on several numbers."""
    groups: dict[str, list[Point]] = {}
    for settings, point in points.values():
        alike = {key: value for key, value in settings.items() if key not in ("train_fraction", "augment", "train")}
        groups.setdefault(json.dumps(alike, sort_keys=True), []).append(point)
    found = {}
    for group in groups.values():
        if len({point.images for point in group}) == len(group) > 1:
            name = re.sub(r"[_0-9]+$", "", group[0].model)
            found[name] = tuple(sorted(group, key=lambda point: point.images))
    return found


def leads(one: Point, other: Point) -> bool:
    """Whether the mean score of one is as high as the other's, or higher."""
    return one.score.mean >= other.score.mean
