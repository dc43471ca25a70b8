"""tuning: what was searched for each model, at what cost, and what difference it makes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from pipeline.base.quantities import duration, enumerated, short
from pipeline.params.settings import Dimension
from pipeline.records.tuning import TrialResult
from pipeline.report.drawing import panels, style
from pipeline.report.found import Found, Model
from pipeline.report.section import Section
from pipeline.report.table import Table
from pipeline.report.words import counted, score, setting, signed_interval
from pipeline.scoring.budgets import TuningCurve, orders, tuning_curve
from pipeline.scoring.pairs import between

EDGE = 0.05  # of a range: as near its end the best may lie beyond it


def section(found: Found) -> Section | None:
    """None where nothing was tuned."""
    tuning = found.tuning
    if not tuning.chosen:
        return None
    trials = {name: tuning.of(name) for name in found.names if name in tuning.chosen}
    curves = {name: tuning_curve([each.val_macro_f1 for each in each]) for name, each in trials.items()}
    texts = (order_sentence(curves), *verdict_sentence(found), *edge_sentences(found))
    words = {
        "texts": texts,
        "spaces": spaces(found),
        "untuned": [name for name in found.names if name not in trials],
        "budget": budget_sentence(found, trials),
        "sampler": found.settings.tune.sampler,
        "short": bool(found.settings.tune.finalists),
        "diverged": sum(each.val_macro_f1 is None for results in trials.values() for each in results),
    }
    tables = (search_table(found, trials), *twin_tables(found))
    figures = {"tuning": tuning_figure(found.colours, curves, trials)}
    return Section("Tuning", words, tables, figures, lines=texts, summary={"tuning": summary(found, trials)})


# what was searched, and what it cost


def spaces(found: Found) -> list[tuple[str, str]]:
    """Each setting that was searched, with its range and the models that it was searched for."""
    tuned = list(found.tuning.chosen)
    every = {name: found.settings.space(name) for name in tuned}
    lines = []
    for key in dict.fromkeys(key for space in every.values() for key in space):
        for text in dict.fromkeys(described(space[key]) for space in every.values() if key in space):
            models = [name for name, space in every.items() if key in space and described(space[key]) == text]
            lines.append((key, text if models == tuned else f"{text} (of {enumerated(models)} alone)"))
    return lines


def described(dimension: Dimension) -> str:
    """0.0001 to 0.01, evenly by its logarithm"""
    if dimension.choice:
        return "one of " + ", ".join(setting(each) for each in dimension.choice)
    low, high = dimension.ends
    how = {"log_uniform": ", evenly by its logarithm", "integer": ", whole numbers"}.get(dimension.kind, "")
    return f"{low:g} to {high:g}{how}"


def budget_sentence(found: Found, trials: Mapping[str, Sequence[TrialResult]]) -> str:
    """16 trials of each model, 45 epochs each"""
    counts = enumerated([str(count) for count in sorted({len(each) for each in trials.values()})])
    tune = found.settings.tune
    full = enumerated([str(each) for each in sorted({found.settings.model_train(name).epochs for name in trials})])
    text = f"{counts} trial{'s' * (counts != '1')} of each model"
    if tune.seconds is not None:
        text += f", those that fit into {duration(tune.seconds)} of training"
    if not tune.finalists:
        return f"{text}, {full} epoch{'s' * (full != '1')} each"
    best = f"{len(tune.finalists)} of the best were" if len(tune.finalists) > 1 else "one of the best was"
    return f"{text}, {counted(tune.short_epochs, 'epoch')} each, of which {best} trained for {full}"


def search_table(found: Found, trials: Mapping[str, Sequence[TrialResult]]) -> Table:
    """A line for each model that was tuned: its budget, and what was chosen."""
    header = ("Model", "Trials", "Epochs", "Training", "FLOPs", "Best validation", "Trained anew", "Chosen")
    cells, rows = [], []
    for name in trials:
        results, count = found.tuning.all_of(name), len(trials[name])
        best, model = found.tuning.best(name), next(each for each in found.models if each.name == name)
        anew = validation_scores(model)
        epochs, seconds = epochs_of(results), sum(each.seconds for each in results)
        flops = sum(each.training_flops for each in results)
        assert best.val_macro_f1 is not None
        mean = float(np.mean(anew)) if anew else math.nan
        values = (name, str(count), f"{epochs:,}", duration(seconds), short(flops))
        cells.append((*values, score(best.val_macro_f1), score(mean), setting(best.settings)))
        row = {"model": name, "trials": count, "epochs": epochs, "train_seconds": seconds, "train_flops": flops}
        chosen = {"trial": best.trial, "val_macro_f1": best.val_macro_f1, "val_macro_f1_anew": mean}
        rows.append({**row, **chosen, **{f"chosen {key}": setting(each) for key, each in best.settings.items()}})
    caption = (
        "What each model's search cost, and what it chose. FLOPs: three forward passes for each image that training"
        " saw. Best validation: macro-F1 of the chosen trial, which is too high by the choice; trained anew: the mean"
        f" of the same settings over {found.first.n} with seeds of their own, on validation images."
    )
    return Table("tuning", caption, pd.DataFrame(rows), header, tuple(cells))


def epochs_of(results: Sequence[TrialResult]) -> int:
    """Of all trials of a model, of which one at least came to its end; the one in which a trial diverged counts."""
    images = next(each.images / len(each.curve) for each in results if each.curve)  # of an epoch
    return round(sum(each.images for each in results) / images)


def validation_scores(model: Model) -> list[float]:
    """Validation macro-F1 of each of a model's replicates; none where they were trained on those images too."""
    scores = [each.selected.val_macro_f1 for each in model.evaluations]
    return [each for each in scores if each is not None] if None not in scores else []


def edge_sentences(found: Found) -> list[str]:
    """Of each chosen number that lies near the end of its range: the best may lie beyond."""
    texts = []
    for name in found.tuning.chosen:
        for key, value in found.tuning.best(name).settings.items():
            if (end := near_end(found.settings.space(name)[key], value)) is not None:
                texts.append(f"{name}'s {key}, {setting(value)}, lies at the end of its range ({end:g}): widen it")
    return texts


def near_end(dimension: Dimension, value: float) -> float | None:
    """The end of a range that a value lies near, as the range is drawn from; None where there is none."""
    if dimension.choice:
        return None
    ends = dimension.ends
    if dimension.integer:
        return value if value in ends else None
    low, high, here = np.log([*ends, value]) if dimension.log_uniform else (*ends, value)
    place = (here - low) / (high - low)
    return ends[0] if place < EDGE else ends[1] if place > 1 - EDGE else None


# score against budget


def order_sentence(curves: Mapping[str, TuningCurve]) -> str:
    """In which order the models stand after how many trials."""
    if len(curves) == 1:
        return f"{next(iter(curves))} alone was tuned"
    found = orders(curves)
    first, *later = (f"{' before '.join(order)}" for order in found.values())
    if not later:
        return f"By the expected best of k trials, the order of models is the same after any number of them: {first}"
    changes = "; ".join(f"from {k} on {order}" for k, order in zip(list(found)[1:], later, strict=True))
    return f"By the expected best of k trials, the order of models depends on the budget: after one {first}; {changes}"


@style()
def tuning_figure(
    tones: Mapping[str, str], curves: Mapping[str, TuningCurve], trials: Mapping[str, Sequence[TrialResult]]
) -> Figure:
    """Expected best validation macro-F1 of each model against trials, and against seconds of training."""
    figure = Figure(figsize=(8.2, 3.9), layout="constrained")
    left, right = panels(
        figure, ["By trials", "By training time"], 2, up="validation macro-F1, expected best", sharey=True
    )
    for name, curve in curves.items():
        budgets = np.arange(1, len(curve.best) + 1)
        seconds = budgets * np.mean([each.seconds for each in trials[name]])
        for panel, across in ((left, budgets), (right, seconds)):
            panel.fill_between(across, curve.low, curve.high, color=tones[name], alpha=0.12, linewidth=0)
            sns.lineplot(x=across, y=curve.best, color=tones[name], linewidth=2, label=name, legend=False, ax=panel)
    left.set(xlabel="trials", ylabel="validation macro-F1, expected best")
    left.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    right.set(xlabel="seconds of training", xscale="log")
    right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.xaxis.set_minor_locator(NullLocator())
    right.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: short(seconds)))
    lowest = min(float(curve.best[0]) for curve in curves.values())
    left.set_ylim(max(0.0, lowest - 0.15), 1.0)
    left.legend(loc="lower right")
    return figure


# what difference it makes


@dataclass(frozen=True)
class Twins:
    """A model that was tuned, and one of the same settings that was not."""

    tuned: Model
    untuned: Model


def twins(found: Found) -> list[Twins]:
    """The tuned models that have a twin in params.yaml, of the same settings, which is not tuned."""
    models = {model.name: model for model in found.models}
    untuned = [name for name in models if name not in found.tuning.chosen]
    same = {
        name: next((each for each in untuned if found.settings.models[each] == found.settings.models[name]), None)
        for name in found.tuning.chosen
    }
    return [Twins(models[name], models[other]) for name, other in same.items() if other]


def twin_tables(found: Found) -> list[Table]:
    """Tuned beside untuned, where there are such."""
    cells, rows = [], []
    for each in twins(found):
        tuned, untuned = each.tuned.scores["macro_f1"], each.untuned.scores["macro_f1"]
        names = (each.tuned.name, each.untuned.name)
        gain = between(found.pairs, *names).differences["macro_f1"]
        interval = signed_interval(gain.value, gain.low, gain.high)
        cells.append((*names, score(tuned.mean), score(untuned.mean), interval))
        rows.append(
            {
                "tuned": names[0],
                "untuned": names[1],
                "gain": gain.value,
                "gain_low": gain.low,
                "gain_high": gain.high,
            }
        )
    if not cells:
        return []
    header = ("Tuned", "Untuned", "Macro-F1 tuned", "Macro-F1 untuned", "Gain")
    caption = (
        "Test macro-F1 of tuned models and of the same models with the settings of params.yaml, with 95% intervals of"
        " the difference."
    )
    return [Table("tuned_untuned", caption, pd.DataFrame(rows), header, tuple(cells))]


def verdict_sentence(found: Found) -> list[str]:
    """How many verdicts on pairs tuning changed, of those that there are with and without it."""
    same = twins(found)
    changed, count = [], 0
    for index, first in enumerate(same):
        for second in same[index + 1 :]:
            after = between(found.pairs, first.tuned.name, second.tuned.name).verdict
            before = between(found.pairs, first.untuned.name, second.untuned.name).verdict
            count += 1
            if after != before:
                changed.append(
                    f"{first.tuned.name} is {after} than {second.tuned.name}, untuned {before}".replace(
                        "not distinguishable than", "not distinguishable from"
                    )
                )
    if not count:
        return []
    if not changed:
        return [f"Tuned, {'all verdicts are' if count > 1 else 'the verdict is'} the same"]
    text = f"Tuned, {len(changed)} of {count} verdict{'s' * (count > 1)} {'differs' if len(changed) == 1 else 'differ'}"
    return [f"{text}: {'; '.join(changed)} (whether a difference itself changed is not tested)"]


def summary(found: Found, trials: Mapping[str, Sequence[TrialResult]]) -> dict[str, dict[str, float]]:
    """Of each model, for metrics.json: the chosen trial, its validation score and what the search cost."""
    return {
        name: {
            "trial": found.tuning.best(name).trial,
            "val_macro_f1": float(found.tuning.best(name).val_macro_f1 or 0),
            "train_seconds": sum(each.seconds for each in results),
        }
        for name in trials
        for results in [found.tuning.all_of(name)]
    }
