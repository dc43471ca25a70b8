"""torchvision's networks start from a local file's tensors with a head of their own, and refuse what does not fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.networks import hub
from pipeline.networks.torchvision_classifier import last_linear

BACKBONE = "shufflenet_v2_x0_5"


def build(**settings: Any) -> torch.nn.Module:
    defaults = {"name": "net", "classes": 7, "image_size": 32, "seed": 0, "backbone": BACKBONE}
    return networks.build("torchvision", **{**defaults, **settings})


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        return torchvision.models.get_model(BACKBONE, weights=None).state_dict()


def saved(path: Path, tensors: dict[str, Tensor]) -> str:
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return str(path)


def test_every_tensor_but_the_heads_is_the_files(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    found = build(pretrained=saved(tmp_path / "w.safetensors", weights)).state_dict()
    assert found.keys() == weights.keys()
    assert all(found[key].equal(weights[key]) for key in found if not key.startswith("fc."))
    assert found["fc.weight"].shape == (7, 1024)
    torch.save(weights, tmp_path / "w.pth")
    again = build(pretrained=str(tmp_path / "w.pth")).state_dict()
    assert all(found[key].equal(again[key]) for key in found)


def test_a_file_of_another_network_is_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    short = {key: value for key, value in weights.items() if not key.startswith("conv1.0")}
    with pytest.raises(StageError, match=r"models\.net\.pretrained: .* lacks 1 of .*conv1\.0\.weight"):
        build(pretrained=saved(tmp_path / "short.safetensors", short))
    with pytest.raises(StageError, match=r"has 1 tensors that the network has not, other first"):
        build(pretrained=saved(tmp_path / "long.safetensors", {**weights, "other": torch.zeros(1)}))
    with pytest.raises(StageError, match=r"conv1\.0\.weight has the shape \(1, 1\), not \(24, 3, 3, 3\)"):
        build(pretrained=saved(tmp_path / "odd.safetensors", {**weights, "conv1.0.weight": torch.zeros(1, 1)}))
    with pytest.raises(StageError, match="no file"):
        build(pretrained=str(tmp_path / "none"))


def test_without_a_network_the_error_says_in_seconds_which_file_to_put_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ask = hub.ask
    monkeypatch.setattr(hub, "ask", lambda _: ask("http://127.0.0.1:9/w.pth"))  # nobody listens there
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    told = rf"the ImageNet weights of {BACKBONE} cannot be downloaded \(.*refused.*\); download .* or choose false"
    for call in (lambda: build(pretrained=True), lambda: networks.require_published("torchvision", BACKBONE)):
        with pytest.raises(StageError, match=told):
            call()


def test_alexnet_is_torchvisions_and_its_last_layer_is_the_head() -> None:
    with torch.device("meta"):
        network = torchvision.models.get_model("alexnet", weights=None, num_classes=257)
    assert last_linear(network) == "classifier.6"
    wanted = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.meta["num_params"]
    assert sum(p.numel() for p in network.parameters()) == wanted - (1000 - 257) * 4097


def test_a_name_that_torchvision_has_not_gets_a_hint() -> None:
    with pytest.raises(StageError, match=r"torchvision has no 'alexnett'; did you mean alexnet"):
        build(backbone="alexnett")
