"""The verdict reads as it was found: what differs, what cannot be told apart, and what would settle it."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.report.sections import pairs
from pipeline.report.table import write
from pipeline.report.words import counted, p_value
from pipeline.scoring import pairs as scoring
from pipeline.scoring.pairs import Difference, Pair, Verdict


def pair(model: str, other: str, value: float, p: float, settled: str = "", least: str = "") -> Pair:
    """One whose p is adjusted already; differences of both scores alike."""
    verdict: Verdict = "not distinguishable" if p > 0.05 else "better" if value > 0 else "worse"
    ends = (value - 0.01, value + 0.01, value - 0.005, value + 0.005)
    each = Difference(value, *ends, p / 3, p, verdict, settled, least or settled)
    return Pair(model, other, {"macro_f1": each, "accuracy": each}, p / 6, p / 2)


THREE = [
    pair("cnn", "vit", 0.1073, 0.0061),
    pair("cnn", "hybrid", 0.0045, 0.59, "10"),
    pair("vit", "hybrid", -0.1, 1e-6),
]
RANKED = ["cnn", "hybrid", "vit"]


def many(models: int) -> tuple[list[Pair], list[str]]:
    names = [f"m{index}" for index in range(models)]  # the later the better, by a hundredth; two apart hold
    found = [
        pair(names[a], names[b], (a - b) / 100, 0.5 if b - a < 2 else 0.001, "20")
        for a in range(models)
        for b in range(a + 1, models)
    ]
    return found, names[::-1]


def test_the_lead_names_what_the_best_is_better_than_and_what_it_cannot_be_told_from() -> None:
    assert pairs.against_the_rest(THREE, RANKED, 3) == (
        "it is better than vit (difference 0.1073, Holm-adjusted p = 0.0061)"
        " and not distinguishable from hybrid (0.0045, p = 0.59)"
    )
    assert pairs.against_the_rest(THREE[:1], ["cnn", "vit"], 1) == (
        "on these weights, seeds not varied, it is better than vit (difference 0.1073, Holm-adjusted p = 0.0061)"
    )


def test_of_many_models_the_lead_names_the_next_ones_and_counts_the_others() -> None:
    found, ranked = many(15)
    assert pairs.against_the_rest(found, ranked, 3) == (
        "it is better than m12 (difference 0.0200, Holm-adjusted p = 0.0010), m11 (0.0300, p = 0.0010) and 11 more"
        " and not distinguishable from m13 (0.0100, p = 0.50)"
    )


@pytest.mark.parametrize(
    ("found", "replicates", "text"),
    [
        (THREE, 3, "Of 3 pairs, 2 differ and 1 cannot be told apart."),
        (THREE[:2], 3, "Of 2 pairs, 1 differs and 1 cannot be told apart."),
        (THREE[1:2] * 3, 3, "None of 3 pairs can be told apart."),
        (THREE[:1] * 3, 3, "All 3 pairs differ."),
        (THREE[:1], 3, "The two models differ."),
        (THREE[1:2], 1, "On these weights, seeds not varied: the two models cannot be told apart."),
        (THREE, 1, "On these weights, seeds not varied: of 3 pairs, 2 differ and 1 cannot be told apart."),
    ],
)
def test_a_sentence_counts_what_differs(found: list[Pair], replicates: int, text: str) -> None:
    assert pairs.sentence(found, replicates) == text


def test_the_table_has_a_line_for_each_pair_and_says_what_its_numbers_are(tmp_path: Path) -> None:
    table = pairs.pairs_table(THREE, RANKED, 3, pairs.rule(THREE, 3))
    assert table.cells[0] == (
        *("cnn vs vit", "+0.1073 [+0.0973, +0.1173]", "0.0061", "better"),
        *("+0.1073 [+0.0973, +0.1173]", "0.0061", "0.0031", "–"),
    )
    assert [row[-1] for row in table.cells] == ["–", "about 10", "–"]
    assert table.cells[2][1:4] == ("−0.1000 [−0.1100, −0.0900]", "< 0.0001", "worse")
    for phrase in ("Holm-adjusted over 3 pairs", "over seeds", "With n = 3 a difference has to exceed 4.4 standard"):
        assert phrase in table.caption
    write(table, tmp_path)
    frame = pd.read_csv(tmp_path / "pairs.csv")
    assert list(frame["verdict"]) == ["better", "not distinguishable", "worse"]
    assert frame.loc[1, "macro_f1_p_holm"] == 0.59
    assert frame.loc[1, "macro_f1_replicates_to_settle"] == 10
    assert set(frame["interval_over"]) == {"seeds and test images"}
    assert r"$-$0.1000" in (tmp_path / "pairs.tex").read_text()


def test_one_replicate_says_that_seeds_were_not_varied() -> None:
    table = pairs.pairs_table(THREE, RANKED, 1, pairs.rule(THREE, 1))
    assert "on these weights, seeds not varied: another seed may turn them" in table.caption
    assert table.cells[1][-1] == "seeds not varied"
    assert set(table.frame["interval_over"]) == {"test images"}


def test_folds_say_that_they_share_training_images() -> None:
    table = pairs.pairs_table(THREE, RANKED, 5, pairs.rule(THREE, 5, folds=True), "folds and test images")
    assert "for the training images that folds share (Nadeau and Bengio 2003)" in table.caption
    assert set(table.frame["interval_over"]) == {"folds and test images"}


def test_of_many_models_the_best_one_is_shown_beside_each_and_the_csv_has_every_pair() -> None:
    found, ranked = many(15)
    table = pairs.pairs_table(found, ranked, 3, "caption.")
    assert len(table.frame) == 105
    assert [row[0] for row in table.cells] == [f"m14 vs {other}" for other in ranked[1:]]
    assert {row[3] for row in table.cells} == {"better", "not distinguishable"}
    assert "all pairs are in the CSV" in table.caption


def test_the_matrix_says_of_each_row_what_it_is_beside_each_column() -> None:
    found, ranked = many(7)
    rows = pairs.matrix(found, ranked)
    assert [model for model, _ in rows] == ranked
    words = np.array([[word for word, _ in row] for _, row in rows])
    assert (words.diagonal() == "").all()
    assert (words[np.triu_indices(7, 2)] == "better").all()
    assert (words[np.tril_indices(7, -2)] == "worse").all()
    assert words[0, 1] == words[1, 0] == "not distinguishable"
    assert rows[0][1][2] == ("better", "m4: +0.0200, p = 0.0010")


@pytest.mark.parametrize(("replicates", "words"), [(2, "smaller"), (3, "median"), (4, "lower of the two middle ones")])
def test_the_caption_says_how_mcnemars_p_of_several_trainings_is_one(replicates: int, words: str) -> None:
    """Checked with the test itself: one seed for each number of images that the first model alone has right."""
    alone = np.arange(1, 6)[:replicates]
    right = np.zeros((2, replicates, 60), dtype=bool)
    for seed, number in enumerate(alone):
        right[0, seed, :number] = True
    first, second = np.array([0]), np.array([1])
    each = sorted(float(scoring.mcnemar(right[:, [seed]], first, second)[0]) for seed in range(replicates))
    middle = each[(replicates - 1) // 2]
    found = re.search(r"p is the ([a-z ]+) of these (\d+) times ([\d.]+)", pairs.rule(THREE, replicates))
    assert found is not None
    assert found.group(1, 2) == (words, str(replicates))
    assert scoring.mcnemar(right, first, second)[0] == pytest.approx(min(1, middle * float(found[3])))


@pytest.mark.parametrize(
    ("settled", "least", "text"),
    [
        ("7", "7", "about 7"),
        (">1000", "20", "more than 1,000 (at best 20)"),
        ("test images", "8", "not by replicates (at best 8)"),
        ("test images", "test images", "not by replicates"),
        ("", "", "–"),
    ],
)
def test_what_would_settle_a_pair_is_an_order_of_magnitude_and_as_unsure_as_the_difference(
    settled: str, least: str, text: str
) -> None:
    assert pairs.settled(pair("a", "b", 0.01, 0.4, settled, least).differences["macro_f1"], 3) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (0.997, "1"), (0.1, "0.10"), (0.0123, "0.012"), (0.00061, "0.00061"), (2e-9, "< 0.0001")],
)
def test_p_values_read_well(value: float, text: str) -> None:
    assert p_value(value) == text


def test_a_number_and_its_noun_agree() -> None:
    assert [counted(count, "image") for count in (0, 1, 2, 2345)] == [
        "no images",
        "1 image",
        "2 images",
        "2,345 images",
    ]
    assert counted(3, "class", "classes") == "3 classes"
