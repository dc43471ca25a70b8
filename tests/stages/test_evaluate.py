"""What evaluate leaves for `dvc plots`."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dvc_render import VegaRenderer

from pipeline.records.evaluation import Evaluation
from tests import repo, trees

NAME = "tiny-0"


@pytest.fixture
def cells(trained_folder: Path) -> pd.DataFrame:
    return pd.read_csv(trained_folder / f"reports/confusion/{NAME}.csv", dtype={"actual": str, "predicted": str})


@pytest.fixture
def evaluation(trained_folder: Path) -> Evaluation:
    return Evaluation.read(trained_folder / f"reports/evaluations/{NAME}.json")


def test_the_cells_are_the_confusion_matrix(cells: pd.DataFrame, evaluation: Evaluation) -> None:
    names = [row.name for row in evaluation.classes]
    table = cells.pivot_table(index="actual", columns="predicted", values="images", aggfunc="sum", fill_value=0)
    np.testing.assert_array_equal(table.loc[names, names], evaluation.confusion)


def test_classes_come_in_their_order_on_both_axes_and_no_cell_is_empty_but_on_the_diagonal(
    cells: pd.DataFrame, evaluation: Evaluation
) -> None:
    names = [row.name for row in evaluation.classes]
    for axis in ("actual", "predicted"):
        assert cells[axis].drop_duplicates().tolist() == names
    assert (cells.loc[cells["actual"] != cells["predicted"], "images"] > 0).all()


def test_dvc_fills_our_template_with_them(cells: pd.DataFrame) -> None:
    stages = trees.YAML(typ="safe").load((repo.ROOT / "dvc.yaml").read_text())["stages"]
    (plot,) = stages["evaluate"]["plots"]
    ((_, properties),) = plot.items()
    rows = [row | {"rev": revision} for revision in ("HEAD", "workspace") for row in cells.to_dict("records")]
    properties = properties | {"template": str(repo.ROOT / properties["template"])}
    filled = VegaRenderer(rows, "confusion", **properties).get_filled_template()
    assert filled["data"]["values"] == rows
    assert "<DVC" not in str(filled)
    bars, matrices = filled["hconcat"]
    assert bars["encoding"]["color"]["scale"]["domain"] == ["HEAD", "workspace"]
    assert [matrices["spec"]["encoding"][axis]["field"] for axis in "xy"] == ["predicted", "actual"]
