"""A study whose replicates have splits of their own, from its images to its report: verdicts hold over them."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import StageError
from pipeline.records.predictions import Predictions, predictions_path
from tests import small_study

TINY = {"tiny": {"family": "tiny", "layers": ["conv 8, pool, conv 8"], "train": {"lr": 0.02}}}
OTHER = {"other": {"family": "tiny", "layers": ["conv 4"], "train": {}}}
REPLICATES = [0, 1, 2, 3]


def report(folder: Path, patch: pytest.MonkeyPatch) -> str:
    from pipeline.stages import report
    from pipeline.tracking import runs

    patch.chdir(folder)
    for opened in ("data_run", "report_run"):
        patch.setattr(runs, opened, lambda *_: contextlib.nullcontext(small_study.Untracked()))
    patch.setattr(small_study.Untracked, "artifact", lambda *_: None)
    report.main()
    return (folder / "reports/report.html").read_text()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two splits of digits with two seeds each, two tiny networks, everything before the report."""
    from pipeline.stages import doctor, preview
    from pipeline.tracking import runs

    folder = tmp_path_factory.mktemp("splits")
    settings = {"replicates": REPLICATES, "split.vary": "split", "split.draws": 2, "dataset.train_fraction": 0.3}
    names = [f"{model}-{replicate}" for model in ("tiny", "other") for replicate in REPLICATES]
    small_study.run(folder, settings, {**TINY, **OTHER}, names)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(runs, "data_run", lambda *_: contextlib.nullcontext(small_study.Untracked()))
        patch.setattr(small_study.Untracked, "artifact", lambda *_: None)
        doctor.main()
        preview.main()
    return folder


def test_the_page_speaks_of_splits_and_parts_their_variance_from_the_seeds(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = report(study, monkeypatch)
    for text in (
        "360 test images of each of 2 splits",
        "The test covers seeds, splits and test images",
        "4 each, on 2 splits",
        "corrected for what their training images share",
        "All of them were varied.",
        "Used: in the first of 2 splits.",
    ):
        assert text in page, text
    found = json.loads((study / "reports/metrics.json").read_text())
    assert [row["model"] for row in found["variance"]] == ["tiny", "other"]
    assert all({"seeds", "split", "images"} < row.keys() for row in found["variance"])
    scores = [found["models"][name]["macro_f1"]["mean"] for name in ("tiny", "other")]
    assert found["pairs"][0]["macro_f1"]["difference"] == pytest.approx(scores[0] - scores[1])


def test_replicates_of_one_split_are_tested_on_the_same_images_and_of_two_on_others(study: Path) -> None:
    names = [Predictions.read(predictions_path(f"tiny-{replicate}", study)).images for replicate in REPLICATES]
    assert names[0] == names[2] != names[1] == names[3]
    packed = json.loads((study / "data/fit/1/info.json").read_text())
    trained = json.loads((study / "models/other-1/config.json").read_text())
    assert trained["data"]["digest"] == packed["digest"]


def test_results_of_another_split_are_refused(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns("data", "models"))
    for kind in ("evaluations", "predictions"):
        suffix = "json" if kind == "evaluations" else "parquet"
        place = tmp_path / "study/reports" / kind
        shutil.copy(place / f"tiny-1.{suffix}", place / f"tiny-2.{suffix}")
    path = tmp_path / "study/reports/evaluations/tiny-2.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"replicate": 2}))
    with pytest.raises(StageError, match=r"tiny-2.json: made from other images than those of reports/data.json"):
        report(tmp_path / "study", monkeypatch)


def test_replicates_that_were_never_split_are_named(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns("data", "models"))
    data = json.loads((tmp_path / "study/reports/data.json").read_text())
    data["replicates"] = data["replicates"][:3]
    (tmp_path / "study/reports/data.json").write_text(json.dumps(data))
    with pytest.raises(StageError, match=r"data.json: no images of replicate 3; run `dvc repro`"):
        report(tmp_path / "study", monkeypatch)


def test_data_of_other_settings_are_refused(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns("data", "models"))
    params = tmp_path / "study/params.yaml"
    params.write_text(params.read_text().replace("vary: split", "vary: validation"))
    with pytest.raises(StageError, match=r"data.json: made with split.vary split, and params.yaml has validation; run"):
        report(tmp_path / "study", monkeypatch)


def test_leaked_images_are_left_out_of_the_replicate_that_has_them(study: Path) -> None:
    from pipeline.params.read import load_params
    from pipeline.report import results
    from pipeline.report.sections.data import without

    with contextlib.chdir(study):
        found = results.read(load_params())
    right = found.first.right
    assert right.shape == (4, 360)
    assert without(found.first, [0, 1]) == pytest.approx(np.mean(right[0, 2:]))
