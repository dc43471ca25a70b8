"""Prediction on whichever device there is: in order, in float32, with the remedy where memory runs out."""

import ctypes
import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as oracle
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.images import packed
from pipeline.images.form import Format, format_for, prepare
from pipeline.inference import loading
from pipeline.inference.device import be_deterministic, keep_freed_memory, memory_remedy, pick_device
from pipeline.inference.forward import predict

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
FORM = format_for(8, "imagenet", {}, 3)


def images(count: int = 20) -> packed.Images:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    return packed.Images(torch.from_numpy(pixels), torch.arange(count) % 3)


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: bool = False, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("has", "device"), [({}, "cpu"), ({"cuda": True}, "cuda"), ({"mps": True}, "mps"), ({"cuda": 1, "mps": 1}, "cuda")]
)
def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, has: dict, device: str) -> None:
    machine(monkeypatch, **has)
    assert pick_device("auto").type == device
    assert pick_device("cpu").type == "cpu"
    assert pick_device(device).type == device


@pytest.mark.parametrize(
    ("has", "asked", "choices"), [({}, "cuda", "cpu"), ({}, "mps", "cpu"), ({"mps": True}, "cuda", "mps, cpu")]
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, has: dict, asked: str, choices: str
) -> None:
    machine(monkeypatch, **has)
    with pytest.raises(StageError) as fault:
        pick_device(asked)
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
        wanted = network.eval()(prepare(data.pixels, FORM))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for batch_size in (1, 7, 256):
        assert_close(predict(network.train(), data, FORM, CPU, batch_size=batch_size), wanted)
    assert all(value.equal(before[key]) for key, value in network.state_dict().items()), "it learns nothing from them"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_predictions_are_float32(dtype: torch.dtype) -> None:
    assert predict(Network(dtype), images(), FORM, CPU).dtype == torch.float32


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")], ids=repr)
def test_want_of_memory_becomes_a_fault_with_the_remedy(error: Exception) -> None:
    with pytest.raises(StageError) as fault, memory_remedy("halve train.batch_size"):
        raise error
    assert str(fault.value) == ("out of memory; halve train.batch_size, and run again")


def test_a_processors_want_of_memory_is_known_by_its_words() -> None:
    with pytest.raises(StageError, match=r"^out of memory"), memory_remedy("halve train.batch_size"):
        torch.empty(2**50)


@pytest.mark.parametrize("error", [RuntimeError("shapes"), ValueError("x"), StageError("y")], ids=repr)
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as found, memory_remedy("halve train.batch_size"):
        raise error
    assert found.value is error


# How a trained network is given its images and its memory


def test_a_trained_networks_images_are_normalised_as_its_configuration_says() -> None:
    """The configuration went through JSON, where a tuple becomes a list."""
    form = Format(28, (0.13,), (0.31,))
    config = json.loads(json.dumps({"image_size": 28, "normalise": {"mean": form.mean, "std": form.std}}))
    assert loading.image_format(config) == form


def test_a_trained_network_is_built_again_with_its_techniques(tmp_path: Path) -> None:
    layers = ["conv 16", "pool", "dw 16 skip", "pool", "conv 16"]
    network = {"family": "tiny", "layers": layers, "in_channels": 1, "blurpool": True, "squeeze_excite": 0.25}
    trained = networks.build(name="m", classes=3, image_size=8, seed=1, **network).eval()
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    config = {"model": "m", "classes": ["a", "b", "c"], "image_size": 8, "network": network}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found, read = loading.load(tmp_path)
    pictures = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert_close(found(pictures), trained(pictures), rtol=0, atol=0)
    assert read == config


def test_a_network_of_crops_is_built_for_them_and_scores_the_mean_over_the_views(tmp_path: Path) -> None:
    network = {"family": "cbam_resnet", "attention": "channel_first", "width": 2, "in_channels": 1}
    built = networks.build(name="m", classes=3, image_size=26, seed=1, **network).eval()
    save_file(built.state_dict(), tmp_path / "weights.safetensors")
    config = {"model": "m", "classes": ["a", "b", "c"], "image_size": 28, "network": network}
    config |= {"augment": {"crop_size": 26, "test_crops": 10}, "normalise": {"mean": [0.5], "std": [0.25]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found, read = loading.load(tmp_path)
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (5, 28, 28, 1), dtype=np.uint8))
    images = packed.Images(pixels, torch.zeros(5, dtype=torch.int64))
    logits = predict(found, images, loading.image_format(read), torch.device("cpu"), batch_size=2)
    crops = oracle.ten_crop((pixels.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25, [26, 26])
    with torch.no_grad():
        wanted = sum(built(crop) for crop in crops) / 10
        assert not torch.allclose(built(crops[4]), wanted, atol=1e-3)
    assert_close(logits, wanted, atol=1e-5, rtol=1e-4)


def test_memory_that_is_kept_changes_no_result() -> None:
    code = (
        "import torch\nfrom pipeline.inference import device\n"
        "conv, x = torch.nn.Conv2d(3, 8, 3), torch.ones(8, 3, 64, 64)\n"
        "before = conv(x)\n"
        "device.keep_freed_memory()\n"
        "assert all(conv(x).equal(before) for _ in range(20))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(ctypes, "CDLL", called.append)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    keep_freed_memory()
    assert called == []


def test_what_has_no_fixed_order_is_named_where_the_same_bits_are_asked_for() -> None:
    """`put_` without accumulation has none on any device; convolutions and their gradients on a CPU have."""
    scattered, places = torch.zeros(3), torch.zeros(2, dtype=torch.int64)
    scattered.put_(places, torch.ones(2))
    be_deterministic()
    try:
        with (
            pytest.raises(
                StageError, match=r"train\.deterministic: put_ does not give the same bits twice .*choose false"
            ),
            memory_remedy("halve it"),
        ):
            scattered.put_(places, torch.ones(2))
        kernel = torch.ones(2, 1, 3, 3, requires_grad=True)
        torch.nn.functional.conv2d(torch.ones(1, 1, 8, 8), kernel, stride=2).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
