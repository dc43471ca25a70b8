"""The trained models of the study in the current folder: which there are, how good they are, which one is meant.

What is chosen, is chosen by validation scores: test scores are shown and decide nothing.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import params
from pipeline.stage import StageError, study

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


def found(settings: params.Params) -> list[Trained]:
    """All that was trained of what params.yaml names, in its order."""
    entries = [_entry(model, replicate) for model in settings.models for replicate in settings.replicates]
    return [entry for entry in entries if entry is not None]


def _entry(model: str, replicate: int) -> Trained | None:
    folder = MODELS / f"{model}-{replicate}"
    diary, evaluation = _content(folder / "run.json"), _content(EVALUATIONS / f"{model}-{replicate}.json")
    if diary and evaluation and any(evaluation["run"][key] != diary[key] for key in ("commit", "started")):
        evaluation = {}  # of weights that were trained before these
    if not (known := diary or evaluation):
        return None
    here = bool(diary) and all((folder / file).is_file() for file in ("config.json", "weights.safetensors"))
    return Trained(model, replicate, known["selected"]["val_macro_f1"], evaluation.get("scores"), here)


def _content(path: Path) -> dict[str, Any]:
    """A JSON file's content; empty where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise StageError(f"{path}: damaged; {REMEDY}") from None


def choose(asked: str = "") -> tuple[Trained, str]:
    """The model that `asked` means, and why it, in words.

    `cnn-2` is that replicate; `cnn` is the one of its replicates with the highest validation macro-F1; empty is the one
    of all models. Of equals it is the first, and so where none has a validation score.
    """
    settings = params.load()
    names = [f"{name}-{number}" for name in settings.models for number in settings.replicates]
    if asked and asked not in names and asked not in settings.models:
        replicates = ", ".join(map(str, settings.replicates))
        raise StageError(
            f"no model {asked!r} in params.yaml; choose from {', '.join(settings.models)},"
            f" or one of its replicates ({replicates}) as in {names[0]}"
        )
    candidates = [
        entry for entry in found(settings) if entry.here and (not asked or asked in (entry.model, entry.name))
    ]
    if not candidates:
        what = f"{asked} is not trained" if asked else "no trained model in models/"
        raise StageError(f"{what}; {REMEDY}")
    best = max(candidates, key=lambda entry: entry.rank)
    if best.val_macro_f1 is None:
        return best, f"{best.name} of {study()}, trained on the validation images too: no validation score"
    why = f"{best.name} of {study()}, validation macro-F1 {best.validation}"
    if (scored := sum(each.val_macro_f1 is not None for each in candidates)) > 1:
        why += f", the highest of {scored} " + (f"replicates of {asked}" if asked else "trained models")
    return best, why


def load(entry: Trained) -> "tuple[nn.Module, dict[str, Any]]":
    """The network with its configuration."""
    from pipeline import inference  # late: `versus models` does without torch

    return inference.load(entry.folder)


def show(as_json: bool = False) -> None:
    """Print every trained model with its validation and test scores; `*` marks what is chosen by default."""
    entries = found(params.load())
    if not entries:
        raise StageError(f"no trained model in models/; {REMEDY}")
    chosen = max((entry for entry in entries if entry.here), key=lambda entry: entry.rank, default=None)
    if as_json:
        rows = [
            {
                "model": entry.name,
                "val_macro_f1": entry.val_macro_f1,
                "test": entry.test,
                "weights": str(entry.folder) if entry.here else None,
                "default": entry is chosen,
            }
            for entry in entries
        ]
        print(json.dumps({"study": study(), "models": rows}, indent=2, ensure_ascii=False))
        return
    from tabulate import tabulate

    shown = ("accuracy", "macro_f1")
    print(
        tabulate(
            [
                [
                    f"{entry.name} *" if entry is chosen else entry.name,
                    entry.validation,
                    *(f"{entry.test[key]:.4f}" if entry.test else "-" for key in shown),
                    entry.folder if entry.here else "-",
                ]
                for entry in entries
            ],
            headers=["model", "validation macro-F1", "test accuracy", "test macro-F1", "weights"],
            colalign=("left", "right", "right", "right", "left"),
            disable_numparse=True,
        )
    )
    if chosen is not None:
        why = "no validation score, and the first" if chosen.val_macro_f1 is None else "the highest validation macro-F1"
        print(f"\n* {why}: what `versus predict` takes by default ({study()})")
    if not all(entry.here for entry in entries):
        print(f"\nWeights that are not here: {REMEDY}.")
