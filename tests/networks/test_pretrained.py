"""Weights from a file or the hub go into the backbone whole, or the error says what to put where."""

import argparse
import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import timm.models._builder
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.networks import hub
from pipeline.networks.backbone import published

VIT = {"patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}


def build(backbone: str = "resnet18", family: str = "timm", **settings: Any) -> nn.Module:
    return networks.build(
        family, **{"name": "m", "classes": 7, "image_size": 32, "seed": 0, "backbone": backbone, **settings}
    )


def seeded(backbone: str, **settings: Any) -> dict[str, Tensor]:
    """Weights that no network of these tests starts from, with a head of 1,000 classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        return timm.create_model(backbone, **settings).state_dict()


@pytest.fixture(scope="module")
def resnet() -> dict[str, Tensor]:
    return seeded("resnet18")


@pytest.fixture(scope="module", params=["safetensors", "pth"])
def path(request: pytest.FixtureRequest, resnet: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / f"resnet18.{request.param}"
    if request.param == "pth":
        torch.save(resnet, path)
    else:
        save_file(resnet, path)
    return path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As with HF_HUB_OFFLINE=1 and nothing downloaded before."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the hub answers."""
    monkeypatch.setattr(hub, "ask_hub", lambda _: None)


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that both have; they must all be equal."""
    shared = [key for key in found if key in wanted]
    for key in shared:
        assert found[key].equal(wanted[key]), key
    return shared


# A local file


def test_a_files_backbone_is_taken_and_the_head_is_fresh(path: Path, resnet: dict[str, Tensor]) -> None:
    found = build(pretrained=str(path)).state_dict()
    head = {key: found.pop(key) for key in ("fc.weight", "fc.bias")}
    assert len(same(found, resnet)) == len(found) == len(resnet) - 2
    assert head["fc.weight"].shape == (7, 512)
    assert not head["fc.weight"].equal(resnet["fc.weight"][:7])


@pytest.mark.parametrize("level", [2, 4])
def test_a_files_backbone_is_taken_by_the_hybrid(path: Path, resnet: dict[str, Tensor], level: int) -> None:
    network = build(family="hybrid", pretrained=str(path), feature_level=level, dim=32, depth=1, heads=4)
    found = network.features.state_dict()
    assert len(same(found, resnet)) == len(found) > 20


def test_a_vit_takes_a_file_for_its_own_image_size_and_resizes_the_positions(tmp_path: Path) -> None:
    weights = seeded("vit_small_patch16_224", img_size=64, **VIT)
    save_file(weights, tmp_path / "vit.safetensors")
    found = build("vit_small_patch16_224", pretrained=str(tmp_path / "vit.safetensors"), args=VIT).state_dict()
    assert weights["pos_embed"].shape == (1, 65, 48)
    assert found.pop("pos_embed").shape == (1, 17, 48)
    assert found["blocks.1.attn.qkv.weight"].equal(weights["blocks.1.attn.qkv.weight"])


def test_initialisation_names_the_file(path: Path) -> None:
    """By its name and hash: where it lies is nobody's business."""
    config = {"network": {"pretrained": str(path), "family": "timm"}, "weights_sha256": "0123456789abcdef"}
    assert networks.initialisation(build(pretrained=str(path)), config) == f"timm {path.name} (0123456789ab)"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError) as fault:
        build(pretrained=str(tmp_path / "none.pth"))
    assert str(fault.value) == (
        f"params.yaml: models.m.pretrained: no file '{tmp_path / 'none.pth'}'; give a path from the study's folder,"
        " true or false"
    )


@pytest.mark.parametrize(
    ("family", "backbone", "reason"),
    [
        ("timm", "resnet50", "size mismatch for layer1.0.conv1.weight"),
        ("hybrid", "resnet50", "size mismatch for layer1.0.conv1.weight"),
        ("timm", "resnet34", "it lacks 80 of the network's tensors, layer1.2.conv1.weight first"),
        ("hybrid", "resnet34", "it lacks 80 of the network's tensors, layer1.2.conv1.weight first"),
        ("timm", "resnet10t", "size mismatch for "),
        ("timm", "vit_tiny_patch16_224", "it lacks 150 of the network's tensors, cls_token first"),
        ("hybrid", "mobilenetv3_small_050", "size mismatch for "),
    ],
)
def test_a_file_of_another_architecture_is_refused_by_name(path: Path, family: str, backbone: str, reason: str) -> None:
    with pytest.raises(StageError) as fault:
        build(backbone, family, pretrained=str(path))
    assert str(fault.value).startswith(f"params.yaml: models.m.pretrained: {path} does not fit {backbone}: ")
    assert reason in str(fault.value)


def test_a_file_of_a_deeper_network_is_refused(tmp_path: Path) -> None:
    save_file(seeded("resnet34"), tmp_path / "resnet34.safetensors")
    with pytest.raises(StageError, match=r"resnet34.safetensors does not fit resnet18: it has 96 tensors that"):
        build(pretrained=str(tmp_path / "resnet34.safetensors"))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("content", [b"", b"not found", b"<html>sign in</html>" * 50], ids=["empty", "text", "page"])
def test_a_file_that_holds_no_weights_is_refused_by_name(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"weights.{suffix}"
    file.write_bytes(content)
    with pytest.raises(StageError, match=rf"models\.m\.pretrained: {file} cannot be read as weights \("):
        build(pretrained=str(file))


def test_a_truncated_file_is_refused_by_name(path: Path, tmp_path: Path) -> None:
    file = tmp_path / path.name
    file.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(StageError, match=rf"models\.m\.pretrained: {file} cannot be read as weights \("):
        build(pretrained=str(file))


def test_a_whole_pickled_network_is_refused_and_not_run(tmp_path: Path) -> None:
    file = tmp_path / "network.pth"
    torch.save(nn.Linear(2, 2), file)
    with pytest.raises(StageError, match=r"network.pth cannot be read as weights .*a state dict saved by torch.save"):
        build(pretrained=str(file))


def test_timms_log_is_left_as_it_was(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("timm.models._builder")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with pytest.raises(StageError):
        build("resnet34", pretrained=str(path))
    build(pretrained=str(path))
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
    assert not caplog.records


WRAPPED = {
    "DataParallel": lambda weights: {f"module.{key}": value for key, value in weights.items()},
    "torch.compile": lambda weights: {f"_orig_mod.{key}": value for key, value in weights.items()},
    "both": lambda weights: {f"module._orig_mod.{key}": value for key, value in weights.items()},
    "a part compiled": lambda weights: {
        key.replace("layer1.", "layer1._orig_mod."): value for key, value in weights.items()
    },
    "AveragedModel": lambda weights: {
        "n_averaged": torch.tensor(3),
        **{f"module.{key}": value for key, value in weights.items()},
    },
    "timm's script": lambda weights: {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1),
        "state_dict": {key: torch.zeros_like(value) for key, value in weights.items()},
        "state_dict_ema": {f"module.{key}": value for key, value in weights.items()},
    },
    "DeiT's script": lambda weights: {
        "model": {key: torch.zeros_like(value) for key, value in weights.items()},
        "model_ema": weights,
    },
    "nested": lambda weights: {"model": {"state_dict": weights}},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("whole", [False, True], ids=["path", "path and sha256"])
def test_a_file_is_taken_however_the_network_was_wrapped_when_it_was_saved(
    whole: bool, wrap: Callable[[dict[str, Tensor]], Any], resnet: dict[str, Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "w.pth"
    torch.save(wrap(resnet), file)
    given = {"path": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()} if whole else str(file)
    found = build(pretrained=given)
    assert len(same({key: value for key, value in found.state_dict().items() if "fc." not in key}, resnet)) == 120
    assert "state_dict" not in found.pretrained_cfg


def test_a_prefix_of_somebodys_own_is_named(resnet: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({f"net.{key}": value for key, value in resnet.items()}, tmp_path / "w.safetensors")
    with pytest.raises(StageError, match=r"it lacks .* of the network's tensors, conv1.weight first"):
        build(pretrained=str(tmp_path / "w.safetensors"))


def test_a_tag_alone_loads_nothing() -> None:
    tagged, plain = build("resnet18.a1_in1k"), build("resnet18")
    assert len(same(tagged.state_dict(), plain.state_dict())) == len(plain.state_dict())
    assert networks.initialisation(tagged, {"network": {"pretrained": False}}) == "from scratch"


# ImageNet weights from the hub


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize("family", ["timm", "hybrid"])
def test_the_hubs_weights_are_taken_and_named(
    monkeypatch: pytest.MonkeyPatch, resnet: dict[str, Tensor], family: str
) -> None:
    asked = []

    def download(model_id: str, **_: Any) -> dict[str, Tensor]:
        asked.append(model_id)
        return dict(resnet)

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", download)
    network = build("resnet18.a1_in1k", family, pretrained=True)
    assert asked == ["timm/resnet18.a1_in1k"]
    found = getattr(network, "features", network).state_dict()
    assert (
        len(same({key: value for key, value in found.items() if not key.startswith("fc.")}, resnet)) == len(resnet) - 2
    )
    config = {"network": {"pretrained": True, "family": family}, "weights_sha256": None}
    wanted = "timm resnet18.a1_in1k" if family == "timm" else "backbone resnet18.a1_in1k, transformer from scratch"
    assert networks.initialisation(network, config) == wanted


REMEDY = (
    r"^params\.yaml: models\.m\.pretrained: the ImageNet weights of {0} cannot be downloaded \(.+\); download"
    r" model\.safetensors from https://huggingface\.co/timm/{1} on another machine and set `pretrained` to that"
    r" file's path, or choose false$"
)


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize("family", ["timm", "hybrid"])
@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("cannot find the requested files in the local cache"),
        OSError("Network is unreachable"),
        ConnectionError("refused"),
        TimeoutError("timed out"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_without_a_network_the_error_says_which_file_to_put_where(
    monkeypatch: pytest.MonkeyPatch, family: str, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", fail)
    with pytest.raises(StageError, match=REMEDY.format("resnet18", "resnet18.a1_in1k")):
        build(family=family, pretrained=True)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("backbone", "source"),
    [
        ("resnet18", "resnet18.a1_in1k"),
        ("resnet18.tv_in1k", "resnet18.tv_in1k"),
        ("vit_small_patch16_224", "vit_small_patch16_224.augreg_in21k_ft_in1k"),
    ],
)
def test_what_the_hub_really_raises_offline_ends_in_the_same_error(backbone: str, source: str) -> None:
    with pytest.raises(StageError, match=REMEDY.format(backbone, source)):
        build(backbone, pretrained=True)


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As where no host answers and nothing was downloaded before; port 9 of this machine refuses."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("unreachable")
def test_an_absent_host_is_asked_once_and_not_for_a_minute() -> None:
    begun = time.perf_counter()
    with pytest.raises(StageError, match=REMEDY.format("resnet18", "resnet18.a1_in1k")):
        build(pretrained=True)
    assert time.perf_counter() - begun < 2 * hub.WAIT


@pytest.mark.usefixtures("unreachable")
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_what_the_cache_holds_is_taken_without_asking_the_hub(
    file: str, resnet: dict[str, Tensor], tmp_path: Path
) -> None:
    repository = tmp_path / "hub/models--timm--resnet18.a1_in1k"
    (repository / "snapshots/abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    if file.endswith("bin"):
        torch.save(resnet, repository / "snapshots/abc" / file)
    else:
        save_file(resnet, repository / "snapshots/abc" / file)
    assert build(pretrained=True).conv1.weight.equal(resnet["conv1.weight"])
    with published("resnet18"):
        pass
    with pytest.raises(StageError, match="cannot be downloaded"), published("resnet18.tv_in1k"):
        pass


@pytest.mark.usefixtures("offline")
def test_the_file_that_the_error_asks_for_is_all_that_it_takes(resnet: dict[str, Tensor], tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(resnet, file)
    assert build(pretrained=str(file)).conv1.weight.equal(resnet["conv1.weight"])


def test_a_backbone_that_nobody_trained_says_so() -> None:
    with pytest.raises(StageError) as fault:
        build("resnet50_mlp", pretrained=True)
    assert str(fault.value) == (
        "params.yaml: models.m.pretrained: timm has no weights of resnet50_mlp; give a file's path or false"
    )
