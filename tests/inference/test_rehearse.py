"""What only timm knows to be wrong is said by check, before any work, and found out once."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import save_file

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.inference import rehearse as rehearsal
from pipeline.inference.rehearse import digest as rehearse_digest
from pipeline.inference.rehearse import keep, rehearse
from pipeline.networks import hub
from pipeline.params import faults
from pipeline.params.read import load_params
from pipeline.params.study import Params
from pipeline.stages import check

ROOT = Path(__file__).parents[2]
RESNET = {"family": "timm", "backbone": "resnet18"}
VIT = {"family": "timm", "backbone": "vit_small_patch16_224"}
HYBRID = {"family": "hybrid", "backbone": "resnet18"}
TORCHVISION = {"family": "torchvision", "backbone": "resnet18"}
TINY = {"family": "tiny", "layers": ["conv 8"]}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own, in which nothing was built yet and no weights were downloaded."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def content(**models: dict[str, Any]) -> Any:
    found = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return found | {"models": models}


def study(**models: dict[str, Any]) -> Params:
    return faults.parse(content(**models))


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    (RESNET | {"backbone": "resnet19"}, ".backbone: timm has no 'resnet19'; did you mean resnet18 or "),
    (RESNET | {"backbone": "hf_hub:timm/resnet18.a1_in1k"}, ".backbone: got 'hf_hub:timm/resnet18.a1_in1k'; wanted a"),
    (RESNET | {"backbone": "local-dir:/tmp"}, ".backbone: got 'local-dir:/tmp'; wanted a name of timm's own list"),
    (RESNET | {"backbone": "resnet18.a1"}, ".backbone: timm has no weights 'a1' of resnet18; "),
    (HYBRID | {"backbone": "resnet19"}, ".backbone: timm has no 'resnet19'; did you mean resnet18 or "),
    (TORCHVISION | {"backbone": "resnet19"}, ".backbone: torchvision has no 'resnet19'; did you mean resnet18 or "),
    (RESNET | {"args": {"act_layer": "nonsense"}}, ".args.act_layer: timm knows no 'nonsense'"),
    (VIT | {"args": {"norm_layer": "nonsense"}}, ".args.norm_layer: timm knows no 'nonsense'"),
    (RESNET | {"args": {"chanels": [8, 8, 8, 8]}}, ": cannot be built for images of 32 pixels: ResNet.__init__() got"),
    (RESNET | {"args": {"block_args": 3}}, ": cannot be built for images of 32 pixels: "),
    (RESNET | {"args": {"in_chans": 2}}, ".args.in_chans: got 2; choose 1 for grey images or 3 for colour"),
    (RESNET | {"args": {"pruned": True}}, ": cannot be built for images of 32 pixels: FileNotFoundError"),
    (RESNET | {"backbone": "vgg11", "drop_path": 0.1}, ": cannot be built for images of 32 pixels: "),
    (RESNET | {"backbone": "inception_v3"}, ": cannot be built for images of 32 pixels: Calculated padded input"),
    (VIT | {"args": {"embed_dim": 97}}, ": cannot be built for images of 32 pixels: "),
    (VIT | {"args": {"global_pool": "", "num_heads": 6}}, ".args: the network gives (1, 5, 7) where logits (1, 7)"),
    (HYBRID | {"feature_level": 9}, ".feature_level: resnet18 has no level 9; choose a smaller one"),
    (HYBRID | {"token_grid": 64}, ": cannot be built for images of 32 pixels: token_grid 64 is more than the feature"),
    (TORCHVISION | {"backbone": "vit_b_16"}, ": cannot be built for images of 32 pixels: Wrong image height!"),
    (TORCHVISION | {"backbone": "googlenet"}, ".args: the network gives a GoogLeNetOutputs in training where logits"),
    ({"family": "alexnet"}, ": cannot be built for images of 32 pixels: alexnet needs 63 pixels or more"),
    ({"family": "alexnet", "pretrained": True}, ": cannot be built for images of 32 pixels: alexnet has no weights"),
    ({"family": "cbam_resnet", "augment": {"crop_size": 12}}, ".family: a cbam_resnet needs images of 25 pixels"),
    (TINY | {"layers": ["conv 8, conv 9 skip"]}, ".layers: 'conv 9 skip' follows 8 channels; a skip needs as many"),
    (TINY | {"layers": ["pool, pool, pool, pool, pool, pool"]}, ".layers: more pools than images of 32 pixels can be"),
    (TINY | {"blurpool": True}, ".blurpool: this network has neither max-pools nor strided convolutions to blur"),
    (TINY | {"pretrained": True}, ".pretrained: a tiny network has no published weights; choose false"),
    (VIT | {"squeeze_excite": 0.5}, ".squeeze_excite: this network has no convolutions to follow; choose 0"),
    (
        TORCHVISION | {"backbone": "squeezenet1_1", "train": {"center_loss": 0.1}},
        ".train.margin: only a network whose last layer is linear can have a margin or a centre loss",
    ),
    (
        TORCHVISION | {"backbone": "squeezenet1_1", "train": {"tune": "head"}},
        ".train.tune: only a network whose last layer is linear has a head to train; choose full",
    ),
    (RESNET | {"pretrained": "nowhere.pth"}, ".pretrained: no file 'nowhere.pth'; give a path from the study's folder"),
    (
        RESNET | {"pretrained": {"path": "nowhere.pth", "sha256": "0" * 64}},
        ".pretrained: no file 'nowhere.pth'; give a",
    ),
    (RESNET | {"pretrained": True}, ".pretrained: the ImageNet weights of resnet18 cannot be downloaded ("),
    (RESNET | {"backbone": "resnet50_mlp", "pretrained": True}, ".pretrained: timm has no weights of resnet50_mlp; "),
)


@pytest.mark.parametrize(("model", "told"), WRONG, ids=lambda value: str(value)[:60])
def test_what_a_training_would_stumble_over_is_said_before_any_work(model: dict[str, Any], told: str) -> None:
    with pytest.raises(StageError) as fault:
        rehearse(study(m=model))
    assert str(fault.value).startswith(f"params.yaml: models.m{told}")
    assert "\n" not in str(fault.value)


RIGHT: tuple[dict[str, Any], ...] = (
    RESNET | {"backbone": "resnet18.a1_in1k", "args": {"act_layer": "silu"}},
    RESNET | {"args": {"in_chans": 1}, "train": {"tune": "head"}},
    RESNET | {"backbone": "regnetx_002", "blurpool": True, "squeeze_excite": 0.25},
    VIT | {"args": {"patch_size": 7}, "train": {"center_loss": 0.1}},
    HYBRID | {"pool": "class_token", "token_grid": 2, "feature_level": 3},
    TORCHVISION | {"backbone": "googlenet", "args": {"aux_logits": False}},
    {"family": "cbam_resnet", "train": {"margin": "arcface", "margin_m": 0.5}},
    TINY | {"in_channels": 1},
)


@pytest.mark.parametrize("model", RIGHT, ids=lambda value: str(value)[:60])
def test_what_can_be_trained_is_taken(model: dict[str, Any]) -> None:
    rehearse(study(m=model))


def test_every_wrong_model_is_named_and_the_right_ones_are_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = RESNET | {"backbone": "resnet19"}
    with pytest.raises(StageError) as fault:
        rehearse(study(a=wrong, b=TINY, c=wrong))
    lines = str(fault.value).splitlines()
    assert [line.split(":")[1] for line in lines] == [" models.a.backbone", " models.c.backbone"]
    built = []
    monkeypatch.setattr(rehearsal, "build", lambda _, name: built.append(name))
    rehearse(study(a=TINY | {"layers": ["conv 4"]}, b=TINY))
    assert built == ["a"]
    rehearse(study(z=TINY, a=TINY | {"layers": ["conv 4"]}))
    assert built == ["a"]


@pytest.mark.parametrize(
    "change",
    [{"image_size": 64}, {"crop_size": 24}, {"dropout": 0.5}, {"tune": "head"}, {"timm": "9.9.9"}, {"code": True}],
    ids=str,
)
def test_what_decides_whether_it_can_be_built_is_noticed(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = rehearse_digest(study(m=TINY), "m")
    assert before == rehearse_digest(study(m=TINY | {"train": {"lr": 0.5}}), "m")  # which decides nothing here
    found = content(m=TINY)
    (key, value), *_ = change.items()
    if key == "image_size":
        found["dataset"][key] = value
    elif key == "crop_size":
        found["augment"][key] = value
    elif key == "tune":
        found["models"]["m"] = TINY | {"train": {"tune": value}}
    elif key == "timm":
        monkeypatch.setattr(rehearsal, "version", lambda _: value)
    elif key == "code":
        (tmp_path / "new.py").write_text("")
        monkeypatch.setattr(rehearsal, "sources", lambda: (tmp_path / "new.py",))
    else:
        found["models"]["m"] = TINY | {key: value}
    assert rehearse_digest(faults.parse(found), "m") != before


def test_a_file_of_weights_must_fit_and_is_looked_at_again_when_it_changes(tmp_path: Path) -> None:
    network = networks.build("tiny", name="m", layers=["conv 8"], classes=3, image_size=32, seed=1)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    digest = hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    model = TINY | {"pretrained": {"path": "w.safetensors", "sha256": digest}}
    rehearse(study(m=model))
    save_file({"other": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(StageError, match=r"models\.m\.pretrained: w\.safetensors has SHA-256"):
        rehearse(study(m=model))


@pytest.mark.parametrize("state", ["", "{}", "[1, 2", "[null]"])
def test_a_damaged_state_costs_a_build_and_no_error(state: str, checkout: Path) -> None:
    (checkout / ".versus").mkdir()
    (checkout / ".versus/networks.json").write_text(state)
    rehearse(study(m=TINY))
    assert rehearse_digest(study(m=TINY), "m") in json.loads((checkout / ".versus/networks.json").read_text())


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("mnist", {"train": {"targets": "votes"}}, "models.m: train.targets: mnist has no votes; choose labels"),
        ("folder", {"train": {"targets": "votes"}}, "models.m: train.targets: folder has no votes; choose labels"),
        ("fer2013", {"train": {"targets": "votes"}}, ""),
        (
            "digits",
            {"augment": {"test_crops": 2}},
            "models.m: augment.test_crops: 2 shows mirror images, which change the",
        ),
        ("mnist", {"augment": {"test_crops": 10, "crop_size": 24}}, "models.m: augment.test_crops: 10 shows mirror"),
        ("cifar10", {"augment": {"test_crops": 2}}, ""),
        ("digits", {"augment": {"test_crops": 5, "crop_size": 24}}, ""),
        ("caltech256", {"folds_by": "subject"}, "split.folds_by: caltech256 does not say who is in its images; choose"),
        ("jaffe", {"folds_by": "subject"}, ""),
    ],
    ids=str,
)
def test_what_no_source_of_a_data_set_has_is_not_asked_of_it(name: str, settings: dict[str, Any], told: str) -> None:
    found = content(m=TINY | {key: value for key, value in settings.items() if key != "folds_by"})
    found["dataset"] |= {"name": name, "source": "x"}
    found["split"] |= {"folds": 5, "folds_by": "subject"} if "folds_by" in settings else {}
    asked = faults.parse(found)
    if not told:
        check.refuse_what_the_data_lack(asked)
        return
    with pytest.raises(StageError) as fault:
        check.refuse_what_the_data_lack(asked)
    assert str(fault.value).startswith(f"params.yaml: {told}")


def test_checking_what_was_found_in_order_imports_no_torch(checkout: Path) -> None:
    """It is part of every `dvc repro`, with nothing to do too."""
    shutil.copy(ROOT / "params.yaml", checkout)
    found = load_params()
    keep([rehearse_digest(found, name) for name in found.models])
    heavy = "{'torch', 'timm'} & set(sys.modules)"
    code = f"import sys; from pipeline.stages import check; check.main(); sys.exit(bool({heavy}))"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
