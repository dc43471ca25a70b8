"""What the other stages left in reports/, read and checked, and what every caption says of it.

Of trainings, what params.yaml names is read, and nothing else that may lie there.

Shapes: R replicates, N test images, K classes.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.base.errors import StageError
from pipeline.params.read import flatten, load_params
from pipeline.params.settings import Augment, Train
from pipeline.params.study import Params
from pipeline.records.predictions import Predictions, predictions_path
from pipeline.report.words import setting
from pipeline.scoring import metrics
from pipeline.scoring.intervals import Interval, intervals
from pipeline.trained import leftovers

REPORTS = Path("reports")
BEFORE = {  # what a run of an earlier version did, which had not yet the setting
    f"{part}.{key}": field.default
    for part, model in (("train", Train), ("augment", Augment))
    for key, field in model.model_fields.items()
    if not field.is_required()
}
OF_SPLIT = (  # keys of what each stage leaves, without which there is no report
    *("dataset", "title", "variant", "licence", "homepage", "published"),
    *("expressions", "caveats", "minority", "digests", "classes"),
)
OF_DOCTOR = ("duplicate_groups", "leaked_test_rows", "conflicting_labels", "near_pairs", "blank_images")
OF_EVALUATION = (
    "classes",
    "scores",
    "images",
    "confusion",
    "selected",
    "cost",
    "machine",
    "run",
    "config",
    "overrides",
)
OF_EXPLAIN = ("models", "images", "disagreements", "shareable", "sheet", "disagree", "mistakes", "right")
SPLITS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Model:
    """What the stages left of one model: one entry per replicate."""

    name: str
    evaluations: tuple[dict[str, Any], ...]
    histories: tuple[pd.DataFrame, ...]
    confusions: npt.NDArray[np.int64]  # (R, K, K)
    actual: npt.NDArray[np.int64]  # (N,)
    predicted: npt.NDArray[np.int64]  # (R, N)
    confidence: npt.NDArray[np.float64]  # (R, N), the probability of the predicted class
    scores: Mapping[str, Interval]
    rounds: tuple[dict[str, Any], ...] = ()  # what latency measured, an entry per round; none where it has not run
    folds: bool = False  # whether each replicate is a fold: `actual` then holds all folds' images, each predicted once

    @property
    def n(self) -> str:
        """n = 5 folds"""
        count = len(self.evaluations)
        return f"n = {count} {'fold' if self.folds else 'replicate'}{'s' * (count > 1)}"

    @property
    def runs(self) -> int:
        """How many times each test image was predicted."""
        return len(self.predicted)

    @functools.cached_property
    def measures(self) -> dict[str, Interval]:
        """Accuracy, top-5 accuracy where there are more classes than five, macro precision, recall and F1."""
        found = intervals(self.confusions, measure=metrics.headline_arrays)
        hits = [evaluation["scores"].get("top5_accuracy") for evaluation in self.evaluations]
        if None in hits:
            return found
        right = np.rint(np.array(hits) * len(self.actual)).astype(np.int64)  # (R,)
        counts = np.zeros((len(right), 2, 2), dtype=np.int64)
        counts[:, 0, 0], counts[:, 0, 1] = right, len(self.actual) - right
        top = intervals(counts, measure=lambda matrices: {"top5": metrics.score_arrays(matrices)["accuracy"]})
        return {"accuracy": found.pop("accuracy"), "top5_accuracy": top["top5"], **found}

    @property
    def costs(self) -> list[dict[str, float]]:
        return [evaluation["cost"] for evaluation in self.evaluations]

    @property
    def train_seconds(self) -> list[float]:
        return [cost["train_seconds"] for cost in self.costs]

    @functools.cached_property
    def timings(self) -> Sequence[Mapping[str, Any]]:
        """Milliseconds on the CPU: latency's rounds, or what evaluations measured before there was such a stage."""
        return self.rounds or [
            {"processor": each.get("timed_on", each["machine"]["processor"]), **each["cost"]}
            for each in self.evaluations
        ]

    @property
    def timed_over(self) -> str:
        """n = 5 rounds, in which the models took turns"""
        return f"n = {len(self.rounds)} rounds, in which the models took turns" if self.rounds else self.n

    @property
    def cpu_seconds(self) -> list[float]:
        """Of a forward pass over all test images, one for each timing; empty where it was not measured."""
        if not all("cpu_ms_per_image" in each for each in self.timings):
            return []
        return [each["cpu_ms_per_image"] / 1000 * len(self.actual) for each in self.timings]

    @property
    def views(self) -> int:
        """How many views of an image are scored together."""
        return self.evaluations[0]["config"]["augment"].get("test_crops", 1)

    @property
    def validated(self) -> bool:
        """Whether it was trained without the validation images."""
        return not self.evaluations[0]["config"]["train"].get("include_validation")


def read_json(path: Path, stage: str, *keys: str) -> dict[str, Any]:
    """What a stage left; raises StageError where the file is missing, damaged, or without some of the `keys`."""
    remedy = f"run `dvc repro -f {stage}` in the study's folder"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path, stage) from None
    except (OSError, ValueError):
        raise StageError(f"{path}: not readable as JSON; {remedy}") from None
    if not isinstance(found, dict) or (lacking := [key for key in keys if key not in found]):
        what = f"no {lacking[0]!r} in it" if isinstance(found, dict) else f"a {type(found).__name__}"
        raise StageError(f"{path}: not as {stage} leaves it, or of an earlier version ({what}); {remedy}")
    return found


def read_csv(path: Path, stage: str, columns: Sequence[str]) -> pd.DataFrame:
    try:
        return pd.read_csv(path, usecols=list(columns))
    except FileNotFoundError:
        raise missing(path, stage) from None
    except ValueError:
        raise StageError(
            f"{path}: not readable as a table with columns {', '.join(columns[:8])}"
            f"{', ...' * (len(columns) > 8)};"
            f" run `dvc repro -f {stage}` in the study's folder"
        ) from None


def read_model(
    name: str, replicates: Sequence[int], data: Mapping[str, Any], rounds: tuple[dict[str, Any], ...] = ()
) -> Model:
    """One model's evaluations and histories; raises StageError if one is missing or does not fit the others."""
    classes = [each["class"] for each in data["classes"]]
    evaluations, histories = [], []
    tables_of_images: list[tuple[npt.NDArray[Any], ...]] = []
    for replicate in replicates:
        run_name = f"{name}-{replicate}"
        path = REPORTS / "evaluations" / f"{run_name}.json"
        evaluation = read_json(path, f"evaluate@{run_name}", *OF_EVALUATION)
        predictions = Predictions.read(predictions_path(run_name))
        columns = ("epoch", "train_loss", "train_accuracy", "val_accuracy", "val_macro_f1")
        histories.append(read_csv(REPORTS / "histories" / f"{run_name}.csv", f"train@{run_name}", columns))
        if [each["class"] for each in evaluation["classes"]] != classes:
            raise StageError(f"{path}: its classes are not those of {REPORTS / 'data.json'}; run `dvc repro`")
        actual, predicted = predictions.actual, predictions.predicted
        counts = metrics.confusion_matrix(actual, predicted, len(predictions.classes))
        if predictions.classes != classes or not np.array_equal(counts, evaluation["confusion"]["counts"]):
            raise StageError(
                f"{path}: its confusion matrix is not that of {predictions_path(run_name)};"
                f" run `dvc repro -f evaluate@{run_name}`"
            )
        evaluations.append(evaluation)
        tables_of_images.append((actual, predicted, predictions.confidence))
    confusions = np.array([evaluation["confusion"]["counts"] for evaluation in evaluations], dtype=np.int64)
    folds = "cross_validation" in data
    if folds:  # each image is in one of them
        tables_of_images = [tuple(np.concatenate(parts) for parts in zip(*tables_of_images, strict=True))]
    if any(not np.array_equal(actual, tables_of_images[0][0]) for actual, _, _ in tables_of_images):
        raise other_images(name)
    return Model(
        name,
        tuple(evaluations),
        tuple(histories),
        confusions,
        tables_of_images[0][0],
        np.array([predicted for _, predicted, _ in tables_of_images]),
        np.array([confidence for _, _, confidence in tables_of_images]),
        intervals(confusions),
        rounds,
        folds,
    )


def refuse_other_settings(
    settings: Params, name: str, evaluations: Sequence[Mapping[str, Any]], data: Mapping[str, Any]
) -> None:
    """Raise StageError if a model was trained by other settings or images than params.yaml and split have now."""
    now = decided_by(
        {
            "train": settings.model_train(name).model_dump(mode="json"),
            "augment": settings.model_augment(name).model_dump(mode="json"),
            "model": settings.network(name) | {"train_fraction": settings.models[name].train_fraction},
            "dataset": {"image_size": settings.dataset.image_size},
        }
    )
    if "cross_validation" not in data:
        now["dataset.digest"] = data["digests"]["fit"]
    for evaluation in evaluations:
        then = BEFORE | decided_by(evaluation["config"])
        for key in (key for key in now if key in then and then[key] != now[key]):
            has = f"with {key} {setting(then[key])}, and params.yaml has {setting(now[key])}"
            if key == "dataset.digest":
                has = f"from other images than those of {REPORTS / 'data.json'}"
            path = REPORTS / f"evaluations/{name}-{evaluation['replicate']}.json"
            raise StageError(f"{path}: made {has}; run `dvc repro` in the study's folder")


def decided_by(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as dotted keys; a network's arguments are one value, and so is what its weights start from: whether."""
    network = json.loads(json.dumps(config["model"]))
    network["pretrained"] = bool(network.get("pretrained"))
    network["args"] = json.dumps(network.get("args", {}), sort_keys=True)
    return flatten({**config, "model": network})


def read_latency(models: Sequence[str]) -> dict[str, tuple[dict[str, Any], ...]]:
    """What latency measured, by model an entry per round: none where it has not run, in reports older than it."""
    path = REPORTS / "latency.json"
    if not path.exists():
        return dict.fromkeys(models, ())
    found = read_json(path, "latency", "models", "processor", "threads", "batch")
    if found["models"].keys() != set(models):
        raise StageError(
            f"{path}: of other models than params.yaml has; run `dvc repro -f latency` in the study's folder"
        )
    common = {"processor": found["processor"], "cpu_threads": found["threads"], "cpu_batch": found["batch"]}
    rounds = {}
    for name, times in found["models"].items():
        fixed = {key: value for key, value in times.items() if not isinstance(value, list)}
        each = {key: value for key, value in times.items() if isinstance(value, list)}
        rounds[name] = tuple(
            {**common, **fixed, **dict(zip(each, values, strict=True))} for values in zip(*each.values(), strict=True)
        )
    return rounds


def read_explanations(models: Sequence[str]) -> dict[str, Any] | None:
    """What explain left, its picture's bytes below "picture"; None where it has not run (reports older than it)."""
    path = REPORTS / "explanations.json"
    if not path.exists():
        return None
    facts = read_json(path, "explain", *OF_EXPLAIN)
    if [each["model"] for each in facts["models"]] != list(models):
        raise StageError(
            f"{path}: of other models than params.yaml has; run `dvc repro -f explain` in the study's folder"
        )
    picture = path.with_suffix(".jpg")
    if not picture.exists():
        raise missing(picture, "explain")
    return {**facts, "picture": picture.read_bytes()}


def other_images(name: str) -> StageError:
    return StageError(f"reports/predictions: those of {name} are not all of the same test images; run `dvc repro`")


def missing(path: Path, stage: str) -> StageError:
    return StageError(f"{path}: not found; run `dvc repro {stage}` in the study's folder")


# tables of all trainings, for notebooks


def scores(study: Path) -> pd.DataFrame:
    """A row for each training that a study's params.yaml names: scores, parameters, seconds."""
    return pd.DataFrame(
        [
            {
                "model": model,
                "replicate": replicate,
                "validation macro-F1": each["selected"]["val_macro_f1"],
                **each["scores"],
                "parameters": each["cost"]["parameters"],
                "training (s)": each["cost"]["train_seconds"],
            }
            for model, replicate, path in of_trainings(study, "evaluations", "json")
            for each in [read_json(path, f"evaluate@{path.stem}", *OF_EVALUATION)]
        ]
    )


def histories(study: Path) -> pd.DataFrame:
    """A row for each epoch of each training that a study's params.yaml names."""
    columns = ("epoch", "train_loss", "train_accuracy", "val_accuracy", "val_macro_f1")
    return pd.concat(
        [
            read_csv(path, f"train@{path.stem}", columns).assign(model=model, replicate=replicate)
            for model, replicate, path in of_trainings(study, "histories", "csv")
        ],
        ignore_index=True,
    )


def predictions(study: Path) -> pd.DataFrame:
    """A row for each test image and each training that a study's params.yaml names.

    Its file's name, its class, the one predicted, how sure of it the network was, and whether it was right.
    """
    return pd.concat(
        [
            found.frame().assign(right=found.right, model=model, replicate=replicate)
            for model, replicate, path in of_trainings(study, "predictions", "parquet")
            for found in [Predictions.read(path)]
        ],
        ignore_index=True,
    )


def of_trainings(study: Path, folder: str, suffix: str) -> Iterator[tuple[str, int, Path]]:
    """Model, replicate and file in a folder of reports/ of each training that a study's params.yaml names."""
    for name in leftovers.trainings(load_params(study / "params.yaml")):
        model, _, replicate = name.rpartition("-")
        yield model, int(replicate), study / REPORTS / folder / f"{name}.{suffix}"
