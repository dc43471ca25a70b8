"""Any timm network as it comes: pooled features, dropout and a linear head."""

from typing import Any

from torch import nn

from pipeline.networks.backbone import create


def build(
    *,
    backbone: str,
    classes: int,
    image_size: int,
    pretrained: bool | str = False,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    args: dict[str, Any] | None = None,
) -> nn.Module:
    """Images (N, 3, image_size, image_size) -> logits (N, classes)."""
    regularisation = {"drop_rate": dropout, "drop_path_rate": drop_path}
    used = {key: value for key, value in regularisation.items() if value > 0}  # not every network takes both
    return create(
        backbone, image_size=image_size, pretrained=pretrained, num_classes=classes, **{**used, **(args or {})}
    )
