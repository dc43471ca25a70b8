"""Weights of a whole network, {path, sha256}: the bytes are those, the shapes fit, other classes do no harm."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

from pipeline import networks
from pipeline.base.errors import StageError
from tests.networks.test_blurpool import HYBRID, RESNET, TINY, VIT

CBAM = {"family": "cbam_resnet", "width": 2}
MODELS = {"tiny": TINY, "resnet": RESNET, "hybrid": HYBRID, "vit": VIT, "cbam": CBAM}


def build(model: dict[str, Any] = CBAM, seed: int = 0, classes: int = 5, **settings: Any) -> nn.Module:
    return networks.build(name="m", classes=classes, image_size=64, seed=seed, **{**model, **settings})


def saved(path: Path, weights: dict[str, Tensor]) -> dict[str, str]:
    """{path, sha256} of a new file."""
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return known(path)


def known(path: Path) -> dict[str, str]:
    return {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_family_takes_a_whole_networks_weights(model: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    other = build(model, seed=9)
    found = build(model, pretrained=saved(tmp_path / f"w.{suffix}", other.state_dict()))
    assert_close(found.state_dict(), other.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_classifier_of_other_classes_is_left_fresh(model: dict[str, Any], tmp_path: Path) -> None:
    other, fresh = build(model, seed=9, classes=3).state_dict(), build(model).state_dict()
    found = build(model, pretrained=saved(tmp_path / "w.safetensors", other)).state_dict()
    heads = {key for key in fresh if fresh[key].shape != other[key].shape}
    assert 1 <= len(heads) <= 2
    for key, value in found.items():
        assert_close(value, fresh[key] if key in heads else other[key], atol=0, rtol=0)


@pytest.mark.parametrize(("before", "after"), [(None, 0.0), (0.0, None), (0.0, 0.0)])
def test_a_linear_classifier_and_one_by_angle_take_each_others_weights(
    before: float | None, after: float | None, tmp_path: Path
) -> None:
    other = build(seed=9, angular=before).state_dict()
    found = build(pretrained=saved(tmp_path / "w.safetensors", other), angular=after).state_dict()
    for key, value in found.items():
        assert_close(value, other.get(key, torch.zeros(5)), atol=0, rtol=0)


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    given = saved(tmp_path / "w.safetensors", build().state_dict())
    with pytest.raises(StageError) as fault:
        build(pretrained={**given, "sha256": "0" * 64})
    path, digest = given["path"], given["sha256"]
    wanted = f"models.m.pretrained: {path} has SHA-256 {digest}, not {'0' * 64}; give its own, or get the other file"
    assert str(fault.value) == f"params.yaml: {wanted}"


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(StageError, match=r"models\.m\.pretrained: no file 'nowhere/w\.safetensors'; give a path from"):
        build(pretrained={"path": "nowhere/w.safetensors", "sha256": "0" * 64})


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        ({"width": 4}, r"0\.weight is \(4, 3, 3, 3\) there and \(2, 3, 3, 3\) here"),
        ({"attention": "none"}, r"it lacks 3\.gate\.channel\.squeeze\.weight \(1, 2\)"),
        ({"squeeze_excite": 0.5}, r"it lacks 0\.weight \(2, 3, 3, 3\)"),
    ],
    ids=str,
)
def test_a_file_of_another_network_is_refused_by_its_first_tensor(
    other: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    given = saved(tmp_path / "w.safetensors", build(**other).state_dict())
    with pytest.raises(StageError, match=rf"pretrained: .*w\.safetensors does not fit this network: {fault}"):
        build(pretrained=given)


def test_a_file_of_a_larger_network_is_refused(tmp_path: Path) -> None:
    given = saved(tmp_path / "w.pt", build().state_dict())
    with pytest.raises(StageError, match=r"it has 3\.gate\.channel\.squeeze\.weight \(1, 2\), which this network"):
        build(pretrained=given, attention="none")


class Harmful:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("harmed"),))


@pytest.mark.parametrize("content", [b"", b"no weights", None], ids=["empty", "text", "code"])
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_what_holds_no_weights_is_refused_and_never_run(
    content: bytes | None, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"w.{suffix}"
    if content is None:
        torch.save({"weight": Harmful()}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(StageError, match=rf"w\.{suffix} cannot be read as weights \("):
        build(pretrained=known(path))
    assert not Path("harmed").exists()


def test_in_a_copy_that_dvc_made_the_file_is_found_in_the_original_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    copy = home / ".dvc/tmp/exps/queue0"
    for place in (home, copy):
        (place / ".git").mkdir(parents=True)
        (place / "studies/jaffe").mkdir(parents=True)
    (home / "studies/fer/models").mkdir(parents=True)
    other = build(seed=9).state_dict()
    given = saved(home / "studies/fer/models/w.safetensors", other)
    monkeypatch.chdir(copy / "studies/jaffe")
    found = build(pretrained={**given, "path": "../fer/models/w.safetensors"}).state_dict()
    assert_close(found, other, atol=0, rtol=0)
