"""Two runs that agree are said to, and every planted difference is found with its size."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline import cli
from pipeline.base.errors import StageError
from pipeline.base.files import sha256
from pipeline.launch.rerun import rerun as run_again
from pipeline.launch.rerun import steps
from pipeline.records.predictions import Predictions, logits_path
from pipeline.report.agreement import verify
from tests import fake_study, repo, trees

MODELS = ("cnn", "vit")


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fake_study.write(tmp_path_factory.mktemp("committed"), models=MODELS)
    models = {name: {score: {"mean": 0.9, "low": 0.88, "high": 0.92} for score in SCORES} for name in MODELS}
    (folder / "reports/metrics.json").write_text(json.dumps({"models": models}))
    return folder


SCORES = ("accuracy", "macro_f1", "weighted_f1", "balanced_accuracy")


@pytest.fixture
def rerun(committed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(committed, tmp_path / "rerun"))


def change(path: Path, edit: Callable[[Any], Any]) -> None:
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))
    elif path.suffix == ".parquet":
        edit(Predictions.read(path)).write(path)
    else:
        table = pd.read_csv(path)
        edit(table)
        table.to_csv(path, index=False)


def test_equal_runs_are_the_same_to_the_last_bit(
    committed: Path, rerun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(committed, rerun)
    assert capsys.readouterr().out == "verify: the same to the last bit that git keeps\n"


@pytest.mark.parametrize(
    ("file", "edit", "told", "held"),
    [
        ("data.json", lambda c: c["digests"].update(test="b" * 64), "data: other test images", False),
        ("evaluations/cnn-1.json", lambda c: c["config"]["train"].update(lr=0.5), "cnn-1: train.lr is", False),
        (
            "histories/vit-0.csv",
            lambda t: t.loc.__setitem__((2, "val_loss"), 9.0),
            "vit-0: training differs from",
            True,
        ),
        (
            "predictions/cnn-2.parquet",
            lambda p: dataclasses.replace(p, predicted=np.where(range(360), p.predicted, (p.predicted[0] + 1) % 10)),
            "cnn-2: 1 of 360 test images change class",
            True,
        ),
        (
            "predictions/cnn-2.parquet",
            lambda p: dataclasses.replace(p, confidence=np.where(range(360), p.confidence, p.confidence[0] - 0.00123)),
            "cnn-2: 0 of 360 test images change class, probabilities differ by up to 0.00123",
            True,
        ),
        (
            "predictions/cnn-2.parquet",
            lambda p: dataclasses.replace(p, actual=p.actual[::-1]),
            "cnn-2: predictions of other test images",
            True,
        ),
        (
            "metrics.json",
            lambda c: c["models"]["cnn"]["macro_f1"].update(mean=0.895),
            "cnn: macro_f1 0.9000, 0.8950",
            True,
        ),
        (
            "metrics.json",
            lambda c: c["models"]["cnn"]["accuracy"].update(mean=0.8),
            "cnn: accuracy 0.9000, 0.8000",
            False,
        ),
    ],
)
def test_a_planted_difference_is_found(
    committed: Path,
    rerun: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    edit: Callable[[Any], Any],
    told: str,
    held: bool,
) -> None:
    change(rerun / "reports" / file, edit)
    assert not verify(committed, rerun)
    first = capsys.readouterr().out
    assert told in first
    assert "not held" in first
    assert ("images or settings are others" in first) == told.startswith(("data", "cnn-1: train"))
    assert verify(committed, rerun, tolerance=0.01) == held


def test_a_setting_that_an_earlier_version_had_not_is_what_that_version_did(committed: Path, rerun: Path) -> None:
    for name in ("cnn-0", "vit-1"):
        change(rerun / f"reports/evaluations/{name}.json", lambda c: c["config"]["train"].update(fast=True))
    assert verify(committed, rerun)
    change(rerun / "reports/evaluations/cnn-0.json", lambda c: c["config"]["train"].update(fast=False))
    assert not verify(committed, rerun, tolerance=0.5)


def test_other_weights_and_another_machine_are_named(
    committed: Path, rerun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = Path(shutil.copytree(committed, tmp_path / "ours"))
    for folder, digest, torch in ((ours, "a" * 64, "2.11.0"), (rerun, "b" * 64, "2.15.0")):
        change(
            folder / "reports/evaluations/cnn-0.json",
            lambda c, digest=digest, torch=torch: (
                c["run"].update(weights_sha256=digest),
                c["machine"].update(torch=torch),
            ),
        )
    assert not verify(ours, rerun)
    said = capsys.readouterr().out
    assert "cnn-0: other weights (SHA-256 aaaaaaaaaaaa, bbbbbbbbbbbb)" in said
    assert "(made on another machine: torch 2.11.0, 2.15.0)" in said


def leave_logits(study: Path, values: np.ndarray, kept: bool = True) -> None:
    """Logits of cnn-0, in DVC's cache or not, and their digest."""
    path = logits_path("cnn-0", study)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    digest = sha256(path)
    change(study / "reports/evaluations/cnn-0.json", lambda c: c.update(logits_sha256=digest))
    if not kept:
        path.unlink()


def test_logits_are_compared_to_the_last_bit(
    committed: Path, rerun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, logits = Path(shutil.copytree(committed, tmp_path / "ours")), np.zeros((360, 10), dtype=np.float32)
    leave_logits(ours, logits)
    assert verify(ours, rerun), "the rerun, of an earlier version, has no digest"
    leave_logits(rerun, logits)
    assert verify(ours, rerun)
    logits[7, 3] = 1e-6
    leave_logits(rerun, logits)
    assert not verify(ours, rerun)
    assert "cnn-0: 0 of 360 test images change class, probabilities differ by up to 9e-08" in capsys.readouterr().out
    leave_logits(rerun, logits, kept=False)
    assert not verify(ours, rerun)
    assert "probabilities differ by too little for the digits that git keeps" in capsys.readouterr().out
    assert verify(ours, rerun, tolerance=0.01)


def test_a_small_difference_within_the_committed_interval_is_said_to_be_so(
    committed: Path, rerun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(rerun / "reports/metrics.json", lambda c: c["models"]["vit"]["macro_f1"].update(mean=0.91))
    verify(committed, rerun)
    assert "vit: macro_f1 0.9000, 0.9100 (+0.0100, within the committed 95% interval)" in capsys.readouterr().out


def test_what_is_missing_or_damaged_is_named(committed: Path, rerun: Path) -> None:
    (rerun / "reports/evaluations/vit-1.json").unlink()
    with pytest.raises(StageError, match="rerun: has no evaluation of vit-1; run `dvc repro` there"):
        verify(committed, rerun)
    (rerun / "reports/data.json").write_text("{")
    with pytest.raises(StageError, match=r"data.json: not readable as JSON with digests; `git checkout`"):
        verify(committed, rerun)
    with pytest.raises(StageError, match=r"data.json: not found; give the folders of two studies"):
        verify(committed, rerun / "reports")


@pytest.mark.parametrize("file", ["data.json", "evaluations/vit-1.json", "metrics.json"])
@pytest.mark.parametrize("content", ["[]", "{}", "null", "{", "1"])
def test_a_file_that_is_not_as_a_stage_left_it_is_named(committed: Path, rerun: Path, file: str, content: str) -> None:
    (rerun / "reports" / file).write_text(content)
    with pytest.raises(StageError, match=rf"{file}: .+; `git checkout` brings"):
        verify(committed, rerun)


@pytest.mark.parametrize("place", ["nothing", "params.yaml"])
def test_what_is_no_folder_is_refused(committed: Path, place: str) -> None:
    with pytest.raises(StageError, match=rf"{place}: not a folder; give those of two runs of a study"):
        verify(committed, committed / place)


def test_what_params_yaml_names_no_more_is_neither_compared_nor_missed(
    committed: Path, rerun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(committed / "reports/evaluations/vit-0.json", rerun / "reports/evaluations/old-0.json")
    assert verify(committed, rerun)
    assert verify(rerun, committed)
    trees.put(committed / "reports/evaluations/old-0.json", b"{}")
    try:
        assert verify(committed, rerun)
    finally:
        (committed / "reports/evaluations/old-0.json").unlink()
    assert "old" not in capsys.readouterr().out
    fake_study.write(rerun, models=("cnn", "vit"), replicates=(0, 1))
    with pytest.raises(StageError, match=r"rerun: its params.yaml has no cnn-2, vit-2; give two runs of one study"):
        verify(committed, rerun)


def test_the_exit_status_says_whether_they_agree(committed: Path, rerun: Path) -> None:
    cli.main(["verify", str(committed), str(rerun)])
    change(rerun / "reports/metrics.json", lambda c: c["models"]["cnn"]["accuracy"].update(mean=0.8))
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", str(committed), str(rerun)])
    assert end.value.code == 1


# Reruns

STAGES = """\
stages:
  train:
    matrix:
      key: [cnn-0, cnn-1, vit-0, vit-1]
    cmd: mkdir -p models; echo ${item.key} >> ran; echo $OMP_NUM_THREADS > models/${item.key}
    outs:
      - models/${item.key}
  evaluate:
    matrix:
      key: [cnn-0, cnn-1, vit-0, vit-1]
    cmd: >-
      mkdir -p reports/evaluations; echo ${item.key}-test >> ran;
      echo '{"machine":{"threads":'$(cat models/${item.key})'},
      "cost":{"cpu_threads":'$OMP_NUM_THREADS'}}' > reports/evaluations/${item.key}.json
    deps:
      - models/${item.key}
    outs:
      - reports/evaluations/${item.key}.json:
          cache: false
  report:
    cmd: echo $OMP_NUM_THREADS > reports/report
    deps:
      - reports/evaluations
    outs:
      - reports/report:
          cache: false
"""


def threads(study: Path) -> dict[str, tuple[int, int]]:
    """Of each training, with how many threads it was trained and evaluated."""
    found = {}
    for path in (study / "reports/evaluations").glob("*.json"):
        content = json.loads(path.read_text())
        found[path.stem] = (content["machine"]["threads"], content["cost"]["cpu_threads"])
    return found


def test_a_rerun_gives_each_training_the_threads_that_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tmp_path / "checkout/studies/mine"
    study.mkdir(parents=True)
    (study / "dvc.yaml").write_text(STAGES)
    trees.study(study, {"replicates": [0, 1]}, without=["hybrid"])
    (study.parent.parent / ".gitignore").write_text(".versus\n")
    repo.call(study.parent.parent, "git", "init", "--quiet")
    repo.call(study, "dvc", "init", "--subdir", "--quiet")
    repo.commit(study.parent.parent)
    for name, value in repo.user().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StageError, match="no results are committed; `dvc repro`, then `git add`"), run_again(study):
        pass

    repo.call(study, "dvc", "repro", "train@vit-0", OMP_NUM_THREADS="3")
    repo.call(study, "dvc", "repro", "evaluate@cnn-1", OMP_NUM_THREADS="1")
    repo.call(study, "dvc", "repro", OMP_NUM_THREADS="2")
    repo.commit(study.parent.parent)
    trees.put(study / "reports/evaluations/old-0.json", b"of a model that is gone")
    trees.put(study / "reports/looks.jsonl", b"{}")
    repo.commit(study.parent.parent)
    (study / "reports/evaluations/cnn-0.json").write_text("{}")  # not committed: of no account
    (tmp_path / "config").write_text(f"[cache]\n    dir = {study / '.dvc/cache'}\n")  # which all clones share
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path))
    with run_again(study) as (committed, again):
        (committed / "reports/evaluations/old-0.json").unlink()
        assert threads(committed) == {"cnn-0": (2, 2), "cnn-1": (1, 1), "vit-0": (3, 2), "vit-1": (2, 2)}
        assert threads(again) == threads(committed)
        assert (again / "reports/report").exists()
        assert not (again / "reports/evaluations/old-0.json").exists()
        assert (again / "reports/looks.jsonl").exists(), "what was looked at before is no result"
        ran = (again / "ran").read_text().removeprefix((committed / "ran").read_text())
        done = ran.split()  # DVC settles the order of those that have as many threads
        assert [done[0], {*done[1:3]}, done[3]] == ["cnn-1", {"cnn-0", "vit-1"}, "vit-0"], "from no cache, by threads"
        assert [done[4], {*done[5:]}] == ["cnn-1-test", {"cnn-0-test", "vit-0-test", "vit-1-test"}]
        assert len(done) == 8, "each once"


def test_a_study_whose_trainings_had_as_many_threads_is_run_in_one_go(committed: Path) -> None:
    assert list(steps(committed)) == [(2, [])]


def test_teachers_are_trained_again_with_the_threads_that_they_had(tmp_path: Path) -> None:
    trees.study(tmp_path, {"replicates": [0], "teachers": {"cnn": {}}}, without=["hybrid"])
    for name, count in (("cnn-0", 2), ("vit-0", 1)):
        content = {"machine": {"threads": count}, "cost": {"cpu_threads": count}}
        trees.put(tmp_path / f"reports/evaluations/{name}.json", json.dumps(content).encode())
    found = list(steps(tmp_path))
    assert found[0] == (2, ["teacher@cnn-0"])
    assert found[1:3] == [(1, ["train@vit-0"]), (2, ["train@cnn-0"])]


def test_where_there_is_no_study_or_no_git_the_line_says_so(tmp_path: Path) -> None:
    for study, said in (
        (Path("studies/none"), "studies/none: not a folder; give a study's"),
        (tmp_path, "verify: git rev-parse in .*not a git repository"),
    ):
        with pytest.raises(StageError, match=said), run_again(study):
            pass
