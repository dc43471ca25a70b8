"""Losses that look at features beside logits: centres of classes, margins, and their own learning rates."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.networks.angular import classifier
from pipeline.training.losses.a_softmax import a_softmax_logits, annealed
from pipeline.training.losses.arcface import arcface_logits
from pipeline.training.losses.center import Centers


class Extras:
    """What a loss takes from the features, the input of the classifier: a margin on the logits, a pull to the centres.

    The centres are its only state. A network that is trained with a margin has a classifier by angle.
    """

    def __init__(self, network: nn.Module, protocol: dict[str, Any], classes: int) -> None:
        self.protocol, self.step = protocol, 0
        self.features = torch.empty(0)  # (N, D) of the last forward pass
        self.centers = Centers(classes)
        classifier(network, classes).register_forward_pre_hook(self._keep)

    @staticmethod
    def wanted(protocol: dict[str, Any]) -> bool:
        return protocol["margin"] != "none" or protocol["center_loss"] > 0

    def _keep(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0].float()

    def around(self, loss_of: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        def extended(logits: Tensor, labels: Tensor) -> Tensor:
            loss = loss_of(self.margin(logits, labels), labels)
            if weight := self.protocol["center_loss"]:
                loss = loss + weight * self.centers.loss(self.features, labels)
            return loss

        return extended

    def margin(self, logits: Tensor, labels: Tensor) -> Tensor:
        """logits (N, K) with the margin that the protocol names."""
        m = self.protocol["margin_m"]
        if self.protocol["margin"] == "a_softmax":
            weight = annealed(self.step, self.protocol["margin_floor"])
            return a_softmax_logits(logits, self.features.norm(dim=1), labels, int(m), weight)
        if self.protocol["margin"] == "arcface":
            return arcface_logits(logits, labels, m, self.protocol["margin_scale"])
        return logits

    def update(self, labels: Tensor) -> None:
        """Move the centres, once a step, by the features of its first forward pass."""
        if self.protocol["center_loss"]:
            self.centers.update(self.features.detach(), labels)
