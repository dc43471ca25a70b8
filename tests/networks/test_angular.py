"""A classifier by angle stands where the linear one stood, with its weights, and looks at directions alone."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from pipeline.base.errors import StageError
from pipeline.networks.angular import Angular, add_angular, classifier
from tests.networks.test_blurpool import HYBRID, RESNET, TINY, VIT, build, pictures

CBAM = {"family": "cbam_resnet", "width": 2}


def inputs(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Features and logits of some pictures."""
    kept: list[Tensor] = []
    hook = classifier(network, 5).register_forward_pre_hook(lambda _, x: kept.append(x[0]))
    with torch.no_grad():
        logits = network.eval()(pictures())
    hook.remove()
    return kept[0], logits


@pytest.mark.parametrize("model", [TINY, RESNET, HYBRID, VIT, CBAM], ids=["tiny", "resnet", "hybrid", "vit", "cbam"])
@pytest.mark.parametrize("scale", [0.0, 30.0])
def test_logits_are_cosines_times_the_length_or_the_scale(model: dict[str, Any], scale: float) -> None:
    plain, network = build(model), build(model, angular=scale)
    linear = classifier(plain, 5)
    assert isinstance(linear, nn.Linear)
    features, logits = inputs(network)
    cosines = F.cosine_similarity(features[:, None], linear.weight[None], dim=-1)
    assert_close(logits, cosines * (scale or features.norm(dim=1, keepdim=True)), atol=1e-5, rtol=1e-4)
    names = {name for name in plain.state_dict() if not name.endswith(".bias")}
    assert names <= set(network.state_dict()) <= set(plain.state_dict())


def test_the_lengths_of_weights_and_features_do_not_change_the_class() -> None:
    layer = Angular(nn.Linear(6, 4), 0.0)
    x = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
    before = layer(x)
    with torch.no_grad():
        layer.weight *= torch.tensor([[1.0], [2.0], [30.0], [0.1]])
    assert_close(layer(x), before)
    assert_close(layer(7 * x), 7 * before)


def test_it_computes_in_float32_under_autocast() -> None:
    layer, x = Angular(nn.Linear(6, 4), 0.0), torch.randn(9, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(x)
    assert_close(found, layer(x), atol=0, rtol=0)


@pytest.mark.parametrize("network", [nn.Conv2d(3, 5, 1), nn.Sequential(nn.Linear(3, 8), nn.Conv2d(8, 5, 1))], ids=str)
def test_a_network_without_a_linear_end_is_refused(network: nn.Module) -> None:
    with pytest.raises(StageError, match="only a network whose last layer is linear"):
        add_angular(network, 5, 0.0)
