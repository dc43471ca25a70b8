"""Probes find what features hold, choose by validation alone and are scored once on the test images."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier

from pipeline.scoring import probes
from pipeline.scoring.probes import Split, Splits


def blobs(apart: float, images: int = 90, seed: int = 0) -> Splits:
    """Three classes in five dimensions, their means so far apart."""
    rng = np.random.default_rng(seed)
    means = apart * rng.normal(size=(3, 5))

    def split() -> Split:
        labels = np.arange(images) % 3
        return Split(means[labels] + rng.normal(size=(images, 5)), labels)

    return Splits(split(), split(), split())


@pytest.mark.parametrize("probe", [probes.linear, probes.neighbours, lambda splits: probes.few_shot(splits, 5)])
def test_what_lies_apart_is_found_and_what_does_not_is_not(probe: object) -> None:
    assert callable(probe)
    assert probe(blobs(8.0).scaled).accuracy.mean > 0.98
    nothing = probe(blobs(0.0).scaled).accuracy
    assert 0.2 < nothing.mean < 0.5
    assert nothing.low < 1 / 3 + 0.06


def test_the_chosen_setting_is_the_one_that_validation_finds_best_and_test_images_change_no_choice() -> None:
    splits = blobs(0.7).scaled
    oracle = {
        penalty: f1_score(
            splits.val.labels,
            LogisticRegression(C=penalty, max_iter=1000)
            .fit(splits.train.features, splits.train.labels)
            .predict(splits.val.features),
            average="macro",
        )
        for penalty in probes.PENALTIES
    }
    found = probes.linear(splits)
    assert found.chosen == f"C {max(oracle, key=lambda penalty: oracle[penalty]):g}"
    assert found.val_macro_f1 == pytest.approx(max(oracle.values()))
    counts = {
        k: KNeighborsClassifier(k, metric="cosine")
        .fit(splits.train.features, splits.train.labels)
        .predict(splits.val.features)
        for k in probes.NEIGHBOURS
    }
    scores = {k: f1_score(splits.val.labels, guess, average="macro") for k, guess in counts.items()}
    assert probes.neighbours(splits).chosen == f"k {max(scores, key=lambda k: scores[k])}"
    other = Splits(splits.train, splits.val, Split(-splits.test.features, splits.test.labels))
    assert (probes.linear(other).chosen, probes.neighbours(other).chosen) == (
        found.chosen,
        probes.neighbours(splits).chosen,
    )


def test_few_images_are_drawn_by_seed_and_as_many_of_each_class() -> None:
    splits = blobs(1.0).scaled
    first, again, other = (probes.few_shot(splits, 5, seed) for seed in (0, 0, 1))
    assert first == again
    assert first is not None
    assert other is not None
    assert first.accuracy != other.accuracy
    assert first.accuracy.n == probes.DRAWS
    more = probes.few_shot(splits, 30)
    assert more is not None
    assert more.accuracy.mean > first.accuracy.mean  # all training images: as many as there are
    assert probes.few_shot(splits, 31) is None
