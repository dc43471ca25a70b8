"""What a network makes of images before its last layer: features, as one number of each channel or token."""

import torch
from torch import Tensor, nn

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.images import packed
from pipeline.images.form import Format, evaluation_batches
from pipeline.inference.device import memory_remedy


@torch.inference_mode()
def features(
    network: nn.Module, images: packed.Images, form: Format, device: torch.device, batch_size: int = 256
) -> Tensor:
    """Features (N, D) in float32, on the CPU, without augmentation; of crops the centre.

    Raises StageError for a network whose last layer is not linear.
    """
    kept: list[Tensor] = []
    with memory_remedy("free memory on the device"):
        network = network.eval().to(memory_format=torch.channels_last).to(device)
        hook = last_layer(network).register_forward_pre_hook(lambda _, given: kept.append(given[0].float().cpu()))
        try:
            for batch in evaluation_batches(images, form, batch_size, device):
                network(batch)
        finally:
            hook.remove()
    return torch.cat(kept).flatten(1)


def last_layer(network: nn.Module) -> nn.Module:
    """The layer whose input the features are."""
    try:
        return networks.head(network)
    except StageError:
        raise StageError("only a network whose last layer is linear has features to probe; name other models") from None
