"""AlexNet has the published layers, as many parameters, and its response normalisation is the paper's."""

import pytest
import torch

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.networks.alexnet import response_norm


def test_a_thousand_classes_take_62_million_parameters() -> None:
    """By layer: weights and biases of sec. 3.5, without the split between two GPUs."""
    layers = [(96, 3, 11), (256, 96, 5), (384, 256, 3), (384, 384, 3), (256, 384, 3)]
    wanted = sum(out * (inner * side**2 + 1) for out, inner, side in layers)
    wanted += sum(out * (inner + 1) for out, inner in ((4096, 256 * 36), (4096, 4096), (1000, 4096)))
    with torch.device("meta"):
        from pipeline.networks.alexnet import AlexNet

        network = AlexNet(1000)
        assert network(torch.zeros(2, 3, 224, 224)).shape == (2, 1000)
        assert network.features[:-1](torch.zeros(1, 3, 224, 224)).shape[1:] == (256, 6, 6)
        assert network.features[:-1](torch.zeros(1, 3, 227, 227)).shape[1:] == (256, 6, 6)
    assert sum(parameter.numel() for parameter in network.parameters()) == wanted == 62_378_344


def test_response_normalisation_is_the_papers_formula() -> None:
    activations = 20 * torch.rand(1, 9, 2, 2, generator=torch.Generator().manual_seed(0))
    wanted = torch.empty_like(activations)
    for i in range(9):
        near = activations[:, max(0, i - 2) : min(8, i + 2) + 1]
        wanted[:, i] = activations[:, i] / (2 + 1e-4 * near.square().sum(1)) ** 0.75
    torch.testing.assert_close(response_norm()(activations), wanted)


@pytest.mark.parametrize(
    ("settings", "message"), [({"image_size": 32}, "63 pixels"), ({"pretrained": True}, "family: torchvision")]
)
def test_what_alexnet_cannot_do_is_said_before_it_is_built(settings: dict, message: str) -> None:
    with pytest.raises(StageError, match=message):
        networks.build("alexnet", **{"name": "alex", "classes": 10, "image_size": 224, "seed": 0, **settings})
