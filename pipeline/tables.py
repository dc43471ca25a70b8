"""The report's tables: data frames, and one table as CSV (full precision), Markdown and LaTeX (for reading).

A frame holds numbers, one row a line; `Table.cells` are the same lines as text. What is undefined is empty in the CSV
and a dash in the text, never 0.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_numeric_dtype

from pipeline import escape
from pipeline.metrics import SCORES, averages, per_class, score_arrays
from pipeline.stage import shown
from pipeline.stats import Interval

DASH = "–"
SCORE_TITLES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "weighted_f1": "Weighted F1",
    "balanced_accuracy": "Balanced accuracy",
}


MEASURE_TITLES = {
    "accuracy": "Accuracy",
    "top5_accuracy": "Top-5 accuracy",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "macro_f1": "Macro-F1",
}


@dataclass(frozen=True)
class Table:
    """`frame` has the numbers, `header` and `cells` the text; the first column names the line, the others are values.

    `rules` are the lines before which a horizontal rule is drawn.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    rules: tuple[int, ...] = ()


@dataclass(frozen=True)
class Line:
    """One model's line of the comparison; sizes and seconds are means over replicates."""

    model: str
    scores: Mapping[str, Interval]
    parameters: int
    flops: float  # of one image's forward pass, a multiplication and an addition counted apart
    weight_bytes: int
    train_seconds: float
    initialisation: str
    overrides: str = ""  # protocol settings of this model's own, as text


def comparison(lines: Sequence[Line], caption: str) -> Table:
    """All models' scores as means with 95% intervals, and what each model costs."""
    rows = [
        {"model": line.model}
        | {
            name + suffix: getattr(line.scores[name], field)
            for name in SCORES
            for suffix, field in (("", "mean"), ("_low", "low"), ("_high", "high"))
        }
        | {
            "n": line.scores[SCORES[0]].n,
            "interval_over": line.scores[SCORES[0]].basis,
            "parameters": line.parameters,
            "flops": line.flops,
            "weight_bytes": line.weight_bytes,
            "train_seconds": line.train_seconds,
            "initialisation": line.initialisation,
            "overrides": line.overrides,
        }
        for line in lines
    ]
    overridden = any(line.overrides for line in lines)
    cells = [
        (
            line.model,
            *(score_interval(line.scores[name]) for name in SCORES),
            str(line.scores[SCORES[0]].n),
            quantity(line.parameters),
            quantity(line.flops),
            size(line.weight_bytes),
            duration(line.train_seconds),
            line.initialisation,
            *([line.overrides or DASH] * overridden),
        )
        for line in lines
    ]
    header = ("Model", *(SCORE_TITLES[name] for name in SCORES), "n", "Parameters", "FLOPs", "Weights", "Training")
    header += ("Initialisation", *(["Own settings"] * overridden))
    return Table("comparison", caption, pd.DataFrame(rows), header, tuple(cells))


def metrics(models: Mapping[str, Mapping[str, Interval]], caption: str) -> Table:
    """Each model's accuracy, top-5 accuracy where all have it, macro precision, macro recall and macro-F1."""
    names = [name for name in MEASURE_TITLES if all(name in values for values in models.values())]
    cells = [
        (model, *(score_interval(values[name]) for name in names), str(values["accuracy"].n))
        for model, values in models.items()
    ]
    header = ("Model", *(MEASURE_TITLES[name] for name in names), "n")
    return Table("metrics", caption, _numbers(models, names), header, tuple(cells))


def classification(name: str, confusions: npt.ArrayLike, classes: Sequence[str], caption: str) -> Table:
    """One model's classification report over its replicates' confusion matrices (R, K, K).

    Precision, recall, F1 and support of each class, then accuracy, macro and weighted averages: means over replicates,
    with their standard deviation where R > 1. A value undefined in some replicates is the mean of the others and says
    of how many.
    """
    counts = np.asarray(confusions)  # (R, K, K)
    each, means, overall = per_class(counts), averages(counts), score_arrays(counts)
    images = counts.sum((1, 2))  # (R,)
    measures = ("precision", "recall", "f1")
    undefined = np.full(len(counts), np.nan)
    lines = [
        (label, [each[measure][:, index] for measure in measures], each["support"][:, index])
        for index, label in enumerate(classes)
    ]
    lines.append(("accuracy", [undefined, undefined, overall["accuracy"]], images))
    lines += [(f"{kind} avg", [means[kind][measure] for measure in measures], images) for kind in ("macro", "weighted")]
    rows, cells = [], []
    for label, values, support in lines:  # values: three arrays (R,)
        row: dict[str, Any] = {"class": label}
        for measure, value in zip(measures, values, strict=True):
            row |= _summary(measure, value)
        rows.append(row | {"support": round(float(support.mean()))})
        texts = [spread(value) for value in values]
        cells.append((label, *texts, f"{support.mean():,.0f}"))
    header = ("Class", "Precision", "Recall", "F1", "Support")
    return Table(name, caption, pd.DataFrame(rows), header, tuple(cells), rules=(len(classes),))


def calibration(lines: Mapping[str, Mapping[str, Interval]], caption: str) -> Table:
    """Each model's calibration error, overconfidence and accuracies over coverage, by these names in `lines`."""
    titles = {
        "calibration_error": "ECE",
        "overconfidence": "Confidence − accuracy",
        "accuracy": "Accuracy",
        "selective_accuracy": "Accuracy at 80% coverage",
        "calibration_error_scaled": "ECE, scaled",
        "log_loss": "Log loss",
        "log_loss_scaled": "Log loss, scaled",
        "temperature": "Temperature",
    }
    titles = {name: title for name, title in titles.items() if all(name in values for values in lines.values())}
    return _bare_table("calibration", titles, lines, caption)


def inflation(lines: Mapping[str, Mapping[str, Interval]], caption: str) -> Table:
    """Each model's score as validation chose its epoch, as the test images had chosen it, and the gap."""
    titles = {"accuracy": "Accuracy", "accuracy_on_test": "chosen on test", "accuracy_gap": "Inflation"}
    titles |= {"macro_f1": "Macro-F1", "macro_f1_on_test": "chosen on test", "macro_f1_gap": "Inflation"}
    return _bare_table("inflation", titles, lines, caption)


LATENCY_TITLES = {
    "cpu_ms_alone": "PyTorch, one alone",
    "cpu_ms_per_image": "PyTorch, in batches",
    "onnx_ms_alone": "ONNX Runtime, one alone",
    "onnx_ms_per_image": "ONNX Runtime, in batches",
}


def latency(timings: Mapping[str, Sequence[Mapping[str, float]]], caption: str) -> Table:
    """Each model's milliseconds of a forward pass for an image, from its rounds of measuring.

    Means with their standard deviation; empty where a round has none, and no column that all models leave empty.
    """
    times = {
        model: {
            name: np.array([each[name] for each in rounds])
            for name in LATENCY_TITLES
            if all(name in each for each in rounds)
        }
        for model, rounds in timings.items()
    }
    names = [name for name in LATENCY_TITLES if any(name in each for each in times.values())]
    nothing = np.empty(0)
    rows = [
        {"model": model}
        | {key: value for name in names for key, value in _summary(name, each.get(name, nothing)).items()}
        | {"n": len(timings[model])}
        for model, each in times.items()
    ]
    cells = [
        (model, *(milliseconds(each.get(name, nothing)) for name in names), str(len(timings[model])))
        for model, each in times.items()
    ]
    header = ("Model", *(LATENCY_TITLES[name] for name in names), "n")
    return Table("latency", caption, pd.DataFrame(rows), header, tuple(cells))


def _bare_table(
    name: str, titles: Mapping[str, str], lines: Mapping[str, Mapping[str, Interval]], caption: str
) -> Table:
    """A line for each model and a column for each of `titles`, with intervals where there are any."""
    cells = [
        (model, *(_bare(values[key]) for key in titles), str(values["accuracy"].n)) for model, values in lines.items()
    ]
    return Table(name, caption, _numbers(lines, titles), ("Model", *titles.values(), "n"), tuple(cells))


def _numbers(lines: Mapping[str, Mapping[str, Interval]], names: Iterable[str]) -> pd.DataFrame:
    """A row for each model: of each name the mean, `_low` and `_high`, and n at the end."""
    fields = (("", "mean"), ("_low", "low"), ("_high", "high"))
    return pd.DataFrame(
        {"model": model}
        | {name + suffix: getattr(values[name], field) for name in names for suffix, field in fields}
        | {"n": values["accuracy"].n}
        for model, values in lines.items()
    )


def _bare(interval: Interval) -> str:
    """With its interval where it has one."""
    text = score(interval.mean).replace("-", "−") if math.isnan(interval.low) else score_interval(interval)
    return text.replace("-", "−")


def _summary(measure: str, values: npt.NDArray[np.float64]) -> dict[str, float]:
    """Mean, and with several replicates standard deviation and number, of the values (R,) that are defined."""
    defined = values[~np.isnan(values)]
    row = {measure: float(defined.mean()) if len(defined) else math.nan}
    if len(values) > 1:
        row[f"{measure}_sd"] = float(defined.std(ddof=1)) if len(defined) > 1 else math.nan
        row[f"{measure}_n"] = len(defined)
    return row


# text for reading


def score(value: float) -> str:
    """0.93125 -> 0.9313; a dash where undefined."""
    return DASH if math.isnan(value) else f"{value:.4f}"


def score_interval(interval: Interval) -> str:
    """0.9313 [0.9201, 0.9424]"""
    return f"{score(interval.mean)} [{score(interval.low)}, {score(interval.high)}]"


def milliseconds(values: npt.NDArray[np.float64]) -> str:
    """[0.5614, 0.5721] -> 0.567 ± 0.008 ms: mean and standard deviation (R,), to three figures of the mean."""
    if not len(values):
        return DASH
    mean = float(values.mean())
    places = max(0, 2 - math.floor(math.log10(mean))) if mean > 0 else 0
    spread = f" ± {values.std(ddof=1):,.{places}f}" if len(values) > 1 else ""
    return f"{mean:,.{places}f}{spread} ms"


def spread(values: npt.NDArray[np.float64]) -> str:
    """The mean of a score's defined values (R,), ± their standard deviation where there are several."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return DASH
    text = score(float(defined.mean()))
    if len(defined) > 1:
        text += f" ± {score(float(defined.std(ddof=1)))}"
    return text if len(defined) == len(values) else f"{text} ({len(defined)} of {len(values)})"


def quantity(value: float) -> str:
    """11181642 -> 11.2 M; decimal prefixes, three figures."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * limit:
            scaled = value / limit
            return f"{scaled:.{max(0, 2 - int(math.log10(max(scaled, 1))))}f} {unit}"
    return f"{value:.0f}"


def size(value: float) -> str:
    """44746568 -> 44.7 MB (a megabyte is 10^6 bytes)"""
    text = quantity(value)
    return f"{text}B" if text[-1].isalpha() else f"{text} B"


def duration(seconds: float) -> str:
    """3.21 -> 3.2 s; 192 -> 3 min 12 s; 7260 -> 2 h 1 min"""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


# files


def write(table: Table, folder: Path) -> None:
    """Write `name`.csv, .md and .tex into `folder`."""
    safe = table.frame.apply(lambda values: values if is_numeric_dtype(values) else values.map(escape.cell))
    safe.rename(columns=escape.cell).to_csv(folder / f"{table.name}.csv", index=False, lineterminator="\n")
    (folder / f"{table.name}.md").write_text(markdown(table), encoding="utf-8")
    (folder / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")


def markdown(table: Table) -> str:
    rows = [[escape.markdown(cell) for cell in row] for row in (table.header, *table.cells)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(_pad(row, widths)) + " |" for row in rows]
    rule = [
        ":" + "-" * (width - 1 or 1) if not place else "-" * (width - 1 or 1) + ":"
        for place, width in enumerate(widths)
    ]
    lines.insert(1, "| " + " | ".join(rule) + " |")
    return f"{escape.markdown(table.caption)}\n\n" + "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """A floating table; wants the package booktabs."""
    lines = [" & ".join(map(escape.latex, row)) + r" \\" for row in table.cells]
    for place in reversed(table.rules):
        lines.insert(place, r"\midrule")
    columns = "l" + "r" * (len(table.header) - 1)
    label = re.sub(r"[^A-Za-z0-9]+", "-", table.name).strip("-")
    head = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape.latex(table.caption)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(escape.latex, table.header)) + r" \\",
        r"\midrule",
    ]
    return "\n".join([*head, *lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def text(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Aligned columns for a terminal."""
    head, *rows = [[shown(cell) for cell in row] for row in (header, *cells)]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [_pad(head, widths), ["─" * width for width in widths], *(_pad(row, widths) for row in rows)]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _pad(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The first column to the left, the others to the right."""
    return [
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
