"""AlexNet (Krizhevsky et al. 2012, doi:10.1145/3065386), sec. 3: 96-256-384-384-256 filters, 4096-4096 neurons.

62,378,344 parameters for 1,000 classes, as one GPU holds it: the authors' two GPUs left out half of the connections of
three convolutions (60,965,224). Departs: the first convolution is padded by two, so that 224 pixels give the 6x6 map
that theirs needs 227 for; maps of other images are averaged to 6x6. Layers start as torch starts them.
"""

import torch
from torch import Tensor, nn

SMALLEST = 63  # pixels that leave the last pooling a map of one


class AlexNet(nn.Module):
    """Images (N, 3, S, S) -> logits (N, classes)."""

    def __init__(self, classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 11, stride=4, padding=2),
            nn.ReLU(),
            response_norm(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(96, 256, 5, padding=2),
            nn.ReLU(),
            response_norm(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.AdaptiveAvgPool2d(6),
        )
        self.classifier = nn.Sequential(
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(images), 1))


def response_norm() -> nn.LocalResponseNorm:
    """Sec. 3.3: k = 2, n = 5, alpha = 1e-4, beta = 0.75; torch divides its alpha by n."""
    return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)


def build(*, classes: int, image_size: int, dropout: float = 0.5, pretrained: bool | str = False) -> AlexNet:
    """AlexNet from scratch; its published weights are torchvision's, of another width (`family: torchvision`)."""
    if pretrained:
        raise ValueError("alexnet has no weights to start from; take family: torchvision, backbone: alexnet")
    if image_size < SMALLEST:
        raise ValueError(f"alexnet needs {SMALLEST} pixels or more")
    return AlexNet(classes, dropout)
