"""A trained network on images, in float32: logits batch by batch, views averaged."""

import dataclasses

import torch
from torch import Tensor, nn

from pipeline.images import packed
from pipeline.images.form import Format, view_batches
from pipeline.inference.device import memory_remedy


@torch.inference_mode()
def predict(
    network: nn.Module, images: packed.Images, form: Format, device: torch.device, batch_size: int = 256
) -> Tensor:
    """Logits (N, K) in float32, on the CPU; the mean over an image's views where it has several."""
    network.eval()
    precise = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # float32 also in a GPU's convolutions
    batches = view_batches(images, form, batch_size, device)
    with precise:
        return torch.cat([score(network, views) for views in batches]).cpu()


def of_views(
    network: nn.Module, images: packed.Images, form: Format, device: torch.device, batch_size: int
) -> tuple[Tensor, Tensor | None]:
    """Logits (N, K), and those of the first view alone where there are several; the network moves to the device."""
    with memory_remedy("free memory on the device, or lower train.batch_size"):
        network = network.to(memory_format=torch.channels_last).to(device)  # as processors read images
        logits = predict(network, images, form, device, batch_size)
        if form.views == 1:
            return logits, None
        return logits, predict(network, images, dataclasses.replace(form, views=1), device, batch_size)


def score(network: nn.Module, views: list[Tensor]) -> Tensor:
    """Logits (N, K) of V views (N, C, S, S): their mean, whose softmax is the views' geometric mean, normalised.

    Logits, not probabilities: what is kept and calibrated are logits, and a view that is sure of a wrong class weighs
    no more than by how sure it is.
    """
    return torch.stack([network(view).float() for view in views]).mean(0)


def flops(network: nn.Module, form: Format) -> int:
    """Floating-point operations of one image's forward pass; a multiplication and an addition are two."""
    from torch.utils.flop_counter import FlopCounterMode  # late, as most who import this count nothing

    device = next(network.parameters()).device
    network.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, form.channels, form.size, form.size, device=device))
    return counter.get_total_flops()
