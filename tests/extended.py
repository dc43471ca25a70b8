"""What docs/extending.md adds, in one study: run by name in the copy where tests/test_extending.py follows the page."""

import contextlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from pipeline import cli
from pipeline.base.errors import StageError
from pipeline.params import messages
from pipeline.params.settings import Dataset
from pipeline.report import drawing
from pipeline.stages import check, report
from pipeline.tracking import runs
from tests import fake_study, small_study, trees

EVERYTHING = {
    "dataset.name": "flowers",
    "dataset.normalise": "dataset",
    "dataset.imbalance": 1,
    "replicates": [0],
    "augment.gridmask": 6,
    "augment.mixup": 0.4,
    "train.epochs": 10,
    "train.batch_size": 16,
    "train.lr": 0.02,
    "train.loss": "poly",
    "train.poly_epsilon": 0.5,
    "train.class_weights": "inverse",
    "train.label_smoothing": 0.1,
    "train.optimizer": "radam",
    "train.schedule": "linear",
}
MODELS = {
    "mixer": {"family": "mixer", "width": 16, "depth": 1, "patch": 4, "groupnorm": 4},
    "margin": {"family": "mixer", "width": 16, "depth": 1, "patch": 4, "train": {"margin": "arcface", "margin_m": 0.1}},
}


def put_flowers(folder: Path) -> str:
    """Bright daisies, dark roses, fewer of these."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name, count, light in (("daisy", 30, 120), ("rose", 20, 0)):
            for row in range(count):
                pixels = rng.integers(light, light + 120, (16, 16, 3), dtype=np.uint8)
                trees.put(folder / split / name / f"{row}.png", trees.encoded(pixels))
    return str(folder)


def test_all_of_it_trains_and_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**EVERYTHING, "dataset.source": put_flowers(tmp_path / "flowers")}
    (tmp_path / "study").mkdir()
    study = small_study.run(tmp_path / "study", settings, MODELS, ["mixer-0", "margin-0"])
    data = json.loads((study / "reports/data.json").read_text())
    assert (data["dataset"], data["caveats"]) == ("flowers", "Photos of one garden in one summer.")
    for name in ("mixer-0", "margin-0"):
        evaluation = json.loads((study / f"reports/evaluations/{name}.json").read_text())
        assert evaluation["scores"]["accuracy"] > 0.8
    monkeypatch.chdir(study)
    check.main()
    cli.main(["classes"])
    assert capsys.readouterr().out.endswith("daisy: 24\nrose: 16\n")
    config = json.loads((study / "models/mixer-0/config.json").read_text())
    assert config["network"]["groupnorm"] == 4
    assert (config["train"]["poly_epsilon"], config["augment"]["gridmask"]) == (0.5, 6)


def test_a_section_stands_in_its_place_on_the_page_and_speaks_in_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(fake_study.write(tmp_path, ("cnn", "vit"), replicates=(0,), epochs=2))
    monkeypatch.setattr(drawing, "save", fake_study.leave_blank)
    monkeypatch.setattr(runs, "report_run", lambda: contextlib.nullcontext(small_study.Untracked()))
    report.main()
    said = re.search(r"All models agree on (\d+) of 360 test images", capsys.readouterr().out)
    assert said
    page = Path("reports/report.html").read_text()
    assert f"All models give the same answer on {said[1]} of 360 test images:" in page
    assert page.index('id="pairs"') < page.index('id="unanimous"') < page.index('id="cost"')
    assert '<a href="#unanimous">Unanimity</a>' in page


def test_what_is_misspelt_is_told_the_choices() -> None:
    for wrong, told in (("flower", "folder, flowers"), ("tulips", "digits, mnist")):
        with pytest.raises(StageError, match=f"dataset.name: got '{wrong}'; choose from .*{told}"):
            messages.validated(Dataset, {"name": wrong, "image_size": 16}, "dataset")
