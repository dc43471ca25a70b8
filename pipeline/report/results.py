"""What the other stages left in reports/, read and checked: of trainings, what params.yaml names and nothing else.

Shapes: R replicates, N test images, K classes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.base.errors import StageError
from pipeline.base.places import study
from pipeline.params.read import flatten, load_params
from pipeline.params.settings import Augment, Train
from pipeline.params.study import Params
from pipeline.records.checkup import Checkup
from pipeline.records.corruptions import PANEL, Corrupted, Panel, corrupted_path
from pipeline.records.dataset import Dataset
from pipeline.records.diary import missing
from pipeline.records.evaluation import Evaluation
from pipeline.records.explanations import Explanations
from pipeline.records.labels import LabelCheck
from pipeline.records.latency import Latency, Timing
from pipeline.records.looks import earlier, known
from pipeline.records.predictions import Predictions, predictions_path
from pipeline.records.registration import Registration
from pipeline.records.tuning import Tuning
from pipeline.report.found import Found, Model
from pipeline.report.words import setting
from pipeline.scoring import ensemble, metrics
from pipeline.trained import leftovers

REPORTS = Path("reports")
HISTORY = ("epoch", "train_loss", "train_accuracy", "val_accuracy", "val_macro_f1")  # columns that are read
BEFORE = {  # what a run of an earlier version did, which had not yet the setting
    f"{part}.{key}": field.default
    for part, model in (("train", Train), ("augment", Augment))
    for key, field in model.model_fields.items()
    if not field.is_required()
}


def read(settings: Params) -> Found:
    """All of the study in the current folder; raises StageError where something is missing or fits nothing else."""
    tuning = read_tuning(settings)
    tuned = having_chosen(settings, tuning)
    data = Dataset.read(REPORTS / "data.json")
    refuse_other_splits(settings, data)
    images = digests(data, settings.replicates)
    rounds = read_latency(list(settings.models))
    models = tuple(read_model(name, settings.replicates, data, rounds[name]) for name in settings.models)
    for model in models:
        refuse_other_images(models[0], model)
        refuse_other_settings(tuned, model.evaluations, images)
    models = with_teachers(models)
    explanations, sheet = read_explanations(list(settings.models))
    labels, labels_sheet = read_labels(models[0].images)
    weights = [each.run.weights_sha256 for model in models for each in model.evaluations]
    return Found(
        study=study(),
        settings=settings,
        data=data,
        models=models,
        checkup=Checkup.read(REPORTS / "doctor.json"),
        augmentation=read_picture(REPORTS / "augmentation.png", "preview"),
        explanations=explanations,
        labels=labels,
        labels_sheet=labels_sheet,
        sheet=sheet,
        tuning=tuning,
        earlier=earlier(known(), weights, data.dataset),
        registration=Registration.read(),
        corrupted=read_corrupted(models),
    )


def read_tuning(settings: Params) -> Tuning:
    """The trials of the study; raises StageError where they are not those of params.yaml."""
    tuning = Tuning.read(REPORTS / "tuning.json")
    wanted = {(name, number) for name in settings.models if settings.tuned(name) for number in settings.tune.trials}
    if {(each.model, each.trial) for each in tuning.trials} != wanted:
        raise StageError(f"{REPORTS / 'tuning.json'}: its trials are not those of params.yaml; run `dvc repro`")
    return tuning


def having_chosen(settings: Params, tuning: Tuning) -> Params:
    """params.yaml with the settings that the trials chose for each model that was tuned."""
    for name in tuning.chosen:
        settings = settings.having(name, tuning.best(name).settings)
    return settings


# one training, one model


@dataclass(frozen=True)
class Training:
    """What is left of one training."""

    evaluation: Evaluation
    history: pd.DataFrame
    answers: Predictions


def read_training(name: str, classes: list[str]) -> Training:
    """One training's results; raises StageError where they are not of one another, or of other classes."""
    path, other = REPORTS / "evaluations" / f"{name}.json", predictions_path(name)
    evaluation, answers = Evaluation.read(path), Predictions.read(other)
    if [each.name for each in evaluation.classes] != classes:
        raise StageError(f"{path}: its classes are not those of {REPORTS / 'data.json'}; run `dvc repro`")
    counts = metrics.confusion_matrix(answers.actual, answers.predicted, len(answers.classes))
    if answers.classes != classes or not np.array_equal(counts, evaluation.confusion):
        raise StageError(f"{path}: its confusion matrix is not that of {other}; run `dvc repro`")
    return Training(evaluation, read_csv(REPORTS / "histories" / f"{name}.csv", f"train@{name}", HISTORY), answers)


def read_model(name: str, replicates: Sequence[int], data: Dataset, rounds: tuple[Timing, ...] = ()) -> Model:
    """One model's trainings; raises StageError if one is missing or does not fit the others."""
    trainings = [read_training(f"{name}-{replicate}", data.names) for replicate in replicates]
    answers = [each.answers for each in trainings]
    folds, own = data.cross_validation is not None, data.vary == "split"
    join = np.concatenate if folds else np.stack  # each image is in one of the folds, or in every replicate
    if own:
        refuse_nameless(name, answers)
    elif not folds and any(not np.array_equal(each.actual, answers[0].actual) for each in answers):
        raise other_images(name)
    return Model(
        name,
        tuple(each.evaluation for each in trainings),
        tuple(each.history for each in trainings),
        confusions=np.array([each.evaluation.confusion for each in trainings], dtype=np.int64),
        actual=join([each.actual for each in answers]) if folds or own else answers[0].actual,
        predicted=np.atleast_2d(join([each.predicted for each in answers])),
        confidence=np.atleast_2d(join([each.confidence for each in answers])),
        probabilities=of_every_class(answers, folds),
        images=() if own else named(answers if folds else answers[:1]),
        rounds=rounds,
        together=None if folds or own else ensemble.predicted([each.of_every_class for each in answers]),
        folds=folds,
        own_images=np.array([each.images for each in answers]) if own else None,
        splits=splits_of(replicates, data),
    )


def splits_of(replicates: Sequence[int], data: Dataset) -> npt.NDArray[np.int64] | None:
    """Which split each replicate has; None where all have one."""
    if data.splits < 2:
        return None
    split = {each.replicate: each.split for each in data.replicates}
    return np.array([split[replicate] for replicate in replicates])


def of_every_class(answers: Sequence[Predictions], folds: bool) -> npt.NDArray[np.float32] | None:
    """Probabilities (R, N, K), of folds (1, N, K); None where those of the likeliest classes alone are kept."""
    if any(each.likeliest is not None for each in answers):
        return None
    every = [each.of_every_class.astype(np.float32) for each in answers]
    return np.concatenate(every)[None] if folds else np.stack(every)


def with_teachers(models: Sequence[Model]) -> tuple[Model, ...]:
    """The models, each with what the trainings of its teacher took."""
    seconds = {model.name: model.train_seconds for model in models}
    taught = {model.name: seconds[model.teacher] for model in models if model.teacher}
    return tuple(
        replace(model, teacher_seconds=float(np.sum(every) if model.taught_by_all else np.mean(every)))
        if (every := taught.get(model.name))
        else model
        for model in models
    )


def named(answers: Sequence[Predictions]) -> tuple[str, ...]:
    """The names of the test images of several predictions, one after another; none where some do not have them."""
    return tuple(name for each in answers for name in each.images or ()) if all(each.images for each in answers) else ()


# what does not belong together


def refuse_other_images(first: Model, model: Model) -> None:
    ours, theirs = (each.own_images if each.own_images is not None else np.array([]) for each in (first, model))
    if not np.array_equal(model.actual, first.actual) or not np.array_equal(ours, theirs):
        raise other_images(f"{first.name} and {model.name}")


def refuse_nameless(name: str, answers: Sequence[Predictions]) -> None:
    """Refuse test images of each replicate's own that have no names to know them by, or are not as many in each."""
    if any(each.images is None for each in answers):
        raise StageError(f"reports/predictions: those of {name} do not name their images; run `dvc repro -f evaluate`")
    if len({len(each.actual) for each in answers}) > 1:
        raise other_images(name)


def other_images(names: str) -> StageError:
    return StageError(f"reports/predictions: those of {names} are not all of the same test images; run `dvc repro`")


def refuse_other_splits(settings: Params, data: Dataset) -> None:
    if data.vary != settings.split.vary:
        raise StageError(
            f"{REPORTS / 'data.json'}: made with split.vary {data.vary}, and params.yaml has {settings.split.vary}; run"
            " `dvc repro` in the study's folder"
        )


def digests(data: Dataset, replicates: Sequence[int]) -> dict[int, str]:
    """Of the training and validation images of each replicate; none of folds of earlier versions.

    Raises StageError where params.yaml has replicates that the data lack.
    """
    own = {each.replicate: each.digests.fit for each in data.replicates}
    if not own:
        return {} if data.cross_validation else dict.fromkeys(replicates, data.digests.fit)
    if lacking := sorted(set(replicates) - own.keys()):
        raise StageError(f"{REPORTS / 'data.json'}: no images of replicate {lacking[0]}; run `dvc repro`")
    return own


def refuse_other_settings(
    settings: Params, evaluations: Sequence[Evaluation], digests: Mapping[int, str] | None = None
) -> None:
    """Raise StageError if one model was trained by other settings than params.yaml has now, or on other images.

    `digests` are those of the training and validation images, by replicate.
    """
    name = evaluations[0].model
    now = decided_by(
        {
            "train": settings.model_train(name).model_dump(mode="json"),
            "augment": settings.model_augment(name).model_dump(mode="json"),
            "model": settings.network(name) | {"train_fraction": settings.models[name].train_fraction},
            "dataset": {"image_size": settings.dataset.image_size},
        }
    )
    for evaluation in evaluations:
        if digests:
            now["dataset.digest"] = digests[evaluation.replicate]
        then = BEFORE | decided_by(evaluation.config)
        for key in (key for key in now if key in then and then[key] != now[key]):
            has = f"with {key} {setting(then[key])}, and params.yaml has {setting(now[key])}"
            if key == "dataset.digest":
                has = f"from other images than those of {REPORTS / 'data.json'}"
            path = REPORTS / f"evaluations/{name}-{evaluation.replicate}.json"
            raise StageError(f"{path}: made {has}; run `dvc repro` in the study's folder")


def decided_by(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as dotted keys; a network's arguments are one value, and so is what its weights start from: whether."""
    network = json.loads(json.dumps(config["model"]))
    network["pretrained"] = bool(network.get("pretrained"))
    network["args"] = json.dumps(network.get("args", {}), sort_keys=True)
    return flatten({**config, "model": network})


# of all models at once


def read_latency(models: Sequence[str]) -> dict[str, tuple[Timing, ...]]:
    """What latency measured of each model, an entry per round: none where it has not run, in reports older than it."""
    path = REPORTS / "latency.json"
    if not path.exists():
        return dict.fromkeys(models, ())
    found = Latency.read(path)
    if found.models.keys() != set(models):
        raise other_models(path, "latency")
    return {model: found.rounds(model) for model in models}


def read_explanations(models: Sequence[str]) -> tuple[Explanations | None, bytes]:
    """What explain left, and its picture; None where it has not run, in reports older than it."""
    path = REPORTS / "explanations.json"
    if not path.exists():
        return None, b""
    found = Explanations.read(path)
    if [each.model for each in found.models] != list(models):
        raise other_models(path, "explain")
    return found, read_picture(path.with_suffix(".jpg"), "explain")


def read_labels(tested: Sequence[str]) -> tuple[LabelCheck | None, bytes]:
    """What speaks against labels, and its picture; None where labels has not run, in reports older than it.

    Raises StageError where annotators were asked about images that are not among those `tested`, if any are named.
    """
    path = REPORTS / "labels.json"
    if not path.exists():
        return None, b""
    found = LabelCheck.read(path)
    if tested and not {each.image for each in found.reviews.images} <= set(tested):
        raise StageError(f"{path}: of other test images than were tested on; run `dvc repro` in the study's folder")
    return found, read_picture(path.with_suffix(".jpg"), "labels")


def read_corrupted(models: Sequence[Model]) -> dict[str, tuple[Corrupted, ...]]:
    """What models make of corrupted test images; nothing where params.yaml does not ask, or reports are older.

    Raises StageError where that is of other weights, images or variants than were asked for.
    """
    if not PANEL.exists() or not (panel := Panel.read()).replicates:
        return {}
    return {model.name: tuple(read_variants(model, panel, each) for each in panel.replicates) for model in models}


def read_variants(model: Model, panel: Panel, replicate: int) -> Corrupted:
    path = corrupted_path(f"{model.name}-{replicate}")
    found = Corrupted.read(path)
    scored = next((each for each in model.evaluations if each.replicate == replicate), None)
    severities = {each.severity for each in found.variants}
    if scored is None or (found.seed, severities) != (panel.seed, set(panel.severities)):
        raise StageError(f"{path}: of other variants than params.yaml asks for; run `dvc repro` in the study's folder")
    if scored.run.weights_sha256 not in ("", found.weights_sha256) or scored.images != found.images:
        raise StageError(
            f"{path}: of other weights or images than were evaluated; run `dvc repro` in the study's folder"
        )
    return found


def other_models(path: Path, stage: str) -> StageError:
    return StageError(f"{path}: of other models than params.yaml has; run `dvc repro -f {stage}` in the study's folder")


def read_picture(path: Path, stage: str) -> bytes:
    if not path.exists():
        raise missing(path, stage)
    return path.read_bytes()


def read_csv(path: Path, stage: str, columns: Sequence[str]) -> pd.DataFrame:
    try:
        return pd.read_csv(path, usecols=list(columns))
    except FileNotFoundError:
        raise missing(path, stage) from None
    except ValueError:
        raise StageError(
            f"{path}: not readable as a table with columns {', '.join(columns)};"
            f" run `dvc repro -f {stage}` in the study's folder"
        ) from None


# tables of all trainings, for notebooks


def scores(study: Path) -> pd.DataFrame:
    """A row for each training that a study's params.yaml names: scores, parameters, seconds."""
    return pd.DataFrame(
        [
            {
                "model": model,
                "replicate": replicate,
                "validation macro-F1": each.selected.val_macro_f1,
                **each.scores,
                "parameters": each.cost.parameters,
                "training (s)": each.cost.train_seconds,
            }
            for model, replicate, path in of_trainings(study, "evaluations", "json")
            for each in [Evaluation.read(path)]
        ]
    )


def histories(study: Path) -> pd.DataFrame:
    """A row for each epoch of each training that a study's params.yaml names."""
    return pd.concat(
        [
            read_csv(path, f"train@{path.stem}", HISTORY).assign(model=model, replicate=replicate)
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
