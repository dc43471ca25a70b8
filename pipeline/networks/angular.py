"""A classifier by angle: logits |x| cos(theta), or s cos(theta), of the angle between features x and a class's weights.

Without bias, the weights' lengths without effect: the head of A-Softmax (Liu et al. 2017, arXiv:1704.08063, eq. 4 with
|W| = 1) and, with a scale s, of ArcFace (Deng et al. 2019, arXiv:1801.07698). The margin itself is the loss's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.base.errors import StageError


class Angular(nn.Module):
    def __init__(self, linear: nn.Linear, scale: float) -> None:
        super().__init__()
        self.weight, self.scale = linear.weight, scale

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, D) -> logits (N, K) in float32: seven bits are too few for an angle."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            cosines = F.linear(F.normalize(x, dim=-1), F.normalize(self.weight.float(), dim=-1))
            return cosines * (self.scale or x.norm(dim=-1, keepdim=True))


def add_angular(network: nn.Module, classes: int, scale: float) -> None:
    """Replace the classifier in place; `scale` 0 keeps the features' lengths."""
    name = classifier_name(network, classes)
    parent, _, child = name.rpartition(".")
    linear = network.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    network.get_submodule(parent)._modules[child] = Angular(linear, scale)


def classifier(network: nn.Module, classes: int) -> nn.Module:
    """The last layer, whose input are the features; raises StageError where it is not linear."""
    return network.get_submodule(classifier_name(network, classes))


def classifier_name(network: nn.Module, classes: int) -> str:
    """The last layer's name."""
    heads = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | Angular)]
    if not heads or len(network.get_submodule(heads[-1]).weight) != classes:  # type: ignore[arg-type]
        raise StageError("train.margin: only a network whose last layer is linear can have a margin or a centre loss")
    return heads[-1]
