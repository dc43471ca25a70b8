"""The tiny CNNs have the layers they name and the parameters of the paper's tables."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from torch import nn
from torch.testing import assert_close

from pipeline import networks
from pipeline.base.errors import StageError

ROOT = Path(__file__).parents[2]
PUBLISHED = {  # Ethiraj and Bolla 2022, Tables 1 and 2
    "mnist_efficient": {"cnn_25k": 25_144, "cnn_7k": 7_767, "dw_7k": 7_611, "cnn_5k": 5_712, "dw_5k": 5_616}
    | {"dw_1k5": 1_560},
    "cifar10_efficient": {"cnn_143k": 143_208, "dw_143k": 143_396},
}


def build(*layers: str, **settings: Any) -> nn.Module:
    given = {"name": "m", "classes": 5, "image_size": 16, "seed": 0, "layers": layers}
    return networks.build("tiny", **{**given, **settings})


def pictures(channels: int = 3, size: int = 16) -> torch.Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("blurpool", [False, True])
@pytest.mark.parametrize(
    ("study", "name", "count"), [(study, *row) for study, models in PUBLISHED.items() for row in models.items()]
)
def test_the_papers_networks_have_the_papers_parameters(study: str, name: str, count: int, blurpool: bool) -> None:
    settings = YAML(typ="safe").load(ROOT / "studies" / study / "params.yaml")
    model = {key: value for key, value in settings["models"][name].items() if key not in ("train", "augment")}
    given = {"name": name, "classes": 10, "image_size": settings["dataset"]["image_size"], "seed": 0}
    assert parameters(networks.build(**given, **{**model, "blurpool": blurpool})) == count


def test_parameters_agree_with_a_count_by_hand() -> None:
    conv = 9 * 3 * 8 + 2 * 8
    separable = 9 * 8 + 8 * 12 + 2 * 12
    transition, head = 12 * 6, 6 * 5
    layers = ("conv 8", "pool", "dw 12", "transition 6")
    assert parameters(build(*layers)) == conv + separable + transition + head
    assert parameters(build(*layers, bias=True)) == conv + separable + transition + head + 8 + (8 + 12) + 6
    assert parameters(build(*layers, in_channels=1)) == conv - 9 * 2 * 8 + separable + transition + head


def test_it_is_the_network_written_out_in_torchs_layers() -> None:
    network = build("conv 8", "dw 12", "transition 6", "pool", "conv 10")
    written = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 12, 1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 6, 1, bias=False),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 10, 3, padding=1, bias=False),
        nn.BatchNorm2d(10),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(10, 5, bias=False),
    )
    written.load_state_dict(dict(zip(written.state_dict(), network.state_dict().values(), strict=True)))
    assert_close(network.train()(pictures()), written.train()(pictures()))
    assert network(pictures()).shape == (2, 5)


@pytest.mark.parametrize("kind", ["conv", "dw"])
def test_a_skip_adds_the_layers_input_before_the_relu_and_no_parameter(kind: str) -> None:
    plain, skipping = build("conv 8", f"{kind} 8"), build("conv 8", f"{kind} 8 skip")
    assert parameters(skipping) == parameters(plain)
    x = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    before = x.clone()
    layer, oracle = skipping[1], plain[1]
    assert_close(layer(x), torch.relu(oracle.norm(oracle.conv(x)) + x))
    assert x.equal(before)
    nn.init.zeros_(layer.norm.weight)
    assert_close(layer(x), torch.relu(x)), "where the layer gives nothing, its input is what is left"


def test_dropout_lies_before_the_classifier_and_only_in_training() -> None:
    network = build("conv 8", dropout=0.5)
    assert isinstance(network[-2], nn.Dropout)
    assert_close(network.eval()(pictures()), build("conv 8")(pictures()))
    assert not network.train()(pictures()).equal(network(pictures()))


@pytest.mark.parametrize("in_channels", [1, 3])
def test_the_images_channels_are_those_asked_for(in_channels: int) -> None:
    network = build("dw 8", in_channels=in_channels)
    assert networks.channels(network) == in_channels
    assert network(pictures(in_channels)).shape == (2, 5)


def test_one_seed_gives_one_network_and_another_another() -> None:
    first, again, other = build("conv 8", seed=3), build("conv 8", seed=3), build("conv 8", seed=4)
    assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert not first[0].conv.weight.equal(other[0].conv.weight)


def test_initialisation_is_from_scratch() -> None:
    assert networks.initialisation(build("conv 8"), {"network": {"pretrained": False}}) == "from scratch"


@pytest.mark.parametrize(
    ("layers", "settings", "fault"),
    [
        (
            ("conv 8", "conv 12 skip"),
            {},
            "layers: 'conv 12 skip' follows 8 channels; a skip needs as many in as out",
        ),
        (("dw 8 skip",), {}, "layers: 'dw 8 skip' follows 3 channels; a skip needs as many in as out"),
        (("conv 8", *["pool"] * 5), {}, "layers: more pools than images of 16 pixels can be halved"),
        (("conv 8",), {"pretrained": True}, "pretrained: a tiny network has no published weights; choose false"),
        (("conv 8",), {"pretrained": "a.pth"}, "pretrained: a tiny network has no published weights; choose false"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(layers: tuple[str, ...], settings: dict, fault: str) -> None:
    with pytest.raises(StageError) as found:
        build(*layers, **settings)
    assert str(found.value) == f"params.yaml: models.m.{fault}"


def test_as_many_pools_as_halve_the_image_to_one_pixel_are_taken() -> None:
    assert build("conv 8", *["pool"] * 4)(pictures()).shape == (2, 5)
