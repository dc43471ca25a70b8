"""Numbers and settings in words, the same in every table, caption and line of the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.scoring.intervals import Interval

DASH = "–"
MOST = 3  # texts that a sentence lists
NOT_MEASURED = "not measured"
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


def score(value: float) -> str:
    """0.93125 -> 0.9313; a dash where undefined."""
    return DASH if math.isnan(value) else f"{value:.4f}"


def score_interval(interval: Interval) -> str:
    """0.9313 [0.9201, 0.9424]"""
    return f"{score(interval.mean)} [{score(interval.low)}, {score(interval.high)}]"


def mean_and_interval(mean: float, low: float, high: float) -> str:
    """0.9313 [0.9201, 0.9424]; the mean alone where it has no interval"""
    text = score(mean) if math.isnan(low) else f"{score(mean)} [{score(low)}, {score(high)}]"
    return text.replace("-", "−")


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


def counted(count: int, noun: str, plural: str = "") -> str:
    """1 image, 2,345 images, no images: a number and its noun; `plural` where that is more than an s."""
    return f"{f'{count:,}' if count else 'no'} {noun if count == 1 else plural or f'{noun}s'}"


def few(texts: Sequence[str]) -> list[str]:
    """The texts for one sentence, where there are more than MOST the first of them and how many more there are."""
    shown = texts if len(texts) <= MOST else texts[: MOST - 1]
    rest = len(texts) - len(shown)
    return [*shown, *[f"{rest} more"] * bool(rest)]


def setting(value: Any) -> str:
    """A setting's value as a reader writes it: {"crop": 0.2, "rotate": 15} -> crop 0.2, rotate 15."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {setting(each)}" for key, each in value.items()) or DASH
    if isinstance(value, (list, tuple)):
        return ", ".join(map(setting, value)) or DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    return DASH if value is None or value == "" else str(value)


def signed(value: float) -> str:
    """-0.0123 -> −0.0123; +0.0123; 0.0000 has no sign"""
    text = f"{abs(value):.4f}"
    return text if text == "0.0000" else f"{'−' if value < 0 else '+'}{text}"


def signed_interval(value: float, low: float, high: float) -> str:
    """+0.1073 [+0.0821, +0.1325]; the value alone where it has no interval"""
    return signed(value) if math.isnan(low) else f"{signed(value)} [{signed(low)}, {signed(high)}]"


def p_value(value: float) -> str:
    """0.01234 -> 0.012, 0.1 -> 0.10; below 0.0001 only that"""
    if math.isnan(value):
        return DASH
    return "< 0.0001" if value < 0.0001 else f"{value:#.2g}" if value < 0.995 else "1"


def p_equals(value: float) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"
