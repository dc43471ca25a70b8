"""The commits that trainings are of, in words, and what of a training no commit has: changed code, other settings."""

import functools
from collections.abc import Iterable
from pathlib import Path

from ruamel.yaml import YAML, YAMLError

from pipeline.base.errors import StageError
from pipeline.base.git import git
from pipeline.base.quantities import enumerated
from pipeline.report.found import each_once

PARAMS = "params.yaml"
DECIDING = ("dataset", "split", "replicates", "augment", "train", "models", "tune", "teachers")  # parts of PARAMS
UNKNOWN = "not known"


def named(commits: Iterable[str], digits: int = 40) -> str:
    """2c250eb41cc6 with changes that are not committed: code and params.yaml; each once."""
    return each_once(_named(each, digits) for each in commits)


def _named(commit: str, digits: int) -> str:
    sha, _, dirty = commit.partition("-")
    if not sha:
        return UNKNOWN
    changed = ["code"] * bool(dirty) + [PARAMS] * (not has_settings(sha, Path.cwd()))
    return sha[:digits] + f" with changes that are not committed: {enumerated(changed)}" * bool(changed)


@functools.lru_cache
def has_settings(sha: str, study: Path) -> bool:
    """Whether a commit has the study's settings as they are; so it is said of a commit that is not in this clone."""
    try:
        git("report", study, "cat-file", "-e", f"{sha}^{{commit}}")
    except StageError:
        return True
    try:
        then = git("report", study, "show", f"{sha}:./{PARAMS}")
        return _deciding(then) == _deciding((study / PARAMS).read_text(encoding="utf-8"))
    except (StageError, YAMLError):
        return False


def _deciding(text: str) -> dict[str, object]:
    content = YAML(typ="safe").load(text)
    return {key: content.get(key) for key in DECIDING} if isinstance(content, dict) else {}
