"""What evaluate leaves is drawn by `dvc plots`: the F1 of each class, and what its images were predicted as."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from dvc.render.converter.vega import VegaConverter
from dvc_render import VegaRenderer

from pipeline.records.diary import Diary, Usage
from pipeline.records.evaluation import Evaluation
from tests import repo, trees


def drawn(contents: list[dict[str, Any]]) -> dict[str, Any]:
    """What DVC makes of evaluations of one training in several revisions, by our template."""
    stages = trees.YAML(typ="safe").load((repo.ROOT / "dvc.yaml").read_text())["stages"]
    (plot,) = stages["evaluate"]["plots"]
    ((path, properties),) = plot.items()
    rows: list[dict[str, Any]] = []
    for number, content in enumerate(contents):
        found, inferred = VegaConverter(path, {path: content}, properties).flat_datapoints(f"revision {number}")
        rows += found
    template = {"template": str(repo.ROOT / properties["template"])}
    return VegaRenderer(rows, path, **inferred | template).get_filled_template()


def test_dvc_fills_our_template(trained_folder: Path) -> None:
    path = trained_folder / "reports/evaluations/tiny-0.json"
    filled, evaluation = drawn([json.loads(path.read_text())] * 2), Evaluation.read(path)
    assert "<DVC" not in str(filled)
    bars, matrices = filled["hconcat"]
    assert bars["encoding"]["color"]["scale"]["domain"] == ["revision 0", "revision 1"]
    rows = [row for row in filled["data"]["values"] if row["rev"] == "revision 1" and "class" in row]
    assert [(row["class"], row["f1"], row["support"]) for row in rows] == [
        (row.name, row.f1, row.support) for row in evaluation.classes
    ]
    assert [row["predicted_as"] for row in rows] == evaluation.confusion
    used = set(re.findall(r"'field': '(\w+)'", str([bars, matrices["facet"], matrices["spec"]])))
    assert used - {"predicted", "column", "images", "share"} <= {*rows[0]}, (
        "what is not in the data, the template calculates"
    )
    assert {step["as"] for step in matrices["transform"] if "calculate" in step} == {"predicted", "share"}


@pytest.mark.parametrize("count", [0, 12])
def test_few_and_many_mistakes_are_in_nobodys_way(count: int, trained_folder: Path, tmp_path: Path) -> None:
    content = json.loads((trained_folder / "reports/evaluations/tiny-0.json").read_text())
    content["mistakes"] = [{"actual": "0", "predicted": "1", "png": ""}] * count
    Evaluation.read(trees.put(tmp_path / "a.json", json.dumps(content).encode())).write(tmp_path / "b.json")
    filled = drawn([json.loads((tmp_path / "b.json").read_text())])
    assert sum("class" in row for row in filled["data"]["values"]) == 10
    assert "isValid(datum['class'])" in str(filled["transform"])


def test_sets_of_classes_hold_the_labels_that_the_validation_images_promise(trained_folder: Path) -> None:
    """Few images and a weak network: the sets are large, and hold about as many labels as they are to."""
    for name in ("tiny-0", "tiny-1"):
        found = Evaluation.read(trained_folder / f"reports/evaluations/{name}.json").calibration
        assert found["set_coverage"] == pytest.approx(0.95, abs=0.05)
        assert found["set_size"] is not None
        assert 1 <= found["set_size"] < 10


def test_what_training_took_of_its_machine_comes_with_the_evaluation(trained_folder: Path, tmp_path: Path) -> None:
    cost = Evaluation.read(trained_folder / "reports/evaluations/tiny-0.json").cost
    content = json.loads((trained_folder / "models/tiny-0/run.json").read_text())
    assert cost.peak_memory_bytes == content["usage"]["peak_memory_bytes"]
    assert cost.peak_memory_bytes is not None
    assert 5e7 < cost.peak_memory_bytes < 5e10, "Python and torch alone take more than the one"
    assert (cost.processor_joules, cost.gpu_joules) == (content["usage"]["processor_joules"], None)
    del content["usage"]
    trees.put(tmp_path / "run.json", json.dumps(content).encode())
    assert Diary.read(tmp_path).usage == Usage(), "of an earlier version nothing is known"
