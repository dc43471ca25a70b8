"""A study's experiments, as DVC has them: the last commit, what each experiment changes of it, and how it scored."""

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import StageError
from pipeline.records.evaluation import Evaluation
from pipeline.records.predictions import Predictions
from pipeline.report.results import BEFORE
from pipeline.scoring.ablation import Experiment, Settings
from pipeline.scoring.tried import Replicate

METRICS, PARAMS = "reports/metrics.json", "params.yaml"


def show() -> list[dict[str, Any]]:
    """What `dvc exp show --json` says of the study in this folder."""
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["no output"]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])[:300]
        raise StageError(f"experiments: `dvc exp show --json` failed ({reason}); run it in a study's folder") from None


def read(shown: Sequence[Mapping[str, Any]]) -> tuple[Experiment, list[Experiment], int]:
    """The last commit (`changed` has its own values of what is varied), its experiments that have results, and how
    many have none. Experiments of other studies in the checkout are left out: they leave this one as it is.

    Raises StageError if the commit has no results to compare with, or DVC cannot read it.
    """
    commit = next((entry for entry in shown if entry["rev"] != "workspace"), None)
    if commit and (error := commit.get("error")):
        raise StageError(
            f"experiments: DVC cannot read this study in the last commit ({error.get('msg', error)}); where dvc.yaml is"
            " a link there, `rm dvc.yaml && cp ../../dvc.yaml .` and commit the file"
        )
    start = _result(commit) if commit else None
    if commit is None or start is None:
        raise StageError(f"experiments: the last commit has no {METRICS}; run `dvc repro` and commit what it leaves")
    settings, models = start
    found, failed = [], 0
    for each in commit.get("experiments") or ():
        last = each["revs"][0] if each.get("revs") else each
        result = _result(last)
        if result is None:
            failed += 1
            continue
        keys = sorted(key for key in settings.keys() | result[0].keys() if settings.get(key) != result[0].get(key))
        name = each.get("name") or last.get("name") or last["rev"][:7]
        changed = {key: result[0].get(key) for key in keys}
        if not changed and result[1] == models:
            continue
        found.append(Experiment(name, changed, result[1], result[0], last["rev"]))
    found.sort(key=lambda each: each.name)
    varied = {key: settings.get(key) for each in found for key in each.changed}
    return Experiment("", varied, models, settings, commit["rev"]), found, failed


def replicates(revision: str) -> dict[str, dict[int, Replicate]]:
    """What git has at a revision of each model's trainings; a part that it does not have is None."""
    found: dict[str, dict[int, Replicate]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _extract(revision, "reports/evaluations", folder)
        _extract(revision, "reports/predictions", folder)
        for path in sorted(folder.glob("reports/evaluations/*.json")):
            model, _, number = path.stem.rpartition("-")
            answers = folder / f"reports/predictions/{path.stem}.parquet"
            found.setdefault(model, {})[int(number)] = Replicate(
                Evaluation.read(path).selected.val_macro_f1, Predictions.read(answers) if answers.exists() else None
            )
    return found


def _extract(revision: str, path: str, folder: Path) -> None:
    """Write what git has of the study at a revision into another folder; nothing where it has none."""
    done = subprocess.run(["git", "archive", revision, path], capture_output=True, check=False)
    if done.returncode == 0:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")


def _result(entry: Mapping[str, Any]) -> tuple[Settings, Mapping[str, Any]] | None:
    """Flat settings and metrics.json's models; None where there are none."""
    data = entry.get("data") or {}
    try:
        return BEFORE | _flat(data["params"][PARAMS]["data"]), data["metrics"][METRICS]["data"]["models"]
    except (KeyError, TypeError):
        return None


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"lr": 1}} -> {"train.lr": 1}; `published` changes no result."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        elif prefix + key != "published":
            flat[prefix + key] = value
    return flat
