"""A difference is called where it holds, and of equal models at most 5 studies in 100 say that any two differ."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from pipeline.scoring import pairs
from pipeline.scoring.draws import UNTESTED, Draws
from pipeline.scoring.metrics import confusion_matrix, score_arrays
from pipeline.scoring.pairs import (
    compare,
    compare_shares,
    half_widths,
    holm,
    influence,
    mcnemar,
    p_values,
    resample,
    settled_by,
    turned,
)

Predictions = dict[str, npt.NDArray[np.int64]]
ONE, OTHER = np.array([0]), np.array([1])  # one pair, of the first model and the second


def made_up(
    rng: np.random.Generator,
    accuracy: Sequence[float],
    replicates: int,
    spread: Sequence[float],
    alike: float = 0.6,
    own: float = 0.5,
    images: int = 300,
    imbalance: float = 1.0,
    classes: int = 4,
) -> tuple[npt.NDArray[np.int64], Predictions]:
    """A study whose models have these expected accuracies, over seeds and images: labels (N,), predictions (R, N).

    An image is too hard for a training where its difficulty is above the training's skill. Of the difficulty's
    variance a share is common to all models (`alike`), of the rest a share is the model's `own`, what then is left is a
    single training's.
    Skill varies from seed to seed by `spread`, in standard deviations of the difficulty.
    """
    models = len(accuracy)
    shares = imbalance ** (-np.arange(classes) / (classes - 1))
    actual = rng.choice(classes, images, p=shares / shares.sum())
    wobble = np.asarray(spread)[:, None]  # (M, 1)
    skill = scipy.stats.norm.ppf(accuracy)[:, None] * np.sqrt(1 + wobble**2)
    skill = skill + wobble * rng.normal(size=(models, replicates))  # (M, R)
    common, owned = rng.normal(size=images), rng.normal(size=(models, 1, images))
    single = rng.normal(size=(models, replicates, images))
    hard = (
        math.sqrt(alike) * common + math.sqrt((1 - alike) * own) * owned + math.sqrt((1 - alike) * (1 - own)) * single
    )
    wrong = (actual + rng.integers(1, classes, single.shape)) % classes
    predicted = np.where(hard < skill[..., None], actual, wrong)  # (M, R, N)
    return actual, {f"m{index}": each for index, each in enumerate(predicted)}


# the level and the power, simulated

WORLDS = {
    "seeds that hardly matter": {"spread": (0.02, 0.02, 0.02), "own": 0.5},
    "seeds that matter more than images": {"spread": (0.15, 0.15, 0.15), "own": 0.1, "alike": 0.8},
    "one model's seeds vary most, classes are rare": {"spread": (0.01, 0.05, 0.2), "imbalance": 10.0},
}


@pytest.mark.parametrize("replicates", [1, 3, 5])
def test_of_studies_with_equal_models_at_most_5_in_100_call_any_two_different(replicates: int) -> None:
    """Three models, three pairs, 100 studies of each world; one replicate is asked of its weights: they are equal."""
    rng = np.random.default_rng(replicates)
    called = {"macro_f1": 0, "accuracy": 0}
    studies = 100
    for world in WORLDS.values():
        settings = world | ({"spread": (0.0, 0.0, 0.0)} if replicates == 1 else {})
        for _ in range(studies):
            data = made_up(rng, (0.85, 0.85, 0.85), replicates, **settings)  # type: ignore[arg-type]
            found = compare(*data, 4, resamples=200)
            for name in called:
                called[name] += any(pair.differences[name].verdict != "not distinguishable" for pair in found)
    limit = scipy.stats.binom.ppf(0.99, studies * len(WORLDS), 0.05)  # 24 of 300, were it exactly 5%
    assert max(called.values()) <= limit, called


def folded(rng: np.random.Generator, folds: int, images: int) -> tuple[npt.NDArray[np.int64], Predictions, Draws]:
    """A study of two nearest-centroid classifiers, each of its own half of the features; both halves say as much.

    They are trained on all folds but the one that they predict: labels (N,), predictions (R, N), UNTESTED elsewhere.
    """
    actual = rng.integers(0, 2, images)
    features = rng.normal(size=(images, 12)) + np.where(actual[:, None] == 1, 0.3, -0.3)
    parts = np.array_split(np.arange(images), folds)
    predicted = {}
    for name, seen in (("first half", features[:, :6]), ("second half", features[:, 6:])):
        guesses = np.full((folds, images), UNTESTED)
        for fold, test in enumerate(parts):
            train = np.setdiff1d(np.arange(images), test)
            centres = np.array([seen[train][actual[train] == label].mean(0) for label in (0, 1)])
            guesses[fold, test] = ((seen[test][:, None] - centres) ** 2).sum(-1).argmin(1)
        predicted[name] = guesses
    return actual, predicted, Draws(np.arange(folds), 1 / (folds - 1), test=True)


@pytest.mark.parametrize("folds", [3, 5])
def test_of_folds_with_equal_learners_at_most_5_in_100_call_them_different(folds: int) -> None:
    """100 studies. By hand, 300 each of 3, 5 and 10 folds: 0.3, 0.7, 1.0%; Student's t uncorrected 7.3, 7.3, 6.0%."""
    rng = np.random.default_rng(folds)
    called = {"macro_f1": 0, "accuracy": 0}
    for _ in range(100):
        actual, predicted, draws = folded(rng, folds, 120)
        pair = compare(actual, predicted, 2, resamples=50, draws=draws)[0]
        for name in called:
            called[name] += pair.differences[name].verdict != "not distinguishable"
    assert max(called.values()) <= 5, called


def test_folds_are_replicates_whose_variance_is_raised_for_what_they_share() -> None:
    actual, predicted, draws = folded(np.random.default_rng(0), 5, 500)
    pair = compare(actual, predicted, 2, draws=draws)[0]
    found = pair.differences["accuracy"]
    first, second = ((each == actual).sum(1) / 100 for each in predicted.values())
    each = first - second
    half = scipy.stats.t.ppf(0.975, 4) * each.std(ddof=1) * math.sqrt(1 / 5 + 1 / 4)  # Nadeau and Bengio
    assert found.value == pytest.approx(each.mean())
    assert found.high - found.value == pytest.approx(half)
    assert (found.settled_by, found.settled_from) == ("", "")
    right = np.array([(each == actual).any(0)[None] for each in predicted.values()])  # (M, 1, N)
    assert pair.mcnemar == mcnemar(right, ONE, OTHER)[0]


@pytest.mark.parametrize("size", [1, 6, 10])
def test_folds_of_few_images_are_resampled_each_and_a_large_difference_is_no_nan(size: int) -> None:
    """Of ten images a resample of all folds' now and then holds none of a fold, whose score is undefined then."""
    rng, folds = np.random.default_rng(3), 60 // size
    labels, fold = rng.integers(2, size=60), np.arange(60) % folds
    predicted = {}
    for name, accuracy in (("good", 0.97), ("bad", 0.5)):
        answers = np.where(rng.random(60) < accuracy, labels, 1 - labels)
        predicted[name] = np.where(fold == np.arange(folds)[:, None], answers, UNTESTED)
    draws = Draws(np.arange(folds), 1 / (folds - 1), test=True)
    found = compare(labels, predicted, 2, resamples=500, draws=draws)[0].differences["accuracy"]
    assert found.low > 0
    assert found.verdict == "better"


def test_a_large_difference_over_folds_is_found() -> None:
    rng = np.random.default_rng(1)
    actual, predicted, draws = folded(rng, 5, 500)
    ours = predicted["first half"]
    guessed = np.where(ours == UNTESTED, UNTESTED, rng.integers(0, 2, ours.shape))
    assert compare(actual, {"a": ours, "b": guessed}, 2, draws=draws)[0].verdict == "better"


def test_mcnemars_test_alone_would_take_the_luck_of_seeds_for_a_difference() -> None:
    rng = np.random.default_rng(7)
    found = [made_up(rng, (0.85, 0.85), 1, (0.2, 0.2), images=1000) for _ in range(100)]
    tests = [
        mcnemar(np.array([each == actual for each in predicted.values()]), ONE, OTHER) for actual, predicted in found
    ]
    assert np.mean(np.array(tests) <= 0.05) > 0.25  # of weights it is right, of models it is not


@pytest.mark.parametrize(("replicates", "gap", "power"), [(1, 0.06, 0.8), (3, 0.10, 0.6), (5, 0.06, 0.8)])
def test_a_planted_difference_is_found(replicates: int, gap: float, power: float) -> None:
    """Of three models one is `gap` below two equal ones, 1,000 images, seeds vary accuracy by about half a point."""
    rng = np.random.default_rng(10 + replicates)
    hits, wrong = [], []
    for _ in range(40):
        data = made_up(rng, (0.9, 0.9, 0.9 - gap), replicates, (0.03, 0.03, 0.03), images=1000)
        same, first, second = compare(*data, 4, resamples=200)
        hits += [first.verdict == "better", second.verdict == "better"]
        wrong.append(same.verdict != "not distinguishable" or "worse" in (first.verdict, second.verdict))
    assert np.mean(hits) >= power
    assert sum(wrong) <= scipy.stats.binom.ppf(0.99, 40, 0.05)


@pytest.mark.parametrize("replicates", [2, 3, 5])
@pytest.mark.parametrize("images", [0.0, 0.1, 0.5, 0.9])
def test_an_interval_over_seeds_and_images_misses_as_often_as_its_level_at_any_level(
    replicates: int, images: float
) -> None:
    """At most. `images` is the share of the variance that is due to them; no chance: quantiles of chi-squared."""
    freedom = replicates - 1
    quantiles = (np.arange(100_000) + 0.5) / 100_000
    seeds = (1 - images) * scipy.stats.chi2.ppf(quantiles, freedom) / freedom
    parts = ((seeds, np.full(seeds.shape, freedom)), (np.full(seeds.shape, images), np.full(seeds.shape, np.inf)))
    for level in (0.05, 0.05 / 3, 0.05 / 105):
        missed = 2 * scipy.stats.norm.sf(half_widths(level, parts)).mean()  # given each estimate
        assert missed <= 1.01 * level
        if not images:
            assert missed >= 0.99 * level  # then it is Student's t


# against others' results


@pytest.mark.parametrize("seed", range(4))
def test_mcnemars_p_is_the_exact_binomial_tests(seed: int) -> None:
    rng = np.random.default_rng(seed)
    right = rng.random((2, 1, 60)) < [[[0.7]], [[0.85]]]
    ours = int((right[0] & ~right[1]).sum())
    both = int((right[0] != right[1]).sum())
    assert mcnemar(right, ONE, OTHER)[0] == pytest.approx(scipy.stats.binomtest(ours, both).pvalue)


def test_mcnemars_tests_of_several_replicates_are_not_added_up() -> None:
    rng = np.random.default_rng(5)
    right = rng.random((2, 1, 400)) < [[[0.7]], [[0.76]]]
    one = mcnemar(right, ONE, OTHER)[0]
    same = mcnemar(np.repeat(right, 5, axis=1), ONE, OTHER)[0]  # five times the same: nothing new is learned
    assert same == pytest.approx(min(1, one * 5 / 3))
    alike = np.ones((2, 3, 10), dtype=bool)
    assert mcnemar(alike, ONE, OTHER)[0] == 1


def test_holms_adjusted_p_values_are_those_worked_by_hand() -> None:
    # 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1 raised to the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert holm([0.2]) == pytest.approx([0.2])


@pytest.mark.parametrize("replicates", [2, 3, 5])
def test_where_images_have_no_part_p_is_that_of_the_paired_t_test(replicates: int) -> None:
    rng = np.random.default_rng(replicates)
    each = rng.normal(0.01, 0.01, replicates)
    found = p_values(
        np.array([each.mean()]), ((np.array([each.var(ddof=1) / replicates]), np.array([replicates - 1])),)
    )
    assert found[0] == pytest.approx(scipy.stats.ttest_1samp(each, 0).pvalue, rel=1e-5)


def test_p_is_exact_far_out_too() -> None:
    for value, freedom in ((9.0, 4), (60.0, 2), (12.0, 5000)):
        found = p_values(np.array([value]), ((np.array([1.0]), np.array([float(freedom)])),))[0]
        assert found == pytest.approx(2 * scipy.stats.t.sf(value, freedom), rel=1e-4)


def test_resampled_scores_are_those_of_the_images_drawn_the_same_for_every_model() -> None:
    rng = np.random.default_rng(3)
    actual, predicted = made_up(rng, (0.7, 0.8), 2, (0.1, 0.1), images=50, classes=5, imbalance=20)
    guesses = np.array(list(predicted.values()))
    found = resample(actual, guesses, 5, seed=9, resamples=30)
    rows = np.random.default_rng(9).integers(50, size=(30, 50))
    for name, (once, samples) in found.items():
        for place in np.ndindex(2, 2):
            whole = score_arrays(confusion_matrix(actual, guesses[place], 5))
            assert once[place] == pytest.approx(whole[name])
            drawn = [score_arrays(confusion_matrix(actual[row], guesses[place][row], 5))[name] for row in rows]
            assert samples[place] == pytest.approx(np.array(drawn))


def test_an_images_influence_is_what_the_score_gains_with_its_weight() -> None:
    rng = np.random.default_rng(4)
    actual, predicted = made_up(rng, (0.7,), 1, (0.0,), images=40, imbalance=5)
    found = influence(actual, predicted["m0"][None], 4)["macro_f1"][0]
    step = 1e-6
    for image in range(40):
        weights = np.ones(40)
        weights[image] += step
        hits = np.bincount(actual, weights=weights * (predicted["m0"][0] == actual), minlength=4)
        support, named = (np.bincount(each, weights=weights, minlength=4) for each in (actual, predicted["m0"][0]))
        once = score_arrays(confusion_matrix(actual, predicted["m0"][0], 4))["macro_f1"]
        gained = (pairs.f1_and_accuracy(hits, support, named)["macro_f1"] - once) / step
        assert found[image] == pytest.approx(float(gained), abs=1e-6)


# limiting cases


def test_with_one_replicate_accuracy_is_judged_by_the_images_that_one_model_alone_has_right() -> None:
    actual = np.zeros(400, dtype=np.int64)
    first, second = actual.copy(), actual.copy()
    first[:12], second[12:50] = 1, 1  # wrong on 12, wrong on 38 others
    found = compare(actual, {"a": first[None], "b": second[None]}, 2, resamples=4000)[0].differences["accuracy"]
    assert found.value == pytest.approx(26 / 400)
    half = scipy.stats.t.ppf(0.975, 49) * math.sqrt(50) / 400  # 50 images differ
    assert found.high - found.value == pytest.approx(half, rel=0.05)
    assert (found.images_low, found.images_high) == pytest.approx(
        found.value + np.array([-1.96, 1.96]) * math.sqrt(50 / 400 - found.value**2) / 20, abs=0.004
    )
    assert found.verdict == "better"
    assert found.settled_by == ""


def test_models_that_predict_alike_are_not_told_apart() -> None:
    actual, predicted = made_up(np.random.default_rng(1), (0.8,), 3, (0.1,))
    found = compare(actual, {"a": predicted["m0"], "b": predicted["m0"]}, 4, resamples=50)[0]
    for each in found.differences.values():
        assert (each.value, each.p, each.verdict) == (0, 1, "not distinguishable")
    assert found.mcnemar == 1


def test_few_images_or_replicates_that_agree_by_chance_are_no_certainty() -> None:
    actual = np.zeros(3, dtype=np.int64)
    alone = compare(actual, {"a": actual[None], "b": actual[None] + 1}, 2, resamples=50)[0]
    assert alone.verdict == "not distinguishable"  # one model all right, the other all wrong, on three images
    rng = np.random.default_rng(2)
    actual = np.zeros(100, dtype=np.int64)
    both = {
        name: np.array([rng.permutation(actual + (np.arange(100) < n)) for _ in range(2)])
        for name, n in (("a", 10), ("b", 13))
    }  # each model as often right with either seed: no spread at all
    found = compare(actual, both, 2, resamples=500)[0].differences["accuracy"]
    assert found.value == pytest.approx(0.03)
    assert found.high - found.low > 0.95 * (found.images_high - found.images_low)
    assert found.verdict == "not distinguishable"


def test_an_interval_excludes_0_where_p_is_below_the_level() -> None:
    rng = np.random.default_rng(6)
    sides = set()
    for replicates in (1, 2, 4):
        data = made_up(rng, np.linspace(0.8, 0.9, 6), replicates, [0.05] * 6, images=400)
        for pair in compare(*data, 4, resamples=200):
            for each in pair.differences.values():
                assert (each.p < 0.05) == (each.low > 0 or each.high < 0)
                assert each.low <= each.value <= each.high
                assert each.holm >= each.p
                sides.add(each.p < 0.05)
    assert sides == {True, False}


def test_a_pair_seen_from_the_other_model_says_the_opposite() -> None:
    data = made_up(np.random.default_rng(8), (0.7, 0.9), 3, (0.02, 0.02), images=800)
    pair = compare(*data, 4, resamples=100)[0]
    assert pair.verdict == "worse"
    other = turned(pair)
    assert (other.model, other.verdict) == (pair.other, "better")
    there, back = pair.differences["macro_f1"], other.differences["macro_f1"]
    assert (back.low, back.value, back.high) == (-there.high, -there.value, -there.low)
    assert turned(other) == pair


def test_the_same_predictions_give_the_same_verdict_again() -> None:
    data = made_up(np.random.default_rng(8), (0.8, 0.9), 2, (0.02, 0.02))
    assert compare(*data, 4, resamples=60) == compare(*data, 4, resamples=60)
    assert compare(data[0], {"a": data[1]["m0"]}, 4) == []


def test_predictions_of_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"wanted predictions \(R, 3\) of each model"):
        compare(np.zeros(3, dtype=np.int64), {"a": np.zeros((1, 4), dtype=np.int64)}, 2)


# how many replicates


def test_more_replicates_settle_a_difference_unless_the_test_images_limit_it() -> None:
    assert settled_by(0.05, seeds=0.01**2, shared=0.002**2, freedom=500, alpha=0.05) == "3"
    assert settled_by(0.005, seeds=0.01**2, shared=0.001**2, freedom=500, alpha=0.05) == "50"
    assert settled_by(0.005, seeds=0.01**2, shared=0.004**2, freedom=500, alpha=0.05) == "test images"
    assert settled_by(0.0005, seeds=0.01**2, shared=0.0, freedom=500, alpha=0.05) == ">1000"
    assert settled_by(0.0, seeds=0.01**2, shared=0.01**2, freedom=500, alpha=0.05) == "test images"


def test_that_no_number_of_replicates_would_do_is_said_as_surely_as_the_difference_is_known() -> None:
    """With the expected difference of 0.03 about 30 would do; a difference that looks smaller by chance says none.

    By hand, of 490 undecided studies of nine worlds: as the difference looks none would do in 382, 25 of them wrong; as
    large as its interval allows in 11, none of them wrong.
    """
    rng = np.random.default_rng(5)
    likely = sure = 0
    for _ in range(40):
        data = made_up(rng, (0.85, 0.82), 3, (0.05, 0.05), own=0.2)
        found = compare(*data, 4, resamples=100)[0].differences["accuracy"]
        likely += found.settled_by == "test images"
        sure += found.settled_from == "test images"
    assert likely > 8
    assert sure <= 1


def test_few_replicates_and_many_pairs_ask_for_a_large_difference() -> None:
    assert pairs.threshold(3, 1) == pytest.approx(scipy.stats.t.ppf(0.975, 2) / math.sqrt(3))
    assert pairs.threshold(3, 105) > 5 * pairs.threshold(5, 105) > 5


@pytest.mark.parametrize(
    ("value", "shared"), [(0.02, 0.0), (0.008, 0.0), (0.005, 0.001), (0.01, 0.002)], ids=lambda value: f"{value:g}"
)
def test_with_the_replicates_said_to_settle_it_a_difference_is_found_in_four_studies_of_five(
    value: float, shared: float
) -> None:
    """Studies drawn anew: seeds of deviation 0.01, and test images of deviation `shared` that every seed shares."""
    rng = np.random.default_rng(3)
    told = int(settled_by(value, seeds=0.01**2, shared=shared**2, freedom=500, alpha=0.05))

    def found(number: int) -> float:
        seeds = rng.normal(value, 0.01, (4000, number))
        images = rng.normal(0, shared, 4000)
        parts = (
            (np.full(4000, shared**2), np.full(4000, 500.0)),
            (seeds.var(1, ddof=1) / number, np.full(4000, number - 1.0)),
        )
        return float(np.mean(np.abs(seeds.mean(1) + images) > half_widths(0.05, parts)))

    assert found(told) > 0.77
    if told > pairs.REPLICATES[0]:
        assert found(pairs.REPLICATES[pairs.REPLICATES.index(told) - 1]) < 0.83


# Shares


def test_shares_that_are_right_or_wrong_are_compared_as_predictions_are() -> None:
    rng = np.random.default_rng(3)
    actual, guesses = made_up(rng, [0.9, 0.8, 0.8], 3, [0.1, 0.1, 0.1])
    right = {name: rows == actual for name, rows in guesses.items()}
    found = compare_shares(right)
    for pair in compare(actual, guesses, 4):
        wanted, got = pair.differences["accuracy"], found[pair.model, pair.other]
        assert got.verdict == wanted.verdict
        for key in ("value", "low", "high", "images_low", "images_high", "p", "holm"):
            assert getattr(got, key) == pytest.approx(getattr(wanted, key), abs=1e-6), key
    assert compare_shares({"alone": next(iter(right.values()))}) == {}


def test_images_looked_at_many_times_are_no_more_images() -> None:
    """The same answers to a hundred equal variants leave the interval as wide as one does."""
    rng = np.random.default_rng(3)
    actual, guesses = made_up(rng, [0.9, 0.8], 1, [0.0, 0.0])
    right = {name: rows == actual for name, rows in guesses.items()}
    often = {name: np.stack([rows] * 100).mean(0) for name, rows in right.items()}
    (one,), (many,) = compare_shares(right).values(), compare_shares(often).values()
    assert (many.low, many.high) == pytest.approx((one.low, one.high))
