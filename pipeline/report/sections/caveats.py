"""caveats: what the results do not say."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.report import words
from pipeline.report.captions import overrides, places
from pipeline.report.results import Model
from pipeline.report.words import enumerated
from pipeline.scoring import intervals


def first_alone(model: Model) -> str:
    """The accuracy of the first of several views, where evaluations have it."""
    found = [each["one_view"]["accuracy"] for each in model.evaluations if each.get("one_view")]
    return f"; of the first alone its accuracy is {words.score(float(np.mean(found)))}" if found else ""


def unvalidated(models: Sequence[Model]) -> list[str]:
    """The models that were trained on the validation images too."""
    return [model.name for model in models if not model.validated]


def caveats(data: Mapping[str, Any], models: Sequence[Model]) -> list[str]:
    """What a reader should know before believing the numbers."""
    images = len(models[0].actual)
    n = len(models[0].evaluations)
    notes = []
    if models[0].folds:
        by = data["cross_validation"]["by"]
        notes.append(
            f"Every interval of a score is a Student t interval over {models[0].n}: models that share most of their"
            " training images, so it is too narrow if anything. Differences between models and calibration are taken"
            f" over the {images:,} images, each predicted once, by the model that did not train on it."
        )
        notes.append(
            "Folds are drawn by subject: nobody is in training and test."
            if by == "subject"
            else "Folds are drawn by image: where a data set shows a person more than once, test images show people"
            " that were trained on, and scores say little of strangers."
        )
    elif n > 1:
        notes.append(
            f"Every interval of a score is a Student t interval over n = {n} replicates. It covers the luck of"
            f" initialisation, order and augmentation; it does not cover another draw of the {images:,} test images or"
            " another split."
            + " Intervals of differences and verdicts cover both seeds and test images, not another split."
            * (len(models) > 1)
        )
    else:
        notes.append(
            f"Each model was trained once. Every interval of a score is a percentile bootstrap over the {images:,} test"
            f" images ({intervals.RESAMPLES:,} resamples): it covers another draw of test images and nothing of another"
            " seed."
        )
    if including := unvalidated(models):
        names = "all models" if len(including) == len(models) else enumerated(including)
        notes.append(
            f"Trained on the validation images too: {names}. There are no validation scores of them and no"
            " temperatures; what their settings were chosen by, the study has to say."
        )
    if several := [model for model in models if model.views > 1]:
        notes.append(
            "Scored as the mean of several views of each image: "
            + enumerated([f"{model.name} ({model.views} views{first_alone(model)})" for model in several])
            + ". What was timed goes over all views; FLOPs and the classes compared with ONNX Runtime's are of one."
        )
    if data["variant"]:
        notes.append(f"The images are not the official data set but a variant of it: {data['variant']}.")
    if data.get("caveats"):
        notes.append(data["caveats"])
    starts: dict[str, list[str]] = {}
    for model in models:
        starts.setdefault(model.evaluations[0]["initialisation"], []).append(model.name)
    if len(starts) == 1:
        notes.append(f"Initialisation of all models: {next(iter(starts))}.")
    else:
        each = "; ".join(f"{', '.join(names)}: {start}" for start, names in starts.items())
        notes.append(f"The models do not start alike ({each}): part of their difference may be due to that.")
    notes.append(
        f"Trained on {places(models)}. Training times are wall-clock times of one machine with whatever else it was"
        " doing; they compare only within one device."
    )
    if any(overrides(model) for model in models):
        notes.append("Not every model was trained under the shared protocol: own settings are named in the tables.")
    notes.append(
        "A dash marks what is undefined, such as the precision of a class that was never predicted; averages"
        " leave it out, where scikit-learn counts 0."
    )
    return notes
