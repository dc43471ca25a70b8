"""Captions and caveats fit what is drawn: a line where there is one, and trainings that stopped while they rose."""

import numpy as np
import pandas as pd

from pipeline.report.sections.caveats import RISE, still_rising
from pipeline.report.sections.cost import remarks


def accuracy(**values: float) -> dict[str, tuple[float, float, float]]:
    return {name: (value, value - 0.01, value + 0.01) for name, value in values.items()}


def test_a_line_is_spoken_of_where_there_is_one() -> None:
    assert remarks({"a": 1.0, "b": 2.0}, accuracy(a=0.8, b=0.9)) == "Line: models that no other beats in both."
    assert remarks({"a": 1.0, "b": 2.0}, accuracy(a=0.9, b=0.8)) == "No line: a is best in both."
    assert remarks({"a": 1.0}, accuracy(a=0.9)) == ""


def test_circles_that_lie_on_each_other_are_named_on_either_axis() -> None:
    scores = accuracy(a=0.9, b=0.9001, c=0.7)
    for costs in ({"a": 1.0, "b": 1.001, "c": 2.0}, {"a": 1.0, "b": 1.01, "c": 90.0}):
        assert remarks(costs, scores).endswith(" Circles that lie on each other: a and b.")
    assert "Circles" not in remarks({"a": 1.0, "b": 1.2, "c": 2.0}, scores)


def test_a_training_that_still_rose_when_it_ended_is_told_from_one_that_had_levelled_off() -> None:
    epochs = np.arange(40)
    rising, level = pd.Series(0.4 + 2 * RISE * epochs / 4), pd.Series(0.9 - 0.5 * 0.7**epochs)
    assert still_rising([rising])
    assert not still_rising([level])
    assert not still_rising([rising, level]), "every training has to"
    assert not still_rising([rising[:9]])
    assert not still_rising([pd.Series([np.nan] * 40)]), "trained on the validation images too"
