"""Figures of the report that weigh models against each other: what is drawn is what the numbers say."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pipeline.report import drawing
from pipeline.report.sections import calibration, classes
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


def test_a_name_of_any_length_has_room_above_its_panel() -> None:
    names = [f"a class of which there is more to say, {k}" for k in range(8)]
    panels = classes.class_scores_figure({"a": [(0.5, 0.4, 0.6)] * 8}, names).axes
    figure = panels[0].figure
    figure.draw_without_rendering()
    boxes = [panel.title.get_window_extent() for panel in panels]
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])


def test_reliability_joins_what_all_replicates_say_by_the_images_that_each_has() -> None:
    bins = [(np.array([0.2, NAN, 0.9]), np.array([0.4, NAN, 0.8]), np.array([0.5, 0, 0.5]))]
    bins += [(np.array([0.4, NAN, 0.7]), np.array([1.0, NAN, 0.6]), np.array([0.1, 0, 0.9]))]
    (panel,) = calibration.reliability_figure({"m": bins}).axes
    _, first, second, bold = panel.lines
    assert first.get_xydata().tolist() == [[0.2, 0.4], [0.9, 0.8]]
    assert second.get_xydata().tolist() == [[0.4, 1.0], [0.7, 0.6]]
    x, y = (0.2 * 0.5 + 0.4 * 0.1) / 0.6, (0.4 * 0.5 + 1.0 * 0.1) / 0.6
    assert bold.get_xydata()[0] == pytest.approx([x, y])
    assert [bar.get_height() for bar in panel.patches] == pytest.approx([0.3, 0, 0.7])
    small, large = panel.collections[0].get_sizes()
    assert small < large


def test_replicates_are_thin_their_mean_bold_and_the_other_models_grey() -> None:
    curves = {"a": np.array([[0.8, 0.6], [0.9, 0.8]]), "b": np.array([[0.5, 0.4], [0.5, 0.2]])}
    figure = calibration.selective_prediction_figure(np.array([0.5, 1.0]), curves)
    for (model, runs), (other, rest), panel in zip(curves.items(), reversed(curves.items()), figure.axes, strict=True):
        tones = drawing.colours(list(curves))
        grey, *thin, bold = sorted(
            panel.lines, key=lambda line: (to_hex(line.get_color()) == tones[model], line.get_linewidth())
        )
        assert panel.get_title(loc="left") == model != other
        assert (to_hex(grey.get_color()), grey.get_ydata()) == (drawing.GHOST, pytest.approx(rest.mean(0)))
        assert [line.get_ydata().tolist() for line in thin] == runs.tolist()
        assert bold.get_ydata() == pytest.approx(runs.mean(0))
        assert bold.get_linewidth() > 2 * thin[0].get_linewidth()


def test_a_mean_is_of_what_all_replicates_have() -> None:
    rows = [("a", "0", 1, 0.5), ("a", "0", 2, 0.7), ("a", "1", 1, 0.7), ("b", "0", 1, 0.1), ("b", "0", 2, NAN)]
    table = pd.DataFrame(rows, columns=["model", "replicate", "epoch", "score"])
    found = drawing.means(table, "epoch", "score")
    assert found[["model", "epoch", "score"]].to_numpy().tolist() == [["a", 1, pytest.approx(0.6)], ["b", 1, 0.1]]


def test_a_figure_is_cut_to_what_is_drawn(tmp_path: Path) -> None:
    figure = Figure(figsize=(4, 3))
    panel = figure.add_axes((0.25, 0.25, 0.5, 0.5))
    panel.set(xticks=(), yticks=())
    figure.text(0.5, 0.9, "above", size=10)
    drawing.save(figure, tmp_path, "cut")
    left, top, width, height = (
        float(each) for each in re.findall(r'viewBox="([^"]*)"', (tmp_path / "cut.svg").read_text())[0].split()
    )
    margin = 7.2  # points, a tenth of an inch
    assert (left, left + width) == pytest.approx((72 - margin, 216 + margin), abs=1)
    assert 10 < top + margin < 0.1 * 216  # the words are on that line, and of 10 points
    assert top + height == pytest.approx(0.75 * 216 + margin, abs=1)
