"""A 95% interval holds the truth in about 95 of 100 studies, and says what it was taken over."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from pipeline.scoring.effective import effective_images, luck_of, shared_luck
from pipeline.scoring.intervals import (
    Interval,
    Scored,
    clopper_pearson,
    ends,
    intervals,
    of_shares,
    over_replicates,
    report_arrays,
    scored,
)
from pipeline.scoring.metrics import SCORES, scores

Counts = npt.NDArray[np.int64]
CONFUSION = np.array([[80, 6, 4], [9, 40, 1], [3, 2, 15]])


# coverage


def studies(
    rng: np.random.Generator,
    number: int,
    replicates: int,
    images: int,
    accuracy: float,
    imbalance: float,
    spread: float,
) -> tuple[Counts, npt.NDArray[np.float64]]:
    """Confusion matrices (S, R, K, K) of made-up studies, five classes, and the luck that replicates share (S,).

    An image is too hard for a training where its difficulty is above the training's skill in its class. Three fifths of
    a difficulty's variance are common to all replicates of a study; skill varies from seed to seed by `spread`.
    """
    classes = 5
    shares = imbalance ** (-np.arange(classes) / (classes - 1))
    actual = rng.choice(classes, (number, 1, images), p=shares / shares.sum())
    skill = (
        scipy.stats.norm.ppf(accuracy)
        + np.linspace(0.2, -0.2, classes)
        + spread * rng.normal(size=(number, replicates, 1))
    )
    hard = np.sqrt(0.6) * rng.normal(size=(number, 1, images))
    hard = hard + np.sqrt(0.4) * rng.normal(size=(number, replicates, images))
    right = hard < np.take_along_axis(skill, np.broadcast_to(actual, right_shape := hard.shape), axis=2)
    wrong = (actual + rng.integers(1, classes, right_shape)) % classes
    cells = np.arange(number * replicates).reshape(number, replicates, 1) * classes + actual
    cells = cells * classes + np.where(right, actual, wrong)
    counts = np.bincount(cells.ravel(), minlength=number * replicates * classes**2)
    return counts.reshape(number, replicates, classes, classes), np.array([shared_luck(each) for each in right])


@pytest.mark.parametrize("replicates", [1, 2, 3, 5])
def test_intervals_of_all_scores_hold_the_expected_score_in_94_of_100_studies(replicates: int) -> None:
    """400 studies each; the expected score is their mean. docs/trust.md has a larger grid."""
    rng = np.random.default_rng(replicates)
    held: dict[str, list[float]] = {}
    for images, accuracy, imbalance, spread in (
        *((50, 0.97, 1, 0.02), (50, 0.9, 10, 0.1)),
        *((360, 0.97, 1, 0.02), (360, 0.99, 10, 0.1), (360, 0.5, 1, 0.1)),
        (1500, 0.99, 10, 0.02),
    ):
        counts, shared = studies(rng, 400, replicates, images, accuracy, imbalance, spread * (replicates > 1))
        effective = effective_images(counts.mean(1))
        for name, values in report_arrays(np.moveaxis(counts, 1, 0)).items():
            _, low, high = ends(values, effective[name], shared)
            known = ~np.isnan(low)
            truth = np.nanmean(values)
            held.setdefault(name, []).append(np.mean(((low <= truth) & (truth <= high))[known]))
    assert {name for name, found in held.items() if np.mean(found) < 0.94} == set()
    limit = scipy.stats.binom.ppf(0.0001, 400, 0.95) / 400  # of each of 150 numbers, were it exactly 95%
    assert {name for name, found in held.items() if min(found) < limit} == set()


@pytest.mark.parametrize(("rare", "accuracy"), [(5, 0.2), (10, 0.1), (36, 0.03)])
def test_a_rare_class_that_is_never_right_leaves_an_average_unsure(rare: int, accuracy: float) -> None:
    """In three of ten studies none of its images is right; these intervals missed before, all of them."""
    rng, sizes, skill = np.random.default_rng(8), np.array([150, 147, rare]), np.array([0.98, 0.98, accuracy])
    labels, found, never = np.repeat(np.arange(3), sizes), [], 0
    for _ in range(200):
        right = rng.random(len(labels)) < skill[labels]
        guesses = np.where(right, labels, (labels + rng.integers(1, 3, len(labels))) % 3)
        confusion = np.zeros((1, 3, 3), dtype=np.int64)
        np.add.at(confusion[0], (labels, guesses), 1)
        never += confusion[0, 2, 2] == 0
        found.append({name: intervals(confusion)[name] for name in ("macro_f1", "balanced_accuracy")})
    assert never > 40
    for name in ("macro_f1", "balanced_accuracy"):
        truth = np.mean([each[name].mean for each in found])
        assert sum(each[name].low <= truth <= each[name].high for each in found) >= 188, name


@pytest.mark.parametrize(("splits", "seeds"), [(2, 5), (4, 3)])
def test_seeds_that_share_a_split_are_no_draws_of_splits(splits: int, seeds: int) -> None:
    """Taken as such, 3 in 10 intervals of 2 splits with 5 seeds each missed, and 15 in 100 of 4 with 3."""
    rng, of = np.random.default_rng(4), np.repeat(np.arange(splits), seeds)
    held = 0
    for _ in range(500):
        values = 0.9 + rng.normal(0, 0.01, splits)[of] + rng.normal(0, 0.005, len(of))
        found = Scored(values, 10_000, 0.5, splits=of).interval
        held += found.low <= 0.9 <= found.high
    assert held >= 470
    alone = Scored(values[:splits], 10_000, 0.5)
    assert dataclasses.replace(alone, splits=np.arange(splits)).interval == alone.interval, "one seed a split"


def test_a_class_whose_mistakes_are_common_to_all_replicates_has_its_own_luck() -> None:
    right = np.random.default_rng(0).random((5, 1000)) > 0.1
    right[:, :100] = right[0, :100]
    everywhere = shared_luck(right)
    assert everywhere < 0.3
    assert luck_of(right[:, :100], everywhere) > 0.9
    assert luck_of(right[:, 100:], everywhere) == everywhere, "no less than that of all"
    assert luck_of(np.ones((5, 40), dtype=bool), 0.37) == pytest.approx(0.37), "without a mistake nothing else is known"
    assert luck_of(right[:1], 0.2) == 1
    counts = np.tile(CONFUSION, (3, 1, 1))
    common, own = scored(counts, 0.2), scored(counts, 0.2, of_classes=[0.9, 0.2, 0.2])
    assert own["recall/0"].interval.low < common["recall/0"].interval.low
    assert own["recall/1"].interval == common["recall/1"].interval


def test_an_interval_is_not_wider_than_it_has_to_be() -> None:
    """360 images, accuracy 0.97: over test images 1.1 times the binomial's, over five replicates less than over one."""
    rng = np.random.default_rng(3)
    widths = {}
    for replicates in (1, 5):
        counts, shared = studies(rng, 200, replicates, 360, 0.97, 1, 0.0)
        _, low, high = ends(report_arrays(np.moveaxis(counts, 1, 0))["accuracy"], np.full(200, 360.0), shared)
        widths[replicates] = (high - low).mean()
    assert widths[1] < 1.15 * 2 * 1.96 * np.sqrt(0.97 * 0.03 / 360)
    assert widths[5] < 0.85 * widths[1]


def test_folds_that_share_training_images_have_wider_intervals() -> None:
    values = np.array([0.90, 0.93, 0.95, 0.92, 0.91])
    found = Scored(values, 100_000, redrawn=1 / 4).interval
    half = scipy.stats.t.ppf(0.98, 4) * values.std(ddof=1) * np.sqrt(1 / 5 + 1 / 4)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert (found.n, found.basis) == (5, "draws of the images")
    agreed = Scored(np.full(5, 0.9), 200, redrawn=1 / 4).interval  # no certainty: over all 200 test images
    assert (agreed.low, agreed.high) == pytest.approx(exact(180, 200))


# against others' results


def exact(hits: int, images: int) -> tuple[float, float]:
    found = scipy.stats.binomtest(hits, images).proportion_ci(method="exact")
    return found.low, found.high


@pytest.mark.parametrize("values", [[0.9, 0.92], [0.31, 0.33, 0.36], [0.5, 0.51, 0.52, 0.49, 0.5]])
def test_interval_over_replicates_is_scipys_t_interval(values: list[float]) -> None:
    found = over_replicates(values)
    wanted = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((max(0, wanted.low), min(1, wanted.high)))
    assert (found.mean, found.n, found.basis) == (pytest.approx(np.mean(values)), len(values), "replicates")
    many = Scored(np.array(values), 1e12).interval  # so many images that they have no part
    half = scipy.stats.t.ppf(0.98, len(values) - 1) * scipy.stats.sem(values)
    assert (many.low, many.high) == pytest.approx((max(0, found.mean - half), min(1, found.mean + half)), abs=1e-5)


@pytest.mark.parametrize("hits", [0, 1, 37, 49, 50])
def test_a_share_has_the_exact_binomial_interval(hits: int) -> None:
    found = clopper_pearson(np.asarray(hits / 50), np.asarray(50.0))
    assert found == pytest.approx(exact(hits, 50))


def test_one_replicates_accuracy_recall_and_precision_have_the_exact_binomial_interval() -> None:
    found = intervals(CONFUSION[None])
    for name, hits, images in (("accuracy", 135, 160), ("recall/0", 80, 90), ("precision/2", 15, 20)):
        assert (found[name].low, found[name].high) == pytest.approx(exact(hits, images)), name
    top = of_shares([0.95], 160)
    assert (top.low, top.high) == pytest.approx(exact(152, 160))


@pytest.mark.parametrize("name", ["macro_f1", "weighted_f1", "balanced_accuracy", "precision/macro", "f1/1"])
def test_other_scores_vary_over_test_images_as_their_effective_number_says(name: str) -> None:
    """Against a bootstrap of many images, where what is added for few ones hardly matters."""
    rng = np.random.default_rng(2)
    counts = CONFUSION * 40
    drawn = rng.multinomial(counts.sum(), (counts / counts.sum()).ravel(), size=20_000).reshape(-1, 3, 3)
    score = report_arrays(counts)[name]
    wanted = score * (1 - score) / report_arrays(drawn)[name].var()
    assert effective_images(counts)[name] == pytest.approx(wanted, rel=0.04)  # variance of 20,000 draws: 1%


def test_the_luck_that_replicates_share_is_the_correlation_of_being_right() -> None:
    rng = np.random.default_rng(4)
    common, own = rng.normal(size=20_000), rng.normal(size=(4, 20_000))
    right = np.sqrt(0.5) * common + np.sqrt(0.5) * own < 1
    wanted = np.corrcoef(right)[np.triu_indices(4, 1)].mean()
    assert shared_luck(right) == pytest.approx(wanted, abs=0.01)
    assert shared_luck(right[:1]) == 1
    assert shared_luck(np.repeat(right[:1], 3, axis=0)) == pytest.approx(1)
    assert shared_luck(np.ones((3, 50), dtype=bool)) > 0.9  # nothing is known of it


# limiting cases


def test_one_replicate_is_judged_over_test_images_and_several_over_both() -> None:
    one = {name: intervals(CONFUSION[None])[name] for name in SCORES}
    assert {(interval.n, interval.basis) for interval in one.values()} == {(1, "test images")}
    assert {name: interval.mean for name, interval in one.items()} == pytest.approx(scores(CONFUSION))
    two = intervals(np.stack([CONFUSION, CONFUSION.T]))
    assert {(interval.n, interval.basis) for interval in two.values()} == {(2, "replicates and test images")}
    assert two["accuracy"].low <= one["accuracy"].low  # replicates that agree make no certainty
    assert tuple(two) == tuple(report_arrays(CONFUSION)) == tuple(effective_images(CONFUSION))


def test_what_a_replicate_lacks_is_undefined_and_what_it_has_never_right_is_not() -> None:
    never = np.array([[5, 0], [3, 0]])  # the second class is never predicted
    both = intervals(np.stack([never, [[40, 0], [1, 1]]]))["precision/1"]
    assert np.isnan([both.mean, both.low, both.high]).all()
    assert both.n == 2
    alone = intervals(never[None])
    assert np.isnan([alone["precision/1"].mean, alone["precision/1"].low, alone["precision/1"].high]).all()
    assert (alone["recall/1"].mean, alone["recall/1"].low, alone["recall/1"].high) == pytest.approx((0, *exact(0, 3)))


def test_a_perfect_class_and_replicates_that_agree_have_intervals_of_some_width() -> None:
    perfect = np.diag([50, 20, 5])
    for confusions in (perfect[None], np.stack([perfect] * 3)):
        found = intervals(confusions)
        assert all(each.low < each.mean == each.high == 1 for each in found.values())
        assert found["recall/2"].low < found["recall/1"].low < found["recall/0"].low < found["accuracy"].low
        assert found["balanced_accuracy"].low < found["accuracy"].low  # a class of five images counts a third


def test_the_more_images_the_narrower() -> None:
    for name in ("accuracy", "macro_f1", "f1/1"):
        few, many = (intervals(CONFUSION[None] * factor)[name] for factor in (4, 400))
        assert (many.high - many.low) * 10 == pytest.approx(few.high - few.low, rel=0.1), name  # 1 / sqrt(images)


def test_costs_are_not_clipped_to_what_a_score_can_be() -> None:
    found = over_replicates([3.0, 3.2, 3.4], highest=np.inf)
    wanted = scipy.stats.ttest_1samp([3.0, 3.2, 3.4], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert over_replicates([0.0, 1.0]) == Interval(0.5, 0.0, 1.0, 2, "replicates")  # clipped, not -5.9 to 6.9


def test_a_single_class_and_classes_that_no_image_is_of_are_no_fault() -> None:
    assert intervals(np.array([[[7]]]))["macro_f1"].mean == 1
    rare = np.zeros((2, 300, 300), dtype=np.int64)
    rare[:, np.arange(0, 300, 2), np.arange(0, 300, 2)] = 2
    rare[:, 0, 1:4] = 1
    found = intervals(rare)
    assert found["macro_f1"].low < found["macro_f1"].mean < found["macro_f1"].high
    assert np.isnan(found["recall/1"].mean)


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        intervals(np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match="at least one image"):
        intervals(np.zeros((0, 3, 3)))
    with pytest.raises(ValueError, match="wanted two replicates or more, got 1"):
        over_replicates([0.5])
