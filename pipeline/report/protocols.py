"""Studies beside one another: what each found, read from its committed reports, and whether all were done alike.

Alike are studies that score their models over the same kind of replicates (seeds, splits, folds by image or by person),
and in which a model of one name has the same network and was trained, augmented, tuned and tested by the same settings.
What belongs to a data set (`dataset` and `split` in params.yaml, the number of replicates) may differ, and so may what
says how fast a machine trains, what nothing reads as the other settings are, and values that trials of the same space
chose.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import StageError
from pipeline.params.inert import inert
from pipeline.params.read import load_params
from pipeline.params.settings import OF_THE_MACHINE
from pipeline.params.study import Params
from pipeline.records.dataset import Digests, Folds
from pipeline.records.diary import read_record
from pipeline.records.evaluation import Evaluation
from pipeline.report.results import BEFORE, decided_by
from pipeline.report.words import setting

RERUN = "run `dvc repro` in the study's folder"
SHOWN = 5  # differences that a refusal names


@dataclass(frozen=True)
class Score:
    """One score of a model, as metrics.json has it."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Headlines:
    """What is read of a study's metrics.json: of each model its scores by name, beside other numbers."""

    study: str
    models: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class TestedOn:
    """What is read of a study's data.json; the same of every version."""

    dataset: str
    title: str
    variant: str
    digests: Digests
    cross_validation: Folds | None = None
    vary: str = "none"


@dataclass(frozen=True)
class Source:
    """What is read of a study's source.json: what the images are, before their size and split are chosen."""

    sha256: str


@dataclass(frozen=True)
class StudyResults:
    """A study that has run."""

    folder: Path
    settings: Params
    data: TestedOn
    headlines: Headlines
    source: Source | None = None  # where an earlier version ran

    @property
    def name(self) -> str:
        return self.headlines.study

    @property
    def images(self) -> set[str]:
        """What tells the data set from others: its name, or of a folder of images their source and those tested on."""
        if self.data.dataset != "folder":
            return {self.data.dataset}
        return {self.data.digests.test, *([self.source.sha256] if self.source else [])}

    @property
    def models(self) -> list[str]:
        return list(self.headlines.models)

    @property
    def title(self) -> str:
        """The data set; a variant says so."""
        return f"{self.data.title} ({self.data.variant})" if self.data.variant else self.data.title

    @property
    def repeats(self) -> str:
        """What the replicates of the study differ in."""
        if folds := self.data.cross_validation:
            return f"{folds.folds} folds by {folds.by}"
        return {"none": "seeds", "validation": "seeds and validation images", "split": "seeds and splits"}[
            self.data.vary
        ]

    def score(self, model: str, metric: str) -> Score:
        """A model's mean score; raises StageError where metrics.json lacks it."""
        try:
            found = self.headlines.models[model][metric]
            return Score(found["mean"], found.get("low"), found.get("high"), found["n"])
        except (KeyError, TypeError):
            path = self.folder / "reports/metrics.json"
            raise StageError(f"{path}: no {metric} of {model}; {RERUN}") from None

    def protocol(self, model: str) -> dict[str, str]:
        """What has to be the same of a model in all studies, by dotted key, in words."""
        first = f"{model}-{self.settings.replicates[0]}"
        config = Evaluation.read(self.folder / f"reports/evaluations/{first}.json").config
        found = BEFORE | decided_by({part: config[part] for part in ("model", "augment", "train")})
        space = self.settings.space(model) if self.settings.tuned(model) else {}
        for part in ("model", "augment", "train"):
            for key in inert(part, config[part]):
                found = {name: each for name, each in found.items() if not f"{name}.".startswith(f"{part}.{key}.")}
        free = {*(f"train.{key}" for key in OF_THE_MACHINE), *map(_decided_as, space)}
        given = {key.removeprefix("args.") for key in space if key.startswith("args.")}
        if isinstance(arguments := found.get("model.args"), dict):
            found["model.args"] = {key: value for key, value in arguments.items() if key not in given}
        searched = {"replicates": self.repeats, "tuned": "no"}
        if space:
            search = self.settings.tune.model_dump(include={"finalists", "short_epochs", "seconds", "sampler"})
            dimensions = {key: each.model_dump(exclude_none=True) for key, each in space.items()}
            content = {"trials": len(self.settings.tune.trials), **search, "space": dimensions}
            searched = {"replicates": self.repeats, **{f"tune.{key}": setting(each) for key, each in content.items()}}
        return searched | {key: setting(value) for key, value in found.items() if key not in free}


def _decided_as(key: str) -> str:
    """The dotted key of a setting that trials search: one of the model itself has none before it."""
    return key if key.startswith(("train.", "augment.")) else f"model.{key}"


def read(folder: Path) -> StudyResults | None:
    """What a study's folder holds of results; None where it has not run, or is no study."""
    metrics, source = folder / "reports/metrics.json", folder / "reports/source.json"
    if not metrics.exists() or not (folder / "params.yaml").exists():
        return None
    return StudyResults(
        folder=folder,
        settings=load_params(folder / "params.yaml"),
        data=read_record(TestedOn, folder / "reports/data.json", RERUN),
        headlines=read_record(Headlines, metrics, RERUN),
        source=read_record(Source, source, RERUN) if source.exists() else None,
    )


def shared_models(studies: Sequence[StudyResults], wanted: Sequence[str] = ()) -> list[str]:
    """The models that all studies have, of those `wanted` if any are; raises StageError for fewer than two."""
    found = [name for name in studies[0].models if all(name in each.models for each in studies)]
    if lacking := sorted(set(wanted) - set(found)):
        without = next(each.name for each in studies if lacking[0] not in each.models)
        raise StageError(f"summary: --models: {lacking[0]} is no model of {without}")
    found = [name for name in found if not wanted or name in wanted]
    if len(found) < 2:
        raise StageError(
            f"summary: {', '.join(each.name for each in studies)} have {len(found) or 'no'} model{'s' * (not found)} in"
            " common; models are compared by name, so name studies that share two or more"
        )
    return found


def refuse_mixture(studies: Sequence[StudyResults], models: Sequence[str]) -> None:
    """Raise StageError where studies were not done alike, or where two are of one data set, which would count twice."""
    seen: dict[str, StudyResults] = {}
    for each in studies:
        for images in sorted(each.images):
            if (other := seen.setdefault(images, each)) is not each:
                raise StageError(
                    f"summary: {other.name} and {each.name} are of one data set, {each.data.title}, which counts once,"
                    " whatever its images' size and split; name one of them"
                )
    if found := differences(studies, models):
        more = f"\n  and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise StageError(
            "summary: these studies were not done alike, so that one table of them would mix protocols:\n  "
            + "\n  ".join(found[:SHOWN])
            + f"{more}\nname studies of one protocol, or models with --models that were treated alike"
        )


def differences(studies: Sequence[StudyResults], models: Sequence[str]) -> list[str]:
    """Where a model was treated otherwise than in the first study, a line each."""
    lines = []
    first, *others = studies
    for other in others:
        for model in models:
            ours, theirs = first.protocol(model), other.protocol(model)
            lines += [
                f"{model}: {key} is {ours.get(key, 'not set')} in {first.name}, {theirs.get(key, 'not set')} in"
                f" {other.name}"
                for key in dict.fromkeys([*ours, *theirs])
                if ours.get(key) != theirs.get(key)
            ]
    return list(dict.fromkeys(lines))
