"""The commits that trainings are of, in words, and what of a training no commit has: changed code, other settings."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from pipeline.base.errors import StageError
from pipeline.base.git import git
from pipeline.base.quantities import enumerated
from pipeline.params.faults import parse
from pipeline.params.settings import PLACES
from pipeline.params.study import Params
from pipeline.records.evaluation import Evaluation
from pipeline.records.looks import asked, settings_digest
from pipeline.report.found import Found, each_once

PARAMS = "params.yaml"
DECIDING = ("dataset", "split", "replicates", "augment", "train", "models", "tune", "teachers")  # parts of PARAMS
OTHERS = {"published": [], "evaluate": {"onnx": False}, "corruptions": {"replicates": []}}  # decide no training
NEWER: dict[str, Any] = {  # what earlier params.yaml need not have, as it was for them
    "dataset": {"resize": "crop", "imbalance": 1.0, "train_fraction": 1.0, "normalise": "imagenet"},
    "split": {},
    "tune": {"trials": [], "models": {}, "finalists": []},
}
UNKNOWN, ELSEWHERE = "not known", " (not in this clone)"


def named(evaluations: Iterable[Evaluation], found: Found, digits: int = 40) -> str:
    """2c250eb41cc6 with changes that are not committed: code and params.yaml; each once."""
    return each_once(_named(each, found, digits) for each in evaluations)


def _named(evaluation: Evaluation, found: Found, digits: int) -> str:
    sha, _, dirty = evaluation.run.commit.partition("-")
    if not sha:
        return UNKNOWN
    here = is_here(sha, Path.cwd())
    changed = ["code"] * bool(dirty) + [PARAMS] * (here and not has_settings(sha, evaluation, found))
    uncommitted = f" with changes that are not committed: {enumerated(changed)}" * bool(changed)
    return sha[:digits] + ELSEWHERE * (not here) + uncommitted


@functools.lru_cache
def is_here(sha: str, study: Path) -> bool:
    """Whether this clone has a commit."""
    try:
        git("report", study, "cat-file", "-e", f"{sha}^{{commit}}")
    except StageError:
        return False
    return True


def has_settings(sha: str, evaluation: Evaluation, found: Found) -> bool:
    """Whether a commit has the settings that a training rests on: its model's, and how its images were prepared.

    Other models and replicates of params.yaml are none of its. An evaluation does not say how images were prepared and
    split; that is as params.yaml has it now.
    """
    then, name = settings_of(sha, Path.cwd()), evaluation.model
    if then is None or name not in then.models or evaluation.replicate not in then.replicates:
        return False
    if images(then) != images(found.settings):
        return False
    if then.tuned(name) and name in found.tuning.chosen:
        then = then.having(name, found.tuning.best(name).settings)
    return asked(then, name, weights(evaluation)) == settings_digest(evaluation.config)


@functools.lru_cache
def settings_of(sha: str, study: Path) -> Params | None:
    """What decides trainings in a commit's params.yaml; None where it has none, or none that can be read.

    What decides none is left out; what params.yaml need not have had when the commit was made is as it was then.
    """
    try:
        content = YAML(typ="safe", pure=True).load(git("report", study, "show", f"{sha}:./{PARAMS}"))
        kept = {key: content[key] for key in DECIDING if key in content}
        return parse({**NEWER, **OTHERS, **kept, "dataset": {**NEWER["dataset"], **kept["dataset"]}})
    except (StageError, YAMLError, KeyError, TypeError):
        return None


def images(settings: Params) -> tuple[object, object]:
    """How images are prepared and split, wherever they lie."""
    return settings.dataset.model_dump(exclude=PLACES), settings.split


def weights(evaluation: Evaluation) -> str:
    """The first digits of the SHA-256 of the file that a training started from: pretrained is `name (digits)` then."""
    return str(evaluation.config["model"].get("pretrained")).rpartition("(")[2].rstrip(")")
