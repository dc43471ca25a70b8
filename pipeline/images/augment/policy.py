"""AutoAugment (Cubuk et al. 2019, arXiv:1805.09501): learnt pairs of operations, a pair of its own for each image.

Pairs, magnitudes and operations are torchvision's. torchvision draws one pair for a whole batch: here the images that
drew the same are taken together. Pixels that an operation moves in from outside are black.
"""

import torch
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

POLICIES = {"cifar10": AutoAugmentPolicy.CIFAR10}


def auto_augment(pixels: Tensor, policy: str, draws: Tensor) -> Tensor:
    """pixels (N, C, H, W) uint8, draws (N, 5) in [0, 1): which pair, whether each of the two is done, both signs."""
    transform = AutoAugment(POLICIES[policy])
    chances = torch.tensor([[chance for _, chance, _ in pair] for pair in transform.policies], device=draws.device)
    pair = (draws[:, 0] * len(chances)).long().clamp(max=len(chances) - 1)  # (N,)
    done = (draws[:, 1:3] <= chances[pair]).long()  # (N, 2)
    signs = (draws[:, 3:5] < 0.5).long()  # (N, 2)
    choices, groups = torch.unique(torch.cat([pair[:, None], done, signs], 1), dim=0, return_inverse=True)
    result = pixels.clone()
    for group, (chosen, *flags) in enumerate(choices.tolist()):
        if any(flags[:2]):
            never = 2.0  # above every chance
            drawn = chosen, torch.tensor([0.0 if flag else never for flag in flags[:2]]), torch.tensor(flags[2:])
            transform.get_params = lambda _, drawn=drawn: drawn
            rows = groups == group
            result[rows] = transform(pixels[rows])
    return result
