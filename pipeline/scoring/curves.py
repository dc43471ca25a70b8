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

from pipeline.scoring.intervals import Interval, over_replicates


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


def gap(one: Point, other: Point) -> Interval:
    """Mean of the differences between replicates of one seed, with its Student t interval where there are several."""
    differences = one.scores - other.scores
    if len(differences) > 1:
        return over_replicates(differences, lowest=-1.0)
    return Interval(float(differences[0]), float("nan"), float("nan"), 1, "test images")


def sentences(found: Curves) -> list[str]:
    """Of every two curves over the same numbers of images: where, if anywhere, the lower catches the higher one."""
    names = list(found)
    return [
        _sentence(found, first, second)
        for place, first in enumerate(names)
        for second in names[place + 1 :]
        if [point.images for point in found[first]] == [point.images for point in found[second]]
    ]


def _sentence(found: Curves, first: str, second: str) -> str:
    ahead, behind = (first, second) if _leads(found[first][0], found[second][0]) else (second, first)
    gaps = [gap(one, other) for one, other in zip(found[ahead], found[behind], strict=True)]
    images = [f"{point.images:,}" for point in found[ahead]]
    caught = next((index for index in range(len(gaps)) if all(each.mean <= 0 for each in gaps[index:])), None)
    if caught is None:
        text = f"{behind} does not catch {ahead} up to {images[-1]} training images"
    elif caught:
        text = f"{behind} catches {ahead} between {images[caught - 1]} and {images[caught]} training images"
    else:
        text = f"{behind} and {ahead} are level from {images[0]} training images on"
    ends = f"{_signed(gaps[0])} at {images[0]} and {_signed(gaps[-1])} at {images[-1]}"
    return f"{text}: {ahead}'s mean macro-F1 minus {behind}'s is {ends}."


def _leads(one: Point, other: Point) -> bool:
    return one.score.mean >= other.score.mean


def _signed(difference: Interval) -> str:
    """+0.0523 [+0.0312, +0.0734]"""
    ends = "" if np.isnan(difference.low) else f" [{difference.low:+.4f}, {difference.high:+.4f}]"
    return f"{difference.mean:+.4f}{ends}".replace("-", "−")
