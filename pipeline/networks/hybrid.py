"""CNN-Transformer hybrid (Qubtan et al. 2026, section 3.4): a CNN's feature map as the tokens of a transformer.

Feature map -> 1x1 convolution to `dim` -> tokens -> transformer encoder -> pooling -> linear head. The encoder's
blocks are timm's ViT blocks (pre-norm, GELU), closed by a LayerNorm. The paper's open questions are settings: the level
that the tokens come from, their number, depth, width, heads and pooling.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from pipeline.base.errors import StageError
from pipeline.networks.backbone import create


def build(
    *,
    backbone: str,
    classes: int,
    image_size: int,
    pretrained: bool | str = False,
    feature_level: int = 4,
    args: dict[str, Any] | None = None,
    **settings: Any,
) -> nn.Module:
    """Images (N, 3, image_size, image_size) -> logits (N, classes); `settings` are those of Hybrid."""
    try:
        features = create(
            backbone,
            image_size=image_size,
            pretrained=pretrained,
            features_only=True,
            out_indices=(feature_level,),
            **(args or {}),
        )
    except (IndexError, AssertionError) as error:
        if isinstance(error, AssertionError) and "feature index" not in str(error):
            raise
        raise StageError(f"feature_level: {backbone} has no level {feature_level}; choose a smaller one") from error
    info: Any = features.feature_info
    return Hybrid(features, info.channels()[-1], classes, **settings)


class Hybrid(nn.Module):
    def __init__(
        self,
        features: nn.Module,
        channels: int,
        classes: int,
        *,
        dim: int = 256,
        depth: int = 4,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        token_grid: int | None = None,
        pool: str = "attention",
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        """`features` gives a list whose last entry is the map (N, channels, H, W), as timm's `features_only` networks.

        `token_grid` pools that map to so many tokens a side.
        """
        super().__init__()
        self.features = features
        self.project = nn.Conv2d(channels, dim, kernel_size=1)
        self.token_grid = token_grid
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim)) if pool == "class_token" else None
        self.position = nn.UninitializedParameter()  # (1, T, dim), sized by the first forward pass
        self.position_dropout = nn.Dropout(dropout)
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.Sequential(
            *(
                Block(dim, heads, mlp_ratio=mlp_ratio, qkv_bias=True, proj_drop=dropout, drop_path=rate)
                for rate in rates
            )
        )
        self.norm = nn.LayerNorm(dim)
        self.pool = pool
        self.score = nn.Linear(dim, 1) if pool == "attention" else None
        self.head_dropout = nn.Dropout(dropout)
        self.head = nn.Linear(dim, classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.tokens(self.features(images)[-1])  # (N, T, D)
        tokens = self.norm(self.blocks(self.position_dropout(tokens + self._position(tokens))))
        return self.head(self.head_dropout(self._pool(tokens)))

    def tokens(self, feature_map: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, T, D), the class token first where there is one."""
        if self.token_grid is not None:
            if self.token_grid > min(feature_map.shape[-2:]):
                have = " x ".join(map(str, feature_map.shape[-2:]))
                raise ValueError(f"token_grid {self.token_grid} is more than the feature map of {have} has a side")
            feature_map = F.adaptive_avg_pool2d(feature_map, self.token_grid)
        tokens = self.project(feature_map).flatten(2).transpose(1, 2)
        if self.class_token is None:
            return tokens
        return torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1)

    def _position(self, tokens: Tensor) -> Tensor:
        if nn.parameter.is_lazy(self.position):
            self.position.materialize((1, *tokens.shape[1:]), device=tokens.device, dtype=torch.float32)
            with torch.no_grad():
                nn.init.trunc_normal_(self.position, std=0.02)
        if self.position.shape[1] != tokens.shape[1]:
            wanted, got = self.position.shape[1], tokens.shape[1]
            raise ValueError(f"positional embedding for {wanted} tokens, got {got}: images of another size?")
        return self.position

    def _pool(self, tokens: Tensor) -> Tensor:
        """(N, T, D) -> (N, D)."""
        if self.score is not None:
            return (self.score(tokens).softmax(dim=1) * tokens).sum(1)
        if self.pool == "class_token":
            return tokens[:, 0]
        return tokens.mean(1) if self.pool == "mean" else tokens.amax(1)
