"""How long forward passes take: what is timed, in which order, and that it needs no training."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline import networks
from pipeline.images import packed
from pipeline.stages import evaluate, latency
from pipeline.tracking import runs
from pipeline.trained import onnx
from tests import small_study
from tests.training.test_fit import CPU, FORM, images, linear


class Counting(nn.Module):
    """Notes how many images each pass had; outside of training, without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.passes = linear(), []

    def forward(self, pictures: Tensor) -> Tensor:
        assert pictures.device == CPU
        assert pictures.dtype == torch.float32
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.passes.append(len(pictures))
        return self.body(pictures)


def clock(monkeypatch: pytest.MonkeyPatch, per_call: float, per_image: float, *counted: Counting) -> None:
    """A clock that goes on by what each pass through the networks takes, and stands still otherwise."""
    passes = lambda: [count for network in counted for count in network.passes]  # noqa: E731
    monkeypatch.setattr(latency.time, "perf_counter", lambda: per_call * len(passes()) + per_image * sum(passes()))


def measured(network: nn.Module, data: packed.Images) -> dict[str, Any]:
    return latency.measure({("cnn", "cpu"): latency.in_pytorch(network, FORM)}, data)["cnn"]


def test_a_round_is_the_median_per_image_in_batches_and_for_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Counting()
    clock(monkeypatch, 0.128, 0.002, network)
    found = measured(network, images((100, 100, 100)))
    assert found["cpu_ms_per_image"] == pytest.approx([1 + 2] * latency.ROUNDS)
    assert found["cpu_ms_alone"] == pytest.approx([128 + 2] * latency.ROUNDS)
    assert found["cpu_images"] == 300
    assert network.passes == [128, *[1, *[1] * latency.ALONE, 128, 128, 44] * latency.ROUNDS], "firsts warm up"


def test_models_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what else the machine does in one round meets all of them."""
    turns: list[str] = []

    def noting(name: str) -> latency.Timed:
        return latency.Timed(lambda _: turns.append(name), FORM)

    def once(score: latency.Score, _: object) -> tuple[float, float, int]:
        score([])
        return 1.0, 1.0, 1

    monkeypatch.setattr(latency, "_milliseconds", once)

    latency.measure({("cnn", "cpu"): noting("cnn"), ("vit", "cpu"): noting("vit")}, images((2, 2, 2)))
    assert turns == ["cnn", "vit"] * (latency.ROUNDS + 1)


def test_slow_networks_are_timed_on_as_many_images_as_the_time_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Counting()
    clock(monkeypatch, latency.SECONDS * 0.6, 0.0, network)
    assert measured(network, images((200, 200, 200)))["cpu_images"] == 256


def test_fewer_images_than_a_batch_are_timed_all(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Counting()
    clock(monkeypatch, 0.0, 0.001, network)
    found = measured(network, images((1, 1, 1)))
    assert found["cpu_images"] == 3
    assert found["cpu_ms_alone"] == pytest.approx([1] * latency.ROUNDS)


def test_onnx_runtime_is_timed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real runtime, with a clock that runs with its passes alone."""
    network, passes = linear(), [0]
    answer = onnx.run

    def slow(model: object, pictures: Tensor) -> np.ndarray:
        passes[0] += len(pictures)
        return answer(model, pictures)

    monkeypatch.setattr(onnx, "run", slow)
    monkeypatch.setattr(latency.time, "perf_counter", lambda: 0.002 * passes[0])
    timed = {
        ("cnn", "cpu"): latency.in_pytorch(network, FORM),
        ("cnn", "onnx"): latency.in_onnx_runtime("cnn", network, FORM),
    }
    found = latency.measure(timed, images((40, 40, 40)))["cnn"]
    assert found["cpu_ms_alone"] == found["cpu_ms_per_image"] == [0] * latency.ROUNDS
    for name in ("onnx_ms_alone", "onnx_ms_per_image"):
        assert found[name] == pytest.approx([2] * latency.ROUNDS)


@pytest.mark.parametrize("flipped", [0, 3])
def test_classes_that_onnx_runtime_names_otherwise_are_counted(monkeypatch: pytest.MonkeyPatch, flipped: int) -> None:
    answer = onnx.run

    def turned(model: object, pictures: Tensor) -> np.ndarray:
        logits = answer(model, pictures)
        if not isinstance(model, nn.Module) and len(pictures) > 1:
            logits[:flipped] = -logits[:flipped]
        return logits

    monkeypatch.setattr(onnx, "run", turned)
    assert evaluate.differing_in_onnx(linear(), images((40, 40, 40)), FORM) == flipped


def test_converting_to_onnx_leaves_the_network_as_it_was() -> None:
    network = networks.build(name="x", family="tiny", layers=["conv 4"], in_channels=3, classes=3, image_size=8, seed=0)
    network = network.to(memory_format=torch.channels_last)
    kept = {key: value.clone() for key, value in network.state_dict().items()}
    evaluate.differing_in_onnx(network, images((5, 5, 5)), FORM)
    assert all(torch.equal(value, kept[key]) for key, value in network.state_dict().items())
    assert network[0].conv.weight.is_contiguous(memory_format=torch.channels_last)


class Kept:
    """A run that keeps what is logged."""

    def __init__(self) -> None:
        self.logged: dict[str, float] = {}

    def metrics(self, values: dict[str, float]) -> None:
        self.logged |= values

    def artifact(self, path: Path) -> None:
        assert path.exists()


def test_a_study_is_timed_in_both_runtimes_before_anything_is_trained(
    trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small_study.write(tmp_path, {"evaluate.onnx": True}))
    shutil.copytree(trained_folder / "data", tmp_path / "data")
    kept = Kept()

    @contextlib.contextmanager
    def report_run(stage: str) -> Iterator[Kept]:
        assert stage == "latency"
        yield kept

    monkeypatch.setattr(runs, "report_run", report_run)
    latency.main()
    found = json.loads((tmp_path / "reports/latency.json").read_text())
    assert list(found["models"]) == list(small_study.MODELS)
    assert (found["batch"], found["threads"]) == (latency.BATCH, torch.get_num_threads())
    for name, times in found["models"].items():
        assert times["cpu_images"] == 360
        for key in ("cpu_ms_per_image", "cpu_ms_alone", "onnx_ms_per_image", "onnx_ms_alone"):
            assert len(times[key]) == latency.ROUNDS
            assert min(times[key]) > 0
            assert kept.logged[f"{name}/{key}"] == pytest.approx(np.mean(times[key]))
    assert "n = 5 rounds: tiny " in capsys.readouterr().out
