"""Which parts of an image a network's answer rests on: Grad-CAM and attention rollout.

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, eqs. 1-2): a feature map's channels, weighted by the mean gradient of
the class score, summed, and what is negative left out. Attention rollout (Abnar and Zuidema 2020, arXiv:2005.00928,
eq. 1): attention with its residual, multiplied through the layers. Departs: rollout reads the row of the class token;
where a network pools its tokens otherwise, rows are weighted by the norm of the class score's gradient at each token
behind the last attention, which is that row for a class token and nearly the mean for mean pooling.

A network is looked at while it computes, and no network is known by name: where modules attend from every token to
every token, rollout; else Grad-CAM on the last feature map of at least MIN_SIDE a side.

Shapes: N images of S x S, T tokens, feature maps (N, C, H, W).
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

MIN_SIDE = 4  # a map of 1 x 1 to 3 x 3 places nothing


@dataclass(frozen=True)
class Saliency:
    maps: Tensor  # (N, S, S), from 0 to 1, the largest of each image; all 0 where nothing speaks for the class
    method: str
    side: int  # of the grid that was enlarged to the image's


def explain(network: nn.Module, images: Tensor, classes: Tensor) -> Saliency:
    """What speaks for `classes` (N,) in `images` (N, C, S, S), prepared as the network takes them.

    Raises ValueError for a network that neither attends nor has a feature map.
    """
    with torch.enable_grad(), _watched(network.eval()) as seen:
        images = images.detach().requires_grad_()  # frozen weights would leave nothing to differentiate
        scores = network(images).gather(1, classes[:, None]).sum()  # images do not mix: each has its own gradient
        if seen.attentions and not seen.partial:
            method, grid = "attention rollout", _rollout_grid(scores, seen)
        elif seen.maps:
            method = "Grad-CAM"
            chosen = last_map(seen.maps)
            (gradient,) = torch.autograd.grad(scores, chosen)
            grid = grad_cam(_channels_first(chosen), _channels_first(gradient))
        else:
            raise ValueError("neither attention over all tokens nor a feature map to look at")
    maps = F.interpolate(grid.detach()[:, None], images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return Saliency(scaled(maps), method, grid.shape[-1])


def grad_cam(feature_map: Tensor, gradient: Tensor) -> Tensor:
    """ReLU(sum over channels of the map (N, C, H, W) x its mean gradient) -> (N, H, W)."""
    return (gradient.mean((2, 3), keepdim=True) * feature_map).sum(1).relu()


def rollout(attentions: Sequence[Tensor]) -> Tensor:
    """Attention (N, heads, T, T) of each layer, the first first -> (N, T, T), rows: what each token took from where."""
    mixed = torch.eye(attentions[0].shape[-1], device=attentions[0].device)
    eye = mixed
    for attention in attentions:
        mixed = (attention.mean(1) + eye) / 2 @ mixed
    return mixed


def scaled(maps: Tensor) -> Tensor:
    """Maps (N, H, W) that are not negative, each divided by its largest value; a map of zeros stays one."""
    largest = maps.amax((1, 2), keepdim=True)
    return torch.where(largest > 0, maps / largest.clamp_min(torch.finfo(maps.dtype).tiny), 0)


def last_map(maps: Sequence[Tensor]) -> Tensor:
    """The last of the maps that has MIN_SIDE a side, or of those that come nearest."""
    wanted = min(MIN_SIDE, max(_side(each) for each in maps))
    return next(each for each in reversed(maps) if _side(each) >= wanted)


def token_grid(relevance: Tensor) -> Tensor:
    """Relevance (N, T) of tokens -> (N, G, G): the last G x G tokens, those before being class tokens or registers."""
    side = math.isqrt(relevance.shape[1])
    return relevance[:, -side * side :].unflatten(1, (side, side))


def _rollout_grid(scores: Tensor, seen: "_Seen") -> Tensor:
    """(N, G, G)"""
    (gradient,) = torch.autograd.grad(scores, seen.attended[-1])  # (N, T, D)
    weight = gradient.norm(dim=2)  # (N, T)
    weight = weight / weight.sum(1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    return token_grid((weight[:, None] @ rollout(seen.attentions))[:, 0])


# what a network does


@dataclass
class _Seen:
    """What hooks note of a network while it computes."""

    maps: list[Tensor] = field(default_factory=list)  # 4-D outputs in the order in which they were ready
    attentions: list[Tensor] = field(default_factory=list)  # (N, heads, T, T)
    attended: list[Tensor] = field(default_factory=list)  # (N, T, D), what these attentions gave
    partial: bool = False  # some attention is not from every token to every token: windows, channels
    images: int = 0
    weights: dict[nn.Module, Tensor] = field(default_factory=dict)  # of attention modules that compute at the moment

    def note_images(self, _: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self.images = len(arguments[0])

    def note_map(self, _: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.requires_grad and _side(output) > 1:
            self.maps.append(output)

    def note_attention(self, module: nn.Module, _: object, output: object) -> None:
        attention = self.weights.pop(module, None)
        if attention is None:
            return
        tokens = self.attended[0].shape[1] if self.attended else attention.shape[-1]
        if (
            isinstance(output, Tensor)
            and output.shape[:-1] == (self.images, tokens)
            and attention.ndim == 4
            and attention.shape[-2:] == (tokens, tokens)
        ):
            self.attentions.append(attention.detach().float())
            self.attended.append(output)
        else:
            self.partial = True

    def hooks(self, network: nn.Module) -> Iterator[RemovableHandle]:
        """Have a network's modules tell what they do until the hooks are removed."""
        yield network.register_forward_pre_hook(self.note_images)
        inside: set[nn.Module] = set()  # of attention modules: what they give there is no map
        for module in (module for module in network.modules() if hasattr(module, "fused_attn")):
            inside.update(module.modules())
            drop = getattr(module, "attn_drop", None)
            if isinstance(drop, nn.Module):
                note = lambda _, arguments, module=module: self.weights.__setitem__(module, arguments[0])  # noqa: E731
                yield drop.register_forward_pre_hook(note)
                yield module.register_forward_hook(self.note_attention)
        for module in network.modules():
            if module not in inside:
                yield module.register_forward_hook(self.note_map)


@contextlib.contextmanager
def _watched(network: nn.Module) -> Iterator[_Seen]:
    """Note maps and attention while the block runs; attention is computed openly meanwhile, not fused."""
    seen = _Seen()
    fused = [module for module in network.modules() if getattr(module, "fused_attn", False)]
    hooks = list(seen.hooks(network))
    try:
        for module in fused:
            module.fused_attn = False  # type: ignore[assignment]
        yield seen
    finally:
        for module in fused:
            module.fused_attn = True  # type: ignore[assignment]
        for hook in hooks:
            hook.remove()


def _side(output: Tensor) -> int:
    """Of a square map, channels first or last; 0 for what is none."""
    _, a, b, c = output.shape
    return b if b == c else a if a == b else 0


def _channels_first(feature_map: Tensor) -> Tensor:
    return feature_map if feature_map.shape[2] == feature_map.shape[3] else feature_map.permute(0, 3, 1, 2)
