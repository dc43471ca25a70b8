"""A line in the record of looks (records/looks.py) for what scores test images."""

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.base.errors import StageError
from pipeline.base.git import commit, git
from pipeline.base.places import study
from pipeline.params.settings import Weights
from pipeline.records import looks, registration
from pipeline.records.corruptions import Corrupted
from pipeline.records.evaluation import Evaluation
from pipeline.records.looks import Look, settings_digest, short
from pipeline.tracking.provenance import experiment_name


def note(evaluation: Evaluation, images: str) -> None:
    """Record that the test images with this SHA-256 were scored; after every epoch, too, where inflation is known."""
    found = look(evaluation, images, now(), commit(), experiment_name(), registered())
    looks.note(both(found, evaluation))


def both(found: Look, evaluation: Evaluation) -> list[Look]:
    """An evaluation's look, and that after every epoch where it knows inflation."""
    return [found, *([dataclasses.replace(found, kind="epochs")] if evaluation.inflation else [])]


def note_corrupted(found: Corrupted, settings: Mapping[str, Any], images: str) -> None:
    """Record that a training of these settings was scored on test images with this SHA-256, corrupted."""
    looks.note(
        [
            Look(
                when=now(),
                images=short(images),
                weights=short(found.weights_sha256),
                settings=settings_digest(settings),
                trained_on=short(str(settings["dataset"].get("digest", ""))),
                study=study(),
                model=found.model,
                replicate=found.replicate,
                commit=commit(),
                experiment=experiment_name(),
                kind="corruptions",
            )
        ]
    )


def note_probed(model: str, network: str, images: str) -> None:
    """Record that a network's features before training were scored; it and the test images by their SHA-256."""
    known = short(network)
    looks.note([Look(now(), short(images), known, known, "", study(), model, 0, commit(), kind="probe")])


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def note_others(models: Mapping[str, Weights], data_sets: Iterable[str]) -> None:
    """Record that trained models were scored on the test images of other data sets, as `versus cross` does.

    A folder of one's own images is not told from another by the name of its kind, and leaves no line.
    """
    when, sha = now(), commit()
    looks.note(
        [
            Look(
                when=when,
                images=looks.of_data_set(data_set),
                weights=short(weights.sha256),
                settings=short(weights.sha256),
                trained_on="",
                study=study(),
                model=name,
                replicate=0,
                commit=sha,
            )
            for name, weights in models.items()
            for data_set in data_sets
            if data_set != "folder"
        ]
    )


def look(
    evaluation: Evaluation, images: str, when: str, sha: str = "", experiment: str = "", registration: str = ""
) -> Look:
    """What an evaluation says of itself, and what it does not know."""
    return Look(
        when=when,
        images=short(images),
        weights=short(evaluation.run.weights_sha256),
        settings=settings_digest(evaluation.config),
        trained_on=short(str(evaluation.config["dataset"].get("digest", ""))),
        study=study(),
        model=evaluation.model,
        replicate=evaluation.replicate,
        commit=sha,
        experiment=experiment,
        registered=registration,
    )


def registered() -> str:
    """The digest of the registration that the study has in its last commit; empty where it has none."""
    if not registration.FILE.exists():
        return ""
    try:
        return registration.digest(git("evaluate", Path.cwd(), "show", f"HEAD:./{registration.FILE}"))
    except StageError:
        return ""
