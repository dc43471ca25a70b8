"""The report says what training took, and what each model had reached with as much of it as the cheapest took."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.params.read import load_params
from pipeline.report import paper, results
from pipeline.report.cards import card
from pipeline.report.page import templates
from pipeline.report.section import Section
from pipeline.report.sections import compute
from pipeline.report.sections.compute import best_within
from tests import fake_study

EPOCHS = 12


def study(folder: Path, **options: Any) -> Path:
    return fake_study.write(folder, **{"models": ("cnn", "vit"), "replicates": (0, 1), "epochs": EPOCHS, **options})


def section(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Section:
    monkeypatch.chdir(folder)
    found = results.read(load_params())
    made = compute.section(found)
    html = templates().get_template("sections/compute.html")
    tables = {table.name: table for table in made.tables}
    assert html.render(found=found, tables=tables, figures=dict.fromkeys(made.figures, ""), **made.words)
    return made


def edit(folder: Path, pattern: str, **cost: Any) -> None:
    for path in (folder / "reports/evaluations").glob(pattern):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"cost": content["cost"] | cost}))


@pytest.mark.parametrize(
    ("budget", "best"), [(100, 0.9), (75, 0.9), (74, 0.7), (50, 0.7), (26, 0.5), (24, np.nan), (1000, 0.9)]
)
def test_the_best_within_a_budget_is_that_of_the_epochs_that_fit(budget: float, best: float) -> None:
    found = best_within(np.array([0.5, 0.7, 0.9, 0.8]), 100, budget)
    assert found == pytest.approx(best, nan_ok=True)


def test_each_model_stands_where_it_was_when_it_had_taken_as_much_as_the_cheapest_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = study(tmp_path)
    edit(folder, "cnn-*.json", train_seconds=100.0, flops=1000)
    edit(folder, "vit-*.json", train_seconds=40.0, flops=3000)
    made = section(folder, monkeypatch)
    rows = made.tables[0].frame.set_index("model")
    images = sum(each["train"] for each in json.loads((folder / "reports/data.json").read_text())["classes"]) * EPOCHS
    assert rows["train_images"].to_list() == [images, images]
    assert rows["train_flops"].to_list() == [3 * 1000 * images, 3 * 3000 * images], "forward, and backward worth two"

    def after(model: str, epochs: int) -> float:
        runs = [pd.read_csv(folder / f"reports/histories/{model}-{replicate}.csv") for replicate in (0, 1)]
        return float(np.mean([run["val_macro_f1"][:epochs].max() for run in runs]))

    assert rows.loc["cnn", "at_equal_seconds"] == pytest.approx(after("cnn", 4))  # of 12, for 40 of 100 seconds
    assert rows.loc["vit", "at_equal_seconds"] == pytest.approx(after("vit", 12))
    assert rows.loc["cnn", "at_equal_flops"] == pytest.approx(after("cnn", 12))
    assert rows.loc["vit", "at_equal_flops"] == pytest.approx(after("vit", 4))
    assert "at_equal_images" not in rows, "all saw the same number"
    assert "at equal time (40.0 s, all of vit's)" in made.words["sentence"]
    assert [panel.get_title(loc="left") for panel in made.figures["compute"].axes] == ["By time", "By FLOPs"]


def test_sam_takes_two_steps_and_what_a_frozen_network_takes_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = study(tmp_path, overrides={"cnn": {"sam": 0.05}, "vit": {"tune": "head"}})
    edit(folder, "*.json", flops=1000)
    (table,) = section(folder, monkeypatch).tables
    rows = table.frame.set_index("model")
    assert rows.loc["cnn", "train_flops"] == 6 * 1000 * rows.loc["cnn", "train_images"]
    assert [cells[2] for cells in table.cells] == [table.cells[0][2], "–"]


def test_memory_and_energy_are_shown_where_they_were_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = study(tmp_path, models=("cnn", "vit", "hybrid"))
    edit(folder, "cnn-*.json", peak_memory_bytes=512_000_000, processor_joules=950.0)
    edit(folder, "vit-*.json", peak_memory_bytes=1_500_000_000, processor_joules=1000.0, gpu_joules=2500.0)
    edit(folder, "hybrid-1.json", peak_memory_bytes=1, gpu_joules=1.0)
    cells = section(folder, monkeypatch).tables[0].cells
    found = results.read(load_params())
    assert "Energy of a training: 3.50 kJ (processor and GPU)." in card(found.models[1], found)
    assert paper.energy(found) == "not known", "of one model nobody knows"
    assert [row[4:6] for row in cells] == [
        ("512 MB", "950 J (processor)"),
        ("1.50 GB", "3.50 kJ (processor and GPU)"),
        ("not measured", "not measured"),
    ]


def test_a_model_without_validation_scores_is_left_out_and_one_alone_is_compared_with_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (study(tmp_path, overrides={"vit": {"include_validation": True, "select": "last"}}) / "reports").glob(
        "*/vit-*.csv"
    ):
        history = pd.read_csv(path)
        history[["val_loss", "val_accuracy", "val_macro_f1"]] = np.nan
        history.to_csv(path, index=False)
    made = section(tmp_path, monkeypatch)
    assert (made.words["sentence"], dict(made.figures)) == ("", {})
    assert "at_equal_seconds" not in made.tables[0].frame


def test_many_models_have_a_panel_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(f"model_{letter}" for letter in "abcdefghi")
    folder = study(tmp_path, models=names, replicates=(0,), train_images=dict.fromkeys(names, 700))
    figure = section(folder, monkeypatch).figures["compute"]
    assert [panel.get_title(loc="left") for panel in figure.axes] == list(names)
