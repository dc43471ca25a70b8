"""Accuracy on subgroups of the test images, from predictions and a table of attributes; the clearest gap, honestly."""

import csv
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline import cli
from pipeline.base.errors import StageError
from pipeline.params.read import load_params
from pipeline.records import attributes
from pipeline.records.predictions import Predictions
from pipeline.report import results, subgroups
from pipeline.scoring.effective import shared_luck
from pipeline.scoring.subgroups import clearest_gap, pairs_of
from tests import fake_study, trees


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_study.write(tmp_path_factory.mktemp("study") / "one", models=("cnn", "vit"), epochs=2)


def answers(study: Path, model: str) -> list[Predictions]:
    return [Predictions.read(study / f"reports/predictions/{model}-{replicate}.parquet") for replicate in (0, 1, 2)]


def table(path: Path, rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_accuracy_is_told_of_each_value_and_a_planted_gap_holds(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study)
    every = answers(study, "vit")
    names, right = every[0].images, np.array([each.right for each in every])
    assert names is not None
    easy = right.sum(0) >= 3
    rows = [("image", "light", "camera"), ("elsewhere.png", "day", "a")]
    rows += [(name, "day" if easy[at] else "night", "ab"[at % 2] if at else "") for at, name in enumerate(names)]
    file = table(tmp_path / "attributes.csv", rows)
    cli.main(["subgroups", str(file), "--out", str(tmp_path / "out")])
    said = " ".join(capsys.readouterr().out.split())
    assert "Not known: camera of 1 image." in said
    assert "corrected for the 2 gaps of a model" in said
    with (tmp_path / "out/subgroups.csv").open() as opened:
        found = {(row["model"], row["value"]): row for row in csv.DictReader(opened)}
    assert float(found["vit", "day"]["accuracy"]) == 1
    night = found["vit", "night"]
    assert int(night["images"]) == (~easy).sum()
    assert float(night["accuracy"]) == pytest.approx(right[:, ~easy].mean())
    with (tmp_path / "out/gaps.csv").open() as opened:
        gaps = {(row["model"], row["attribute"]): row for row in csv.DictReader(opened)}
    assert (gaps["vit", "light"]["above"], gaps["vit", "light"]["below"]) == ("day", "night")
    assert float(gaps["vit", "light"]["low"]) > 0.2
    assert float(gaps["cnn", "camera"]["low"]) < 0 < float(gaps["cnn", "camera"]["high"])


@pytest.fixture
def csv_limit() -> Iterator[None]:
    """The longest field as a fresh process has it: it holds for a whole process, and reading fer2013.csv raises it."""
    before = csv.field_size_limit(131_072)
    yield
    csv.field_size_limit(before)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("image", "light"), ("nowhere.png", "day")], "names none of the images; they are called as 0"),
        ([("file", "light"), ("a.png", "day")], "wanted a column image and one for each attribute, got file, light"),
        ([("image", "light"), ("a.png", "day"), ("a.png", "night")], "names a.png twice"),
        ([("image", "age"), *((f"{age}", f"{age}") for age in range(30))], "age has 30 values; group them to 20"),
        ([("image", "light"), ("1", "day", "a")], "line 2: wanted 2 fields, as in the first line"),
        ([("image", "light", "light"), ("1", "day", "a")], "one for each attribute, got image, light, light"),
        ([("image", "light"), ("1", "\x1b[2J")], r"\x1b[2J: 80 characters at most, all of them printable"),
        ([("image", "light"), ("1", "d" * 200_000)], "not readable as CSV in UTF-8 (field larger than field limit"),
        ([], "wanted a column image and one for each attribute, got "),
    ],
    ids=[
        *("other images", "no column", "twice", "too many values"),
        *("more fields", "an attribute twice", "control characters", "a huge field", "empty"),
    ],
)
@pytest.mark.usefixtures("csv_limit")
def test_a_table_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, rows: list, said: str) -> None:
    with pytest.raises(StageError) as raised:
        attributes.read(table(tmp_path / "given.csv", rows), [str(number) for number in range(30)])
    assert said in str(raised.value)
    assert str(raised.value).isprintable()


def test_tables_of_other_programs_are_read(tmp_path: Path) -> None:
    """With the mark that Excel puts first, names composed as macOS does, fields in quotes; ages are in their order."""
    file = tmp_path / "given.csv"
    file.write_text('\ufeffimage,age\r\n"caf\u0065\u0301, 1.png",70+\r\n2.png,4-19\r\n3.png,20-39\r\n', "utf-8")
    found = attributes.read(file, ["2.png", "caf\u00e9, 1.png", "other.png", "3.png"])
    assert found == {"age": ["4-19", "70+", "", "20-39"]}
    (age,) = attributes.of_columns(found)
    assert (age.levels, age.images) == (["4-19", "20-39", "70+"], "ac-b")
    assert age.column == found["age"]
    file.write_text("image, light \n1.png, night\n2.png,night \n3.png, \n")
    assert attributes.read(file, ["1.png", "2.png", "3.png"]) == {"light": ["night", "night", ""]}
    file.write_text(",image,light\n0,1.png,night\n")
    with pytest.raises(
        StageError, match=r"given\.csv: column 1 has no name; name it, or save the table without its index"
    ):
        attributes.read(file, ["1.png"])
    every = [attributes.Attribute.of("n", column).levels for column in (["7", "07", "007"], ["007", "7", "07"])]
    assert every == [["007", "07", "7"]] * 2, "whatever order they come in"


def test_without_a_file_it_tells_what_the_study_knows(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(study, tmp_path / "copy")
    monkeypatch.chdir(copy)
    with pytest.raises(SystemExit):
        cli.main(["subgroups"])
    assert "nothing is known of these test images; give a CSV file, or name one" in capsys.readouterr().err
    names = [f"{number:04d}.png" for number in range(360)]
    light = ["day" if number % 3 else "" for number in range(360)]
    cli.main(["subgroups", str(table(tmp_path / "a.csv", [("image", "light"), *zip(names, light, strict=True)]))])
    by_the_file = capsys.readouterr().out
    fake_study.write_attributes(copy, {"light": light})
    trees.put(copy / "paper/thesis.tex", b"years")
    cli.main(["subgroups", "--out", "paper"])
    assert capsys.readouterr().out == by_the_file
    assert (copy / "paper/thesis.tex").read_bytes() == b"years"
    assert {"subgroups.csv", "subgroups.md", "subgroups.tex"} < {path.name for path in (copy / "paper").iterdir()}
    fake_study.write_attributes(copy, {"light": light[1:]})
    with pytest.raises(SystemExit):
        cli.main(["subgroups"])
    assert "data.json: attributes of other images than were tested on; run `dvc repro`" in capsys.readouterr().err


def test_images_that_replicates_do_not_share_are_refused(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fold's are scored by its own model alone: no interval over folds comes of one answer each."""
    monkeypatch.chdir(study)
    found = results.read(load_params())
    assert subgroups.names(found)[0] == "0000.png"
    folds = dataclasses.replace(found, models=tuple(dataclasses.replace(each, folds=True) for each in found.models))
    with pytest.raises(StageError, match=r"^subgroups: each fold has test images of its own \(split\.folds\)"):
        subgroups.attributes(folds)


def test_a_gap_of_one_replicate_says_that_no_seed_was_varied(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = fake_study.write(tmp_path, models=("cnn",), replicates=(0,), epochs=2)
    for folder, words in ((study, "over seeds and test images,"), (once, "over test images, seeds not varied,")):
        monkeypatch.chdir(folder)
        found = results.read(load_params())
        halves = {"half": {"a": np.arange(360) < 180, "b": np.arange(360) >= 180}}
        assert words in subgroups.gaps_table(found, halves, subgroups.gaps(found, halves)).caption


def test_a_subgroup_of_few_images_has_no_gap() -> None:
    small = {"a": np.arange(100) < 19, "b": np.arange(100) >= 19}
    assert pairs_of(small) == []
    assert clearest_gap(np.ones((2, 100), dtype=bool), small, 1.0, 1) is None


def test_a_gap_that_holds_is_told_though_a_larger_one_of_few_images_does_not() -> None:
    images = np.repeat(["a", "b", "c"], (3000, 3000, 20))
    right = np.concatenate([np.arange(3000) < 2850, np.arange(3000) < 2550, np.arange(20) < 16])[None]
    groups = {name: images == name for name in "abc"}
    gap = clearest_gap(right, groups, 1.0, 3)
    assert gap is not None
    assert (gap.above, gap.below, gap.holds) == ("a", "b", True)
    assert gap.mean == pytest.approx(0.1)
    few = clearest_gap(right, {name: groups[name] for name in "bc"}, 1.0, 1)
    assert few is not None
    assert (few.above, few.below, few.holds) == ("b", "c", False), "where none holds, the largest is told"


@pytest.mark.parametrize("replicates", [1, 3])
def test_where_no_subgroup_differs_a_gap_is_seldom_said_to_hold(replicates: int) -> None:
    """In 5% at most. Of 1,000 draws from three such distributions: 2.5% at most of one replicate, 0.8% of 2, 3 and 5.

    Where each training is better or worse on a subgroup by 3 points by itself, 0.3 to 1.5% of 2, 3 and 5 replicates,
    and 9 to 23% of one, which says nothing of another seed.
    """
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        values = rng.integers(0, 4, 400)
        groups = {str(value): values == value for value in range(4)}
        right = rng.random((replicates, 400)) < rng.beta(8, 2, 400)  # what replicates share of an image
        gap = clearest_gap(right, groups, shared_luck(right), len(pairs_of(groups)))
        wrong += gap is not None and gap.holds
    assert wrong <= 0.05 * 200


def test_mistakes_that_all_replicates_make_on_a_subgroup_are_no_gap() -> None:
    """By the luck that replicates have in common on all images, 26 of 100 such gaps held with ten replicates."""
    rng, group, wrong = np.random.default_rng(1), np.arange(1000) < 100, 0
    groups = {"alike": group, "others": ~group}
    for _ in range(200):
        right = rng.random((10, 1000)) > 0.1
        right[:, group] = right[0, group]
        gap = clearest_gap(right, groups, shared_luck(right), 1)
        wrong += gap is not None and gap.holds
    assert wrong <= 0.05 * 200
