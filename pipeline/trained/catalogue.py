"""The trained models of the study in the current folder: which there are, how good they are, which one is meant.

What is chosen, is chosen by validation scores: test scores are shown and decide nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import StageError
from pipeline.base.places import study
from pipeline.params.read import load_params
from pipeline.params.study import Params
from pipeline.trained import leftovers

if TYPE_CHECKING:
    from torch import nn

MODELS, EVALUATIONS = Path("models"), Path("reports/evaluations")
REMEDY = "run `dvc repro` to train, or `dvc checkout` (`dvc pull` from a remote) for what was trained before"


@dataclass(frozen=True)
class Trained:
    model: str
    replicate: int
    val_macro_f1: float | None  # None where the validation images were trained on too
    test: dict[str, float] | None  # evaluate's scores; None where it has not seen these weights
    here: bool  # the weights lie in models/; false where git alone brought the scores

    @property
    def name(self) -> str:
        return f"{self.model}-{self.replicate}"

    @property
    def folder(self) -> Path:
        return MODELS / self.name

    @property
    def rank(self) -> float:
        """What is chosen by, the highest first: one without a validation score comes after all that have one."""
        return -1.0 if self.val_macro_f1 is None else self.val_macro_f1

    @property
    def validation(self) -> str:
        """The validation score in words."""
        return "-" if self.val_macro_f1 is None else f"{self.val_macro_f1:.4f}"


def found(settings: Params) -> list[Trained]:
    """All that was trained of what params.yaml names, in its order."""
    entries = [_entry(name) for name in leftovers.trainings(settings)]
    return [entry for entry in entries if entry is not None]


def _entry(name: str) -> Trained | None:
    folder = MODELS / name
    diary, evaluation = _account(folder / "run.json"), _account(EVALUATIONS / f"{name}.json")
    if diary and evaluation and evaluation.training != diary.training:
        evaluation = None  # of weights that were trained before these
    if not (known := diary or evaluation):
        return None
    here = bool(diary) and all((folder / file).is_file() for file in ("config.json", "weights.safetensors"))
    model, _, replicate = name.rpartition("-")
    return Trained(model, int(replicate), known.val_macro_f1, evaluation.scores if evaluation else None, here)


@dataclass(frozen=True)
class _Account:
    """What train or evaluate says of a training."""

    training: tuple[str, str]  # commit and start
    val_macro_f1: float | None
    scores: dict[str, float] | None  # on the test images, which evaluate alone has seen


def _account(path: Path) -> _Account | None:
    """The account in train's run.json or in evaluate's file; None where there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        run = content.get("run", content)
        return _Account((run["commit"], run["started"]), content["selected"]["val_macro_f1"], content.get("scores"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise StageError(f"{path}: damaged; {REMEDY}") from None


def choose(asked: str = "") -> tuple[Trained, str]:
    """The model that `asked` means, and why it, in words.

    `cnn-2` is that replicate; `cnn` is the one of its replicates with the highest validation macro-F1; empty is the one
    of all models. Of equals it is the first, and so where none has a validation score.
    """
    settings = load_params()
    names = leftovers.trainings(settings)
    if asked and asked not in names and asked not in settings.models:
        replicates = ", ".join(map(str, settings.replicates))
        raise StageError(
            f"no model {asked!r} in params.yaml; choose from {', '.join(settings.models)},"
            f" or one of its replicates ({replicates}) as in {names[0]}"
        )
    every = [entry for entry in found(settings) if not asked or asked in (entry.model, entry.name)]
    candidates = [entry for entry in every if entry.here]
    if not candidates:
        what = f"{asked} is not trained" if asked else "no trained model in models/"
        raise StageError(f"{what}; {REMEDY}")
    best = highest(candidates)
    better = [entry for entry in every if entry.rank > best.rank]
    if best.val_macro_f1 is None:
        why = f"{best.name} of {study()}, trained on the validation images too: no validation score"
    else:
        why = f"{best.name} of {study()}, validation macro-F1 {best.validation}"
        if (scored := sum(each.val_macro_f1 is not None for each in candidates)) > 1:
            why += f", the highest of {scored} " + (f"replicates of {asked}" if asked else "trained models")
            why += " whose weights are here" * bool(better)
    if better:
        wanted = highest(better)
        why += f"\n{wanted.name} has {wanted.validation}, but its weights are not here: {fetching(wanted)}"
    return best, why


def highest(entries: Sequence[Trained]) -> Trained:
    """The one with the highest validation macro-F1, of equals the first."""
    return max(entries, key=lambda entry: entry.rank)


def fetching(entry: Trained) -> str:
    """How to get the weights of what was trained before."""
    return f"`dvc checkout {entry.folder}` (`dvc pull {entry.folder}` from a remote), or `dvc repro train@{entry.name}`"


def load(entry: Trained) -> "tuple[nn.Module, dict[str, Any]]":
    """The network with its configuration."""
    from pipeline.inference import loading  # late: `versus models` does without torch

    return loading.load(entry.folder)
