"""Figures of the report that weigh models against each other: what is drawn is what the numbers say."""

import numpy as np
import pytest

from pipeline.report.sections import classes
from pipeline.report.sections.cost import label_places, pareto, trade_off_figure

NAN = float("nan")


def test_the_line_joins_the_models_that_no_other_beats_in_both() -> None:
    cost, score = np.array([3.0, 1, 2, 4, 1]), np.array([0.8, 0.5, 0.4, 0.8, 0.3])
    assert pareto(cost, score).tolist() == [1, 0]


def test_a_circle_is_as_large_as_its_model_and_stands_at_its_cost_and_accuracy() -> None:
    accuracy = {"a": (0.9, 0.85, 0.95), "b": (0.7, NAN, NAN)}
    figure = trade_off_figure({"a": 12.0, "b": 1.0}, accuracy, {"a": 4000, "b": 1000}, "ms")
    panel = figure.axes[0]
    circles = [each for each in panel.collections if each.get_alpha()]
    assert [tuple(each.get_offsets()[0]) for each in circles] == [(12, 0.9), (1, 0.7)]
    areas = [each.get_sizes()[0] - 12 for each in circles]
    assert areas[0] / areas[1] == pytest.approx(4)
    assert [text.get_text() for text in panel.texts] == ["a, 4 k", "b, 1 k"]
    assert panel.get_xscale() == "log"
    whiskers = [list(line.get_ydata()) for line in panel.lines[1:]]
    assert whiskers == [[0.85, 0.95]]  # what is not known is not drawn
    near = trade_off_figure({"a": 2.0, "b": 1.0}, accuracy, {"a": 4000, "b": 1000}, "ms")
    assert near.axes[0].get_xscale() == "linear"


def test_names_beside_crowded_dots_do_not_cover_each_other() -> None:
    dots = np.array([[100 + 30.0 * (i % 4), 100 + 22.0 * (i // 4)] for i in range(12)])
    texts = [f"m{index}" for index in range(12)]
    boxes = []
    for dot, text, (shift, side) in zip(dots, texts, label_places(dots, texts, np.full(12, 3.0)), strict=True):
        width = 0.58 * 9 * len(text)
        left = dot[0] + shift[0] - (width if side == "right" else 0)
        boxes.append((left, dot[1] + shift[1] - 4, left + width, dot[1] + shift[1] + 4))
    for index, (left, bottom, right, top) in enumerate(boxes):
        for a, b, c, d in boxes[:index]:
            assert min(right, c) <= max(left, a) or min(top, d) <= max(bottom, b)


def test_class_scores_are_bars_from_0_or_dots_where_the_axis_is_cut() -> None:
    low = {"a": [(0.5, 0.4, 0.6), (0.9, 0.8, 1.0)], "b": [(0.6, 0.5, 0.7), (NAN, NAN, NAN)]}
    first, second = classes.class_scores_figure(low, ["x", "y"]).axes
    assert [bar.get_width() for bar in first.patches] == [0.5, 0.6]
    assert [bar.get_width() for bar in second.patches] == [0.9]
    assert first.get_xlim()[0] == 0
    assert sorted(line.get_xdata()[1] for line in first.lines) == [0.6, 0.7]
    high = {"a": [(0.98, 0.97, 0.99)], "b": [(0.96, 0.95, 0.97)]}
    (panel,) = classes.class_scores_figure(high, ["x"]).axes
    assert not panel.patches  # a bar that does not start at 0 would mislead
    assert panel.get_xlim()[0] > 0.9


def test_of_many_classes_the_hardest_are_shown_in_their_order() -> None:
    scores = {"a": [((k * 7 % 30) / 30, 0.0, 1.0) for k in range(30)]}
    titles = [
        panel.get_title(loc="left") for panel in classes.class_scores_figure(scores, [f"c{k}" for k in range(30)]).axes
    ]
    assert titles == [f"c{k}" for k in range(30) if k * 7 % 30 < classes.PANELS]
