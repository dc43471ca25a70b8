"""BlurPool replaces what samples down, keeps every size, and makes a shift by a pixel matter less."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.networks.blurpool import Float32, add_blurpool

TINY = {"family": "tiny", "layers": ("conv 16", "pool", "dw 16", "pool", "conv 16")}
RESNET = {"family": "timm", "backbone": "resnet18", "args": {"channels": [8, 8, 16, 16]}}
HYBRID = {**RESNET, "family": "hybrid", "feature_level": 3, "dim": 24, "depth": 1, "heads": 2}
VIT = {"family": "timm", "backbone": "vit_small_patch16_224"}
VIT["args"] = {"patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}


def build(model: dict[str, Any], **settings: Any) -> nn.Module:
    return networks.build(name="m", classes=5, image_size=64, seed=0, **{**model, **settings})


def pictures(size: int = 64) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def sizes(network: nn.Module) -> list[tuple[int, ...]]:
    """The shape that comes out of each convolution, in order."""
    found: list[tuple[int, ...]] = []
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [
        module.register_forward_hook(lambda *parts: found.append(tuple(parts[2].shape))) for module in convolutions
    ]
    with torch.no_grad():
        network(pictures())
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(("model", "blurs"), [(TINY, 2), (RESNET, 3), (HYBRID, 1)], ids=["tiny", "resnet", "hybrid"])
def test_every_size_stays_and_no_parameter_is_added(model: dict[str, Any], blurs: int) -> None:
    """In this thin ResNet18: the max-pool and, where 16 channels go in, the last stage's two strided convolutions."""
    plain, blurred = build(model), build(model, blurpool=True)
    assert sum(isinstance(module, Float32) for module in blurred.modules()) == blurs
    assert sizes(blurred) == sizes(plain)
    assert blurred(pictures()).shape == (2, 5)
    assert not blurred(pictures()).allclose(plain(pictures()))
    assert_close(list(blurred.parameters()), list(plain.parameters()), rtol=0, atol=0)
    assert len(blurred.state_dict()) == len(plain.state_dict())


@pytest.mark.parametrize(("kernel", "padding"), [(2, 0), (3, 1)])
@pytest.mark.parametrize("side", [7, 8, 28])
def test_a_blurred_pool_gives_the_size_that_the_pool_gave(side: int, kernel: int, padding: int) -> None:
    pool = nn.Sequential(nn.MaxPool2d(kernel, 2, padding))
    wanted = pool(pictures(side)).shape
    add_blurpool(pool)
    assert pool(pictures(side)).shape == wanted


def test_the_papers_example_of_a_signal_and_its_shift() -> None:
    """Figure 2 of Zhang: 0 0 1 1 ... pools to 0 1 0 1, shifted to 1 1 1 1; blurred to 1/2 1 and to 3/4 3/4."""
    signal = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(4)
    pair = torch.stack([signal, signal.roll(-1)])[:, None, None].expand(2, 1, 16, 16)
    pool = nn.Sequential(nn.MaxPool2d(2))
    assert pool(pair)[:, 0, 4, 2:6].tolist() == [[0, 1, 0, 1], [1, 1, 1, 1]]
    add_blurpool(pool)
    assert pool(pair)[:, 0, 4, 2:6].tolist() == [[0.5, 1, 0.5, 1], [0.75, 0.75, 0.75, 0.75]]


@pytest.mark.parametrize("model", [TINY, RESNET], ids=["tiny", "resnet"])
def test_a_shift_by_one_pixel_changes_the_features_less(model: dict[str, Any]) -> None:
    """The share of the features' variance that comes of a shift, over 32 smooth images."""
    smooth = nn.functional.avg_pool2d(torch.randn(32, 3, 70, 70, generator=torch.Generator().manual_seed(0)), 5, 1)

    def change(network: nn.Module) -> float:
        features = nn.Sequential(*list(network.children())[: 5 if model is TINY else 4])  # up to the last pool
        with torch.no_grad():
            here, there = features(smooth[..., :-2, :-2]), features(smooth[..., 1:-1, 1:-1])
        return ((here - there).pow(2).mean() / here.var()).item()

    assert change(build(model, blurpool=True)) < 0.8 * change(build(model))


def test_a_strided_convolution_sees_its_input_through_a_binomial_blur() -> None:
    conv = nn.Conv2d(16, 4, 3, stride=2, padding=1)
    network = nn.Sequential(conv)
    add_blurpool(network)
    x = torch.randn(1, 16, 9, 9, generator=torch.Generator().manual_seed(0))
    kernel = torch.tensor([0.25, 0.5, 0.25])
    wide = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    blurred = nn.functional.conv2d(wide, (kernel[:, None] * kernel).expand(16, 1, 3, 3), groups=16)
    assert_close(network(x), conv(blurred))
    assert_close(network(torch.ones(1, 16, 9, 9)), conv(torch.ones(1, 16, 9, 9))), "a blur leaves what is even"


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(8, 16, 3, stride=2),
        nn.Conv2d(16, 16, 3),
        nn.Conv2d(16, 16, 4, stride=4),
        nn.MaxPool2d(3, stride=1),
        nn.AvgPool2d(2),
    ],
    ids=["few channels", "no stride", "patches", "dense pool", "average pool"],
)
def test_what_does_not_sample_down_or_is_no_such_layer_is_left_alone(module: nn.Module) -> None:
    network = nn.Sequential(module, nn.MaxPool2d(2))
    add_blurpool(network)
    assert network[0] is module
    with pytest.raises(StageError, match=r"^blurpool: this network has neither max-pools nor strided convolutions"):
        add_blurpool(nn.Sequential(module))


def test_a_network_without_anything_to_blur_is_refused_in_one_line() -> None:
    with pytest.raises(StageError) as fault:
        build(VIT, blurpool=True)
    assert str(fault.value) == (
        "params.yaml: models.m.blurpool: this network has neither max-pools nor strided convolutions to blur;"
        " choose false"
    )


def test_the_blur_is_computed_in_float32_whatever_the_precision_around_it() -> None:
    network = build(TINY, blurpool=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = network[0](pictures())
        assert network[1](x).dtype == torch.float32
        assert network[2].conv(network[1](x)).dtype == torch.bfloat16
    assert_close(network[1](x), network[1](x.float()), rtol=0, atol=0)
