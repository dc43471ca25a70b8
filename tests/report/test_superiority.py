"""The report tells what is practically equal from what is only not told apart, by the margin that a study states."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.params.read import load_params
from pipeline.params.settings import Verdict
from pipeline.report import page, results
from pipeline.report.found import Found
from pipeline.report.section import Section
from pipeline.report.sections import superiority
from pipeline.report.sections.superiority import Beside, sentence
from pipeline.scoring.draws import Draws
from pipeline.scoring.superiority import Bounded
from pipeline.stages import source
from tests import fake_study
from tests.report.test_verdicts import THREE, pair


def section(study: Path, monkeypatch: pytest.MonkeyPatch, margin: float = 0.0) -> Section | None:
    monkeypatch.chdir(study)
    settings = load_params().model_copy(update={"verdict": Verdict(margin=margin)})
    return superiority.section(results.read(settings))


def test_models_within_the_margin_are_called_equal_and_without_one_none_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = fake_study.write(tmp_path, models=("cnn", "hybrid", "vit"), images=3000)
    found = section(study, monkeypatch, margin=0.06)
    assert found is not None
    assert found.words["sentence"] == "Practically equal, within ±0.06 of macro-F1: cnn and hybrid."
    assert found.lines == (found.words["sentence"],)
    table, ranks = found.tables
    assert list(table.frame.conclusion)[1:] == ["better", "better"]
    assert "practically equal" in table.cells[0][-1] or table.cells[0][-1].endswith("within the margin")
    assert [row[-1] for row in ranks.cells][-1] == "3 [3, 3]"
    without = section(study, monkeypatch)
    assert without is not None
    assert without.words["sentence"] == "Models that cannot be told apart are not shown to be equal."
    assert set(without.tables[0].frame.equality_p_holm) == {1.0}
    assert without.lines == ()


def test_a_difference_may_hold_and_yet_be_within_the_margin() -> None:
    words = [Beside(each, None, p).conclusion for each in THREE[:2] for p in (0.01, 0.3)]
    assert words == ["better, within the margin", "better", "practically equal", "not distinguishable"]


def test_a_pair_is_shown_from_the_model_that_is_above() -> None:
    seen = Beside(pair("a", "b", -0.01, 0.5), Bounded(0.1, 0.02, 0.4), 1.0).from_above
    assert superiority.cells(seen)[:3] == ("b vs a", "0.90 [0.60, 0.98]", "perhaps")
    assert seen.from_above is seen
    assert Beside(THREE[0], Bounded(0.9, 0.8, 1.0), 1.0).reach == "yes"
    assert Beside(THREE[0], Bounded(0.6, 0.5, 0.7), 1.0).reach == "no"


def test_a_sentence_names_few_equal_pairs_and_counts_many() -> None:
    rows = [Beside(pair(f"m{k}", "x", 0.0, 0.9), None, 0.01) for k in range(5)]
    assert sentence(rows[:2], 0.01) == "Practically equal, within ±0.01 of macro-F1: m0 and x; m1 and x."
    assert sentence(rows, 0.01) == "Practically equal, within ±0.01 of macro-F1: m0 and x; m1 and x; 3 more pairs."
    assert sentence([], 0.01) == "No pair is shown to be practically equal, within ±0.01 of macro-F1."


def test_one_model_has_no_pair_and_one_replicate_speaks_of_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert section(fake_study.write(tmp_path / "one", models=("cnn",)), monkeypatch) is None
    found = section(fake_study.write(tmp_path / "few", models=("cnn", "vit"), replicates=(0,)), monkeypatch)
    assert found is not None
    assert "these weights, seeds not varied" in found.tables[0].caption
    assert "test images, seeds not varied" in found.tables[1].caption


def test_where_splits_vary_equality_is_tested_and_the_rest_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = fake_study.write(tmp_path, models=("cnn", "vit"), images=2000)
    monkeypatch.setattr(Found, "draws", Draws(np.arange(3), 0.25, test=False))
    found = section(study, monkeypatch, margin=0.5)
    assert found is not None
    assert [table.name for table in found.tables] == ["superiority"]
    assert found.tables[0].cells[0][1:3] == ("–", "–")
    assert found.tables[0].cells[0][-1] == "better, within the margin"
    assert "are not given where replicates have splits of their own" in found.words["left_out"]
    text = page.text(page.templates(), "superiority", found, results.read(load_params()), tmp_path)
    assert "Of each pair</summary>" in text


def test_report_reruns_for_a_margin_that_params_yaml_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fake_study.write(tmp_path / "digits"))
    settings = load_params()
    assert source.shown(settings) == "digits\n"  # committed locks stay what they are
    assert source.shown(settings.model_copy(update={"verdict": Verdict(margin=0.01)})) == "digits\nmargin 0.01\n"
