"""Canonical order, and the phrase that names a variant."""

from collections import Counter

import numpy as np

from pipeline.datasets.collection import by_content, in_order, variant
from pipeline.datasets.layouts import held

OFFICIAL = {"train": 50_000, "test": 10_000}


def test_variant_says_what_differs_from_the_official_data() -> None:
    assert variant("", Counter(OFFICIAL), OFFICIAL) == ""
    assert variant("JPEG copy", Counter(OFFICIAL), OFFICIAL) == "JPEG copy"
    assert variant("", Counter(train=50_000, test=9_000), OFFICIAL) == "59,000 of 60,000 images"
    assert variant("JPEG copy", Counter(train=9, test=1), OFFICIAL) == "JPEG copy, 10 of 60,000 images"
    assert variant("", Counter(train=55_000, test=5_000), OFFICIAL) == "other splits: 55,000 train, 5,000 test"
    assert variant("", Counter({"": 7}), {}) == ""


def test_variant_of_training_images_does_not_look_at_test_images() -> None:
    for test in (0, 10_000, 10_001):
        assert variant("", Counter(train=49_999, test=test), OFFICIAL, ("train", "val")) == "49,999 of 50,000 images"


def test_order_by_content_forgets_names_and_places() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 2, 2, 1), dtype=np.uint8)
    images = [held(f"x{n}", "ab"[n % 2], "train", image) for n, image in enumerate(pixels)]
    shuffled = [held(f"y{n}", images[n].label, "train", images[n].pixels()) for n in (3, 0, 5, 2, 4, 1)]
    ordered = by_content(images, ("b", "a"))
    assert [(i.name, i.pixels().tobytes()) for i in ordered] == [
        (i.name, i.pixels().tobytes()) for i in by_content(shuffled, ("b", "a"))
    ]
    assert [image.name for image in ordered[2:4]] == ["train/b/00002", "train/a/00000"]


def test_order_is_by_split_then_label_then_name() -> None:
    blank = np.zeros((1, 1, 1), np.uint8)
    places = [("2", "a", "test"), ("1", "a", "train"), ("0", "b", "train"), ("3", "a", "val"), ("0", "a", "train")]
    ordered = in_order([held(*place, blank) for place in places], ("a", "b"))
    assert [(i.name, i.label, i.split) for i in ordered] == [places[n] for n in (4, 1, 2, 3, 0)]
