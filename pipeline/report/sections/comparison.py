"""comparison: the models side by side, with what each costs; the study's numbers for metrics.json and MLflow."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipeline.base.quantities import duration, enumerated, quantity, size
from pipeline.report.found import Found, Model
from pipeline.report.section import Section
from pipeline.report.table import Table, text
from pipeline.report.words import DASH, SCORE_TITLES, score, score_interval
from pipeline.scoring.intervals import Interval, over_replicates
from pipeline.scoring.metrics import SCORES

ENDS = (("", "mean"), ("_low", "low"), ("_high", "high"))  # what is behind a score's name, and what it is
COSTS = ("n", "parameters", "flops", "weight_bytes", "train_seconds")


def section(found: Found) -> Section:
    table = comparison_table(found.models, caption(found))
    words = {
        "sorted_by": dict(zip(table.header[1:], (*SCORES, *COSTS), strict=False)),  # of a column, whose numbers
        "numbers": table.frame.to_dict("records"),
        "highest": highest(found.models) if len(found.models) > 1 else {},
    }
    return Section(
        "Comparison",
        words,
        tables=(table,),
        lines=(terminal(found.models),),
        summary={"models": {model.name: headline(model) for model in found.models}},
        metrics={
            f"{model.name}/{name}{suffix}": getattr(interval, end)
            for model in found.models
            for name, interval in model.scores.items()
            for suffix, end in ENDS
        },
    )


def comparison_table(models: Sequence[Model], caption: str) -> Table:
    """All models' scores as means with 95% intervals, and what each model costs."""
    overridden = any(model.overrides for model in models)
    header = ("Model", *(SCORE_TITLES[name] for name in SCORES), "n", "Parameters", "FLOPs", "Weights", "Training")
    header += ("Initialisation", *(["Own settings"] * overridden))
    frame = pd.DataFrame(numbers(model) for model in models)
    return Table("comparison", caption, frame, header, tuple(cells(model, overridden) for model in models))


def numbers(model: Model) -> dict[str, Any]:
    """One model's row."""
    cost, overall = model.first.cost, model.scores[SCORES[0]]
    scores = {name + suffix: getattr(model.scores[name], end) for name in SCORES for suffix, end in ENDS}
    return {
        "model": model.name,
        **scores,
        "n": overall.n,
        "interval_over": overall.basis,
        "parameters": cost.parameters,
        "flops": cost.flops,  # of one image's forward pass, a multiplication and an addition counted apart
        "weight_bytes": cost.weight_bytes,
        "train_seconds": model.mean_train_seconds,
        "initialisation": model.first.initialisation,
        "overrides": model.overrides,
    }


def cells(model: Model, overridden: bool) -> tuple[str, ...]:
    cost = model.first.cost
    return (
        model.name,
        *(score_interval(model.scores[name]) for name in SCORES),
        str(model.replicates),
        quantity(cost.parameters),
        quantity(cost.flops),
        size(cost.weight_bytes),
        duration(model.mean_train_seconds),
        model.first.initialisation,
        *([model.overrides or DASH] * overridden),
    )


def caption(found: Found) -> str:
    scores = "mean scores" if found.replicates > 1 else "scores"
    return f"{found.tested}: {scores} with {found.basis}. Trained on {found.places}.{of_teachers(found.models)}"


def of_teachers(models: Sequence[Model]) -> str:
    """Whose training time has that of a teacher in it; empty where there are none."""
    taught = [f"{model.name} that of {model.teacher}" for model in models if model.teacher]
    return f" Training time includes that of teachers: of {enumerated(taught)}." if taught else ""


def highest(models: Sequence[Model]) -> dict[str, str]:
    """The model with the highest score, by the score's title."""
    return {
        SCORE_TITLES[name]: max(models, key=lambda model, name=name: model.scores[name].mean).name  # type: ignore[misc]
        for name in SCORES
    }


def terminal(models: Sequence[Model]) -> str:
    """The comparison for a terminal: intervals of the two scores that lead, means of the others."""
    header = ("", "accuracy", "macro-F1", "weighted F1", "balanced acc.", "n", "parameters", "FLOPs", "training")
    rows = [
        (
            model.name,
            *(score_interval(model.scores[name]) for name in SCORES[:2]),
            *(score(model.scores[name].mean) for name in SCORES[2:]),
            str(model.replicates),
            quantity(model.first.cost.parameters),
            quantity(model.first.cost.flops),
            duration(model.mean_train_seconds),
        )
        for model in models
    ]
    return text(header, rows) + f"\n[95% interval over {models[0].scores['accuracy'].basis}]"


# metrics.json


def headline(model: Model) -> dict[str, Any]:
    """One model's entry in metrics.json, in the order of columns of `dvc exp show`: first what is to be chosen by."""
    further = {name: each for name, each in model.measures.items() if name not in model.scores}
    cost = model.first.cost
    return {
        **selected(model),
        **{name: entry(each) for name, each in {**model.scores, **further}.items()},
        "parameters": cost.parameters,
        "flops": cost.flops,
        "weight_bytes": cost.weight_bytes,
        "train_seconds": model.mean_train_seconds,
        "images": model.tested,
    }


def selected(model: Model) -> dict[str, dict[str, float]]:
    """Validation macro-F1 of the epochs that were evaluated: what settings are to be chosen by, not the test scores.

    With an interval over replicates where there are several; it is too high by what the choice of the epoch gives.
    Nothing for a model that was trained on the validation images too.
    """
    every = [evaluation.selected.val_macro_f1 for evaluation in model.evaluations]
    known = [each for each in every if each is not None]
    if len(known) < len(every):
        return {}
    return {"val_macro_f1": {"mean": known[0], "n": 1} if len(known) == 1 else entry(over_replicates(known))}


def entry(interval: Interval) -> dict[str, float]:
    """An interval as metrics.json has it."""
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}
