"""Scores are scikit-learn's, undefined values apart, and agree with published classification reports."""

import numpy as np
import pytest
import sklearn.metrics as oracle

from pipeline.scoring.metrics import averages, confusion_matrix, per_class, score_arrays, scores

# Classification reports on RAF-DB's 3,068 test images as printed in a paper's Tables 2 to 4 (ResNet18, ViT-Small/16,
# hybrid): precision, recall, F1 and support per class; then accuracy; macro and weighted precision, recall and F1.
PUBLISHED = {
    "ResNet18": (
        [
            (0.6863, 0.8511, 0.7598, 329),
            (0.6230, 0.5135, 0.5630, 74),
            (0.4655, 0.3375, 0.3913, 160),
            (0.9600, 0.7485, 0.8412, 1185),
            (0.6145, 0.7971, 0.6940, 478),
            (0.6627, 0.6914, 0.6767, 162),
            (0.6675, 0.7559, 0.7090, 680),
        ],
        0.7386,
        (0.6685, 0.6707, 0.6621),
        (0.7624, 0.7386, 0.7414),
    ),
    "ViT-Small/16": (
        [
            (0.8324, 0.8754, 0.8533, 329),
            (0.7273, 0.5405, 0.6202, 74),
            (0.5614, 0.4000, 0.4672, 160),
            (0.9483, 0.8506, 0.8968, 1185),
            (0.7403, 0.8410, 0.7875, 478),
            (0.8175, 0.6914, 0.7492, 162),
            (0.7111, 0.8471, 0.7732, 680),
        ],
        0.8116,
        (0.7626, 0.7209, 0.7353),
        (0.8185, 0.8116, 0.8108),
    ),
    "hybrid": (
        [
            (0.6793, 0.8693, 0.7627, 329),
            (0.7234, 0.4595, 0.5620, 74),
            (0.4091, 0.2812, 0.3333, 160),
            (0.9557, 0.7460, 0.8379, 1185),
            (0.6315, 0.7887, 0.7014, 478),
            (0.7013, 0.6667, 0.6835, 162),
            (0.6474, 0.7750, 0.7055, 680),
        ],
        0.7370,
        (0.6782, 0.6552, 0.6552),
        (0.7597, 0.7370, 0.7381),
    ),
}


def labels(seed: int, classes: int, images: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Actual and predicted labels with unequal classes, two thirds right."""
    rng = np.random.default_rng(seed)
    actual = rng.choice(classes, images, p=rng.dirichlet(np.ones(classes)))
    return actual, np.where(rng.random(images) < 2 / 3, actual, rng.integers(0, classes, images))


CASES = {
    "all classes": lambda actual, predicted: (actual, predicted),
    "a class never predicted": lambda actual, predicted: (actual, np.where(predicted == 1, 0, predicted)),
    "a class that never occurs": lambda actual, predicted: (np.where(actual == 1, 0, actual), predicted),
    "a class that does neither": lambda actual, predicted: (
        np.where(actual == 1, 0, actual),
        np.where(predicted == 1, 2, predicted),
    ),
    "one class predicted": lambda actual, predicted: (actual, np.zeros_like(predicted)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("classes", [3, 7, 40])
def test_scores_are_those_of_scikit_learn(case: str, classes: int) -> None:
    actual, predicted = CASES[case](*labels(classes, classes))
    found = scores(confusion_matrix(actual, predicted, classes))
    recalls = oracle.recall_score(actual, predicted, average=None, labels=np.unique(actual))
    wanted = {
        "accuracy": oracle.accuracy_score(actual, predicted),
        "macro_f1": oracle.f1_score(actual, predicted, average="macro"),
        "weighted_f1": oracle.f1_score(actual, predicted, average="weighted"),
        "balanced_accuracy": recalls.mean(),  # balanced_accuracy_score warns of predicted classes that never occur
    }
    assert found == pytest.approx(wanted, abs=1e-12)
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize("case", CASES)
def test_per_class_values_and_averages_are_those_of_scikit_learn_with_undefined_as_nan(case: str) -> None:
    classes = 5
    actual, predicted = CASES[case](*labels(1, classes))
    confusion = confusion_matrix(actual, predicted, classes)
    each, means = per_class(confusion), averages(confusion)
    options = {"labels": range(classes), "zero_division": np.nan}
    wanted = oracle.precision_recall_fscore_support(actual, predicted, average=None, **options)
    for name, values in zip(("precision", "recall", "f1", "support"), wanted, strict=True):
        np.testing.assert_allclose(each[name], values, err_msg=name)
    for kind in ("macro", "weighted"):
        values = oracle.precision_recall_fscore_support(actual, predicted, average=kind, **options)
        assert [means[kind][name] for name in ("precision", "recall", "f1")] == pytest.approx(list(values[:3]))


def test_the_matrix_is_that_of_scikit_learn_rows_actual() -> None:
    actual, predicted = labels(2, 6)
    confusion = confusion_matrix(actual, predicted, 6)
    np.testing.assert_array_equal(confusion, oracle.confusion_matrix(actual, predicted, labels=range(6)))
    assert confusion.dtype == np.int64
    np.testing.assert_array_equal(confusion_matrix([0], [2], 3), [[0, 0, 1], [0, 0, 0], [0, 0, 0]])


def test_a_class_never_predicted_has_f1_0_and_a_class_that_does_neither_has_none() -> None:
    each = per_class([[3, 0, 0], [2, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(each["precision"], [0.6, np.nan, np.nan])
    np.testing.assert_array_equal(each["recall"], [1, 0, np.nan])
    np.testing.assert_array_equal(each["f1"], [0.75, 0, np.nan])
    np.testing.assert_array_equal(each["support"], [3, 2, 0])
    assert scores([[3, 0, 0], [2, 0, 0], [0, 0, 0]])["macro_f1"] == pytest.approx(0.375)


def test_perfect_predictions_score_1_and_none_at_all_are_undefined() -> None:
    assert set(scores(np.diag([5, 1, 9])).values()) == {1.0}
    assert np.isnan(list(scores(np.zeros((3, 3))).values())).all()


def test_many_matrices_at_once_score_as_one_by_one() -> None:
    stack = np.random.default_rng(3).integers(0, 4, (2, 5, 4, 4))
    together = score_arrays(stack)
    for index in np.ndindex(2, 5):
        alone = scores(stack[index])
        assert {name: values[index] for name, values in together.items()} == pytest.approx(alone)


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_classification_reports_come_back_from_their_own_rows(model: str) -> None:
    rows, accuracy, macro, weighted = PUBLISHED[model]
    confusion = matrix_of([(precision, recall, support) for precision, recall, _, support in rows])
    each, means, overall = per_class(confusion), averages(confusion), scores(confusion)
    for index, name in enumerate(("precision", "recall", "f1", "support")):
        np.testing.assert_allclose(each[name], [row[index] for row in rows], atol=5.1e-5, err_msg=name)
    assert [means["macro"][name] for name in ("precision", "recall", "f1")] == pytest.approx(macro, abs=5.1e-5)
    assert [means["weighted"][name] for name in ("precision", "recall", "f1")] == pytest.approx(weighted, abs=5.1e-5)
    assert overall == pytest.approx(
        {"accuracy": accuracy, "macro_f1": macro[2], "weighted_f1": weighted[2], "balanced_accuracy": macro[1]},
        abs=5.1e-5,
    )


def matrix_of(rows: list[tuple[float, float, int]]) -> np.ndarray:
    """A confusion matrix of whole images with these printed precisions, recalls and supports.

    The hits follow from recall and support, the number predicted from hits and precision; among the numbers that round
    to the precision, those are taken whose sum is the number of images.
    """
    support = np.array([row[2] for row in rows])
    hits = np.array([round(recall * count) for _, recall, count in rows])
    fits = [
        [n for n in range(hit, 4 * hit + 9) if abs(hit / max(n, 1) - row[0]) <= 5.1e-5]
        for hit, row in zip(hits, rows, strict=True)
    ]
    predicted = np.array([options[0] for options in fits])
    missing = support.sum() - predicted.sum()
    for index, options in enumerate(fits):
        step = min(missing, options[-1] - predicted[index])
        predicted[index] += step
        missing -= step
    assert missing == 0, "the printed precisions do not add up to the number of images"
    confusion = np.diag(hits)
    over, lost = predicted - hits, support - hits  # false positives, false negatives
    while lost.any():  # the class with most left, so that no class is left to be mistaken for itself
        row = int(np.argmax(np.maximum(lost, 0) + np.maximum(over, 0) * (lost > 0)))
        column = int(np.argmax(np.where(np.arange(len(rows)) == row, -1, over + lost)))
        column = column if over[column] else int(np.argmax(np.where(np.arange(len(rows)) == row, -1, over)))
        confusion[row, column] += 1
        lost[row] -= 1
        over[column] -= 1
    assert not over.any()
    return confusion


@pytest.mark.parametrize(
    ("actual", "predicted", "message"),
    [
        ([0, 1], [0], "one length"),
        ([[0, 1]], [[0, 1]], "one length"),
        ([0, 3], [0, 1], "wanted labels 0 to 2, got actual 0 to 3"),
        ([0, 1], [-1, 1], "wanted labels 0 to 2, got predicted -1 to 1"),
        ([0.0, 1.0], [0, 1], "wanted integer labels"),
    ],
)
def test_labels_that_would_be_miscounted_are_refused(actual: list, predicted: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_matrix(actual, predicted, 3)


def test_what_is_not_a_confusion_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"wanted a confusion matrix of shape \(..., K, K\), got \(2, 3\)"):
        scores(np.ones((2, 3)))
