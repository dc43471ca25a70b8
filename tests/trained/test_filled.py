"""Channels filled up with zeros: the same logits, all channels in whole blocks, or a refusal that says why."""

import functools
from collections.abc import Sequence
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.images.form import Format
from pipeline.trained.filled import BLOCK, fill
from pipeline.trained.onnx import convert, run, runtime

FORM = Format(whole=12, mean=(0.5,) * 3, std=(0.25,) * 3)
SMALLEST = ("conv 8, dw 12, transition 8, pool", "dw 12, conv 12 skip, pool, dw 15")
FLATTENED = (nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(125, 10))


def tiny(layers: Sequence[str], **techniques: Any) -> nn.Module:
    network = networks.build(
        name="x", family="tiny", layers=layers, in_channels=3, classes=10, image_size=12, seed=0, **techniques
    )
    return unlike_new(network)


def unlike_new(network: nn.Module) -> nn.Module:
    """Statistics and scales of BatchNorm as training leaves them: of a new one, zeros would hide a fault."""
    rng = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                values.copy_(torch.rand(values.shape, generator=rng) + 0.5)
    return network.eval()


NETWORKS = {
    "convolutions": tiny(SMALLEST),
    "techniques": tiny(SMALLEST, bias=True, blurpool=True, squeeze_excite=0.25),
    "flattened": nn.Sequential(*FLATTENED).eval(),
    "normalised": unlike_new(nn.Sequential(*FLATTENED[:-1], nn.BatchNorm1d(125), nn.ReLU(), nn.Linear(125, 10))),
}


@functools.cache
def converted(network: nn.Module) -> Any:
    return convert(network, FORM)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_a_filled_network_gives_the_same_logits(network: nn.Module) -> None:
    images = torch.randn((7, 3, 12, 12), generator=torch.Generator().manual_seed(1))
    plain = converted(network)
    before = plain.SerializeToString()
    filled = fill(plain)
    assert plain.SerializeToString() == before
    onnx.checker.check_model(filled, full_check=True)
    session = runtime(filled.SerializeToString())
    wanted = run(network, images)
    assert wanted.std() > 0.01
    largest = float(abs(wanted).max())
    assert run(session, images) == pytest.approx(wanted, abs=1e-5 * largest)
    assert run(session, images[:1]) == pytest.approx(wanted[:1], abs=1e-5 * largest)


def test_batchnorm_behind_a_flatten_is_filled_for_every_pixel_of_a_channel() -> None:
    """The operation Flatten, which other exporters write where ours has Reshape."""
    model, images = onnx.ModelProto(), torch.randn((7, 3, 12, 12), generator=torch.Generator().manual_seed(1))
    model.CopyFrom(converted(NETWORKS["normalised"]))
    (reshape,) = (node for node in model.graph.node if node.op_type == "Reshape")
    reshape.op_type = "Flatten"
    del reshape.input[1:], reshape.attribute[:]
    wanted = run(NETWORKS["normalised"], images)
    assert run(runtime(fill(model).SerializeToString()), images) == pytest.approx(
        wanted, abs=1e-5 * float(abs(wanted).max())
    )


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_every_convolution_has_channels_in_whole_blocks(network: nn.Module) -> None:
    graph = fill(converted(network)).graph
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    kernels = [shapes[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    assert kernels
    assert all(shape[0] % BLOCK == 0 for shape in kernels)
    assert kernels[0][1] == 3, "images stay as they are"
    assert {*shapes} == {name for node in graph.node for name in node.input if name in shapes}


# Refusals


class Shuffled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(1)


class Computing(nn.Conv2d):
    """As a weight-standardised one whose kernels the exporter leaves to the graph."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * x.std(), None)


class Centred(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean()


@pytest.mark.parametrize(
    ("layers", "fault"),
    [
        ([nn.Conv2d(3, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)], "nothing to fill"),
        ([nn.Conv2d(3, 8, 3), Shuffled(), nn.Flatten(), nn.Linear(800, 10)], "cannot be filled: what Slice makes of"),
        ([nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2)], "cannot be filled: what Conv makes of"),
        ([Computing(3, 8, 3)], "cannot be filled: what Conv makes of"),
        ([nn.Conv2d(3, 8, 3), Centred()], "cannot be filled: what ReduceMean makes of"),
        ([nn.Conv2d(3, 8, 3), nn.Softmax(1)], "cannot be filled: what Softmax makes of"),
        ([nn.Conv2d(3, 8, 3)], "its logits are a convolution's channels"),
    ],
    ids=["whole blocks", "shuffled", "grouped", "computed kernels", "mean of all", "softmax", "no classifier"],
)
def test_what_cannot_be_filled_is_refused(layers: list[nn.Module], fault: str) -> None:
    with pytest.raises(StageError, match=fault):
        fill(convert(nn.Sequential(*layers).eval(), FORM))
