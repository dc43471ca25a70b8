"""What stages say of images, latencies and what networks look at are records, also as earlier versions wrote them."""

import json
from pathlib import Path

import pytest

from pipeline.base.errors import StageError
from pipeline.records.checkup import Checkup
from pipeline.records.dataset import Dataset
from pipeline.records.explanations import Explanations
from pipeline.records.latency import Latency
from tests import fake_study, repo

KINDS = {"doctor": Checkup, "explanations": Explanations, "latency": Latency}


@pytest.mark.parametrize("name", KINDS)
def test_committed_results_of_every_version_are_read(name: str, tmp_path: Path) -> None:
    files = [path for path in repo.committed() if path.endswith(f"reports/{name}.json")]
    assert files
    repo.export(tmp_path, *files)
    for path in files:
        KINDS[name].read(tmp_path / path)


def test_explanations_are_written_as_they_were_read(tmp_path: Path) -> None:
    path = "reports/explanations.json"
    committed = repo.export(tmp_path, path) / path
    Explanations.read(committed).write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == committed.read_bytes()


def test_each_round_of_latency_has_its_own_times(tmp_path: Path) -> None:
    times = {
        "cpu_images": 360,
        "cpu_ms_per_image": [0.25, 0.5],
        "cpu_ms_alone": [2.0, 3.0],
        "onnx_ms_alone": [4.0, 5.0],
    }
    path = tmp_path / "latency.json"
    path.write_text(json.dumps({"processor": "One", "threads": 2, "batch": 64, "models": {"cnn": times}}))
    first, second = Latency.read(path).rounds("cnn")
    assert (first.cpu_ms_per_image, first.cpu_ms_alone, first.onnx_ms_alone) == (0.25, 2.0, 4.0)
    assert (second.cpu_ms_per_image, second.cpu_ms_alone, second.onnx_ms_alone) == (0.5, 3.0, 5.0)
    assert {(each.processor, each.cpu_threads, each.cpu_batch, each.cpu_images) for each in (first, second)} == {
        ("One", 2, 64, 360)
    }
    assert first.onnx_ms_per_image is None


def test_what_earlier_versions_did_not_say_of_images_has_a_default(tmp_path: Path) -> None:
    path = fake_study.write(tmp_path, ("cnn",), replicates=(0,), epochs=1, classes=("x", "y")) / "reports/data.json"
    found = Dataset.read(path)
    assert (found.flip, found.shareable, found.cross_validation) == (True, False, None)
    assert found.names == ["x", "y"]
    assert found.images("val") == [29, 29]


def test_one_that_is_missing_names_its_stage_and_one_that_does_not_fit_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "doctor.json"
    with pytest.raises(StageError, match=r"doctor\.json: not found; run `dvc repro doctor` in"):
        Checkup.read(path)
    path.write_text('{"images": "many"}')
    with pytest.raises(StageError, match=r"doctor\.json: images: .*; run `dvc repro -f doctor` in"):
        Checkup.read(path)
    path.write_text("{}")
    with pytest.raises(StageError, match=r"doctor\.json: no images in it, perhaps of an earlier version; run"):
        Checkup.read(path)
