"""A study's experiments, as DVC has them: the last commit, what each experiment changes of it, and how it scored."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.base.errors import StageError
from pipeline.scoring.ablation import Experiment, Settings

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
        raise StageError(f"ablation: `dvc exp show --json` failed ({reason}); run it in a study's folder") from None


def read(shown: Sequence[Mapping[str, Any]]) -> tuple[Experiment, list[Experiment], int]:
    """The last commit (`changed` has its own values of what is varied), its experiments that have results, and how
    many have none.

    Raises StageError if the commit has no results to compare with.
    """
    commit = next((entry for entry in shown if entry["rev"] != "workspace"), None)
    start = _result(commit) if commit else None
    if commit is None or start is None:
        raise StageError(f"ablation: the last commit has no {METRICS}; run `dvc repro` and commit what it leaves")
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
        found.append(Experiment(name, {key: result[0].get(key) for key in keys}, result[1]))
    found.sort(key=lambda each: each.name)
    varied = {key: settings.get(key) for each in found for key in each.changed}
    return Experiment("", varied, models), found, failed


def _result(entry: Mapping[str, Any]) -> tuple[Settings, Mapping[str, Any]] | None:
    """Flat settings and metrics.json's models; None where there are none."""
    data = entry.get("data") or {}
    try:
        return _flat(data["params"][PARAMS]["data"]), data["metrics"][METRICS]["data"]["models"]
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
