"""What MLflow's table of runs shows of a study: saved views, whose scores one sees without choosing columns.

MLflow's own default has no scores, and nothing that a store holds changes it: a fixed list in the UI's code. A saved
view is a tag of the experiment, and an address that names it opens the table so (`address`).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SETTINGS = "versus.settings"  # a tag of trainings, equal for the replicates of a model with the same settings
TAG = "mlflow.sharedViewState.versus-"  # and the view's key: the tag of an experiment that holds a view
SECTION = "versus"  # of the charts
WIDTHS = {"attributes.`Run Name`": 250, "metrics": 190}  # in pixels


@dataclass(frozen=True)
class View:
    """A saved view of the table of runs."""

    title: str
    stage: str  # whose runs it lists
    metrics: tuple[str, ...]  # as columns; the runs are sorted by the first
    attributes: tuple[str, ...] = ()  # as columns behind them
    bars: tuple[str, ...] = ()  # metrics that are drawn as bars, a run or a group each
    lines: tuple[str, ...] = ()  # metrics that are drawn over the epochs
    by_settings: bool = False  # replicates together, and their mean above them

    @property
    def columns(self) -> list[str]:
        return [*(f"metrics.`{each}`" for each in self.metrics), *self.attributes, "tags.`dvc.changes`"]

    def state(self) -> dict[str, Any]:
        """The view as MLflow's UI keeps it."""
        shown = {
            "searchFilter": f"tags.`versus.stage` = '{self.stage}'",
            "orderByKey": self.columns[0],
            "orderByAsc": False,
            "selectedColumns": self.columns,
            "columnOrder": ["attributes.`Run Name`", *self.columns],
            "columnWidths": {
                "attributes.`Run Name`": WIDTHS["attributes.`Run Name`"],
                **dict.fromkeys(self.columns[: len(self.metrics)], WIDTHS["metrics"]),
            },
        }
        if self.by_settings:
            key = {"mode": "tag", "groupByData": SETTINGS}
            shown["groupBy"] = {"aggregateFunction": "average", "groupByKeys": [key]}
        if charts := [*map(_bars, self.bars), *map(_lines, self.lines)]:
            shown["compareRunCharts"] = charts
            section = {"uuid": SECTION, "name": "Scores", "display": True, "isReordered": True}
            shown["compareRunSections"] = [section]
        return shown


def _bars(metric: str) -> dict[str, Any]:
    """A chart with the metric of up to twenty runs or groups side by side."""
    return {
        "uuid": f"versus-{metric}",
        "type": "BAR",
        "runsCountToCompare": 20,
        "metricSectionId": SECTION,
        "deleted": False,
        "isGenerated": False,
        "metricKey": metric,
    }


def _lines(metric: str) -> dict[str, Any]:
    """A chart with the metric over the epochs; of groups the mean, and a band from the lowest to the highest."""
    return _bars(metric) | {
        "type": "LINE",
        "selectedMetricKeys": [metric],
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


SCORES = "train"  # the view that a study is opened by
VIEWS = {  # key -> view
    SCORES: View(
        "Scores",
        "train",
        ("selected_val_macro_f1", "test_macro_f1", "selected_val_accuracy", "test_accuracy", "train_seconds"),
        attributes=("attributes.`Models`",),  # which of them is registered
        bars=("selected_val_macro_f1", "test_macro_f1"),
        lines=("val_macro_f1", "train_loss"),
        by_settings=True,
    ),
    "evaluate": View("Test scores", "evaluate", ("test_macro_f1", "test_accuracy", "parameters", "flops")),
    "trial": View(
        "Trials of settings", "trial", ("selected_val_macro_f1", "selected_epoch", "train_seconds", "train_flops")
    ),
}
BESIDE = tuple(
    each for each in VIEWS[SCORES].metrics if each.startswith("test_")
)  # evaluations' scores, of trainings too


def tags() -> dict[str, str]:
    """The tags of an experiment that hold its views."""
    return {
        f"{TAG}{key}": json.dumps({"name": view.title, "createdAt": 0, "state": json.dumps(view.state())})
        for key, view in VIEWS.items()
    }


def outdated(present: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Tags of an experiment that are missing or differ from what `tags` has now: of an older version's views."""
    return ((key, value) for key, value in tags().items() if present.get(key) != value)


def address(experiment: str, key: str = SCORES) -> str:
    """The address of a view, below that of the server: how the table of runs opens with the scores as columns."""
    return f"#/experiments/{experiment}/runs?viewStateShareKey=versus-{key}&workflowType=machine_learning"
