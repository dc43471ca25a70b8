"""Where a run comes from: commit, data, experiment, and what that changes."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.base import escape
from pipeline.base.git import commit
from pipeline.base.places import study
from pipeline.params.read import flatten


def experiment_name() -> str:
    """Of the DVC experiment that runs the stage; empty in `dvc repro`."""
    return os.environ.get("DVC_EXP_NAME", "")


def changes() -> dict[str, str]:
    """What an experiment changes in params.yaml: dotted key -> "old -> new"; empty in `dvc repro` and outside git."""
    from ruamel.yaml import YAML, YAMLError

    baseline = os.environ.get("DVC_EXP_BASELINE_REV", "")
    if not experiment_name() or not baseline:
        return {}
    try:
        before = subprocess.run(
            ["git", "show", f"{baseline}:./params.yaml"], capture_output=True, encoding="utf-8", check=True
        ).stdout
        old, new = (flatten(YAML(typ="safe").load(text)) for text in (before, Path("params.yaml").read_text("utf-8")))
    except (OSError, subprocess.CalledProcessError, YAMLError):
        return {}
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return {key: f"{old.get(key, 'none')} -> {new.get(key, 'none')}" for key in keys}


def change_note() -> str:
    """A paragraph on the DVC experiment; empty outside one."""
    if not experiment_name():
        return ""
    lines = [f"\n- {escape.code(key)}: {escape.markdown(values)}" for key, values in changes().items()]
    return f"\n\nDVC experiment {escape.code(experiment_name())} changes:{''.join(lines) or ' nothing in params.yaml'}"


def described(config: Mapping[str, Any]) -> str:
    """resnet18 (timm), seed 0, on Digits"""
    network = config["network"]
    what = network.get("backbone") or "layers of params.yaml"
    return escape.markdown(f"{what} ({network['family']}), seed {config['replicate']}, on {config['data']['title']}")


def rerun_command() -> str:
    """What a user would type to run this stage again."""
    return f"dvc repro {os.environ['DVC_STAGE']}" if "DVC_STAGE" in os.environ else Path(sys.argv[0]).name


def provenance() -> dict[str, str]:
    """Code and DVC experiment behind a run, as tags."""
    sha, _, dirty = commit().partition("-")
    tags = {
        "mlflow.source.git.commit": sha,
        "versus.commit": sha,
        "versus.dirty": str(bool(dirty)).lower(),
        "versus.study": study(),
        "dvc.experiment": experiment_name(),
        "dvc.changes": "; ".join(f"{key}: {values}" for key, values in changes().items())[:5000],
        "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "dvc.stage": os.environ.get("DVC_STAGE", ""),
    }
    return {key: value for key, value in tags.items() if value}
