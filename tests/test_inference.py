"""Prediction on whichever device there is: in order, in float32, with the remedy where memory runs out."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pipeline import inference, loader
from pipeline.stage import StageError

CPU = torch.device("cpu")


def images(count: int = 20) -> loader.Images:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    return loader.Images(torch.from_numpy(pixels), torch.arange(count) % 3)


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: bool = False, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("has", "device"), [({}, "cpu"), ({"cuda": True}, "cuda"), ({"mps": True}, "mps"), ({"cuda": 1, "mps": 1}, "cuda")]
)
def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, has: dict, device: str) -> None:
    machine(monkeypatch, **has)
    assert inference.pick_device("auto").type == device
    assert inference.pick_device("cpu").type == "cpu"
    assert inference.pick_device(device).type == device


@pytest.mark.parametrize(
    ("has", "asked", "choices"), [({}, "cuda", "cpu"), ({}, "mps", "cpu"), ({"mps": True}, "cuda", "mps, cpu")]
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, has: dict, asked: str, choices: str
) -> None:
    machine(monkeypatch, **has)
    with pytest.raises(StageError) as fault:
        inference.pick_device(asked)
    assert str(fault.value) == (
        f"params.yaml: train.device: '{asked}' is not to be had on this machine ({choices}); try auto"
    )


class Network(nn.Module):
    """Normalises, drops out, and can be set to answer in another precision."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.norm, self.drop, self.head = nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Linear(3 * 64, 3)
        self.dtype = dtype

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.norm(pictures).flatten(1))).to(self.dtype)


def test_predictions_are_the_networks_in_order_whatever_the_batches_and_its_mode() -> None:
    network, data = Network(), images()
    with torch.no_grad():
        wanted = network.eval()(loader.prepare(data.pixels, 8))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for batch_size in (1, 7, 256):
        assert_close(inference.predict(network.train(), data, 8, CPU, batch_size=batch_size), wanted)
    assert all(value.equal(before[key]) for key, value in network.state_dict().items()), "it learns nothing from them"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_predictions_are_float32(dtype: torch.dtype) -> None:
    assert inference.predict(Network(dtype), images(), 8, CPU).dtype == torch.float32


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")], ids=repr)
def test_want_of_memory_becomes_a_fault_with_the_remedy(error: Exception) -> None:
    with pytest.raises(StageError) as fault, inference.memory_remedy("halve train.batch_size"):
        raise error
    assert str(fault.value) == ("out of memory; halve train.batch_size, and run again")


def test_a_processors_want_of_memory_is_known_by_its_words() -> None:
    with pytest.raises(StageError, match=r"^out of memory"), inference.memory_remedy("halve train.batch_size"):
        torch.empty(2**50)


@pytest.mark.parametrize("error", [RuntimeError("shapes"), ValueError("x"), StageError("y")], ids=repr)
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as found, inference.memory_remedy("halve train.batch_size"):
        raise error
    assert found.value is error
