"""Saliency finds what an answer rests on where that is known by construction, in every kind of network."""

import pytest
import torch
from torch import nn

from pipeline.trained import saliency


class Region(nn.Module):
    """Class k's score is the sum over quarter k of the image: what speaks for it is known."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Conv2d(1, 4, 1, bias=False)
        self.eye.weight.data.fill_(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.eye(images)  # (N, 4, 8, 8), each the image
        quarters = torch.zeros(4, 8, 8)
        for k in range(4):
            quarters[k, 4 * (k // 2) : 4 * (k // 2) + 4, 4 * (k % 2) : 4 * (k % 2) + 4] = 1
        self.gated = maps * quarters
        return self.look(self.gated).sum((2, 3))

    def look(self, maps: torch.Tensor) -> torch.Tensor:
        return maps


class Regions(Region):
    """The same with the gated maps as a module's output: the last feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Identity()

    def look(self, maps: torch.Tensor) -> torch.Tensor:
        return self.last(maps)


def test_grad_cam_is_the_region_that_a_score_is_the_sum_of() -> None:
    images = torch.rand(4, 1, 8, 8) + 0.5
    found = saliency.explain(Regions(), images, torch.arange(4))
    assert (found.method, found.side) == ("Grad-CAM", 8)
    for k in range(4):
        quarter = (slice(4 * (k // 2), 4 * (k // 2) + 4), slice(4 * (k % 2), 4 * (k % 2) + 4))
        wanted = torch.zeros(8, 8)
        wanted[quarter] = images[k, 0][quarter] / images[k, 0][quarter].max()
        torch.testing.assert_close(found.maps[k], wanted)


def test_grad_cam_weighs_channels_by_their_mean_gradient_and_drops_what_is_negative() -> None:
    feature_map = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 3.0], [2.0, 1.0]]]])
    gradient = torch.tensor([[[[2.0, 0.0], [0.0, 2.0]], [[-1.0, -1.0], [-1.0, -1.0]]]])  # means 1 and -1
    wanted = torch.tensor([[[0.0, 0.0], [1.0, 3.0]]])
    torch.testing.assert_close(saliency.grad_cam(feature_map, gradient), wanted)


def test_what_speaks_against_a_class_leaves_an_empty_map_not_a_scaled_one() -> None:
    found = saliency.explain(Regions(), -torch.ones(1, 1, 8, 8), torch.tensor([0]))
    assert not found.maps.any()


def test_rollout_of_attention_to_oneself_stays_with_oneself() -> None:
    identity = torch.eye(5).expand(2, 3, 5, 5)
    torch.testing.assert_close(saliency.rollout([identity] * 4), torch.eye(5).expand(2, 5, 5))


def test_rollout_multiplies_layers_with_half_of_the_residual_in_their_order() -> None:
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])[None, None]  # each token looks at the other
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0]])[None, None]  # both look at the first
    torch.testing.assert_close(saliency.rollout([swap])[0], torch.full((2, 2), 0.5))
    wanted = torch.tensor([[1.0, 0.0], [0.5, 0.5]]) @ torch.full((2, 2), 0.5)
    torch.testing.assert_close(saliency.rollout([swap, first])[0], wanted)
    heads = torch.cat([swap, first], dim=1)  # the mean of both heads
    torch.testing.assert_close(saliency.rollout([heads])[0], torch.tensor([[0.75, 0.25], [0.5, 0.5]]))


def test_rows_of_a_rollout_are_shares() -> None:
    attentions = [torch.rand(2, 3, 9, 9).softmax(-1) for _ in range(3)]
    torch.testing.assert_close(saliency.rollout(attentions).sum(-1), torch.ones(2, 9))


def test_a_class_token_and_registers_are_left_out_of_the_grid() -> None:
    relevance = torch.arange(18.0)[None]
    torch.testing.assert_close(saliency.token_grid(relevance)[0], torch.arange(2.0, 18).reshape(4, 4))


def vit(**arguments: object) -> nn.Module:
    import timm

    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 3}
    return timm.create_model("vit_tiny_patch16_224", **{**sizes, **arguments}).eval()


def test_a_class_tokens_rollout_is_its_row_and_attention_is_what_the_network_computes() -> None:
    network, images = vit(), torch.randn(2, 3, 16, 16)
    before = network(images)
    found = saliency.explain(network, images, torch.tensor([0, 1]))
    assert (found.method, found.side) == ("attention rollout", 4)
    assert all(block.attn.fused_attn for block in network.blocks)
    torch.testing.assert_close(network(images), before)

    tokens = network.norm_pre(network.pos_drop(network._pos_embed(network.patch_embed(images))))
    attentions = []
    for block in network.blocks:  # by hand, from queries and keys
        query, key, _ = block.attn.qkv(block.norm1(tokens)).reshape(2, 17, 3, 2, 12).permute(2, 0, 3, 1, 4)
        attentions.append((query @ key.transpose(-2, -1) / 12**0.5).softmax(-1))
        tokens = block(tokens)
    row = saliency.rollout(attentions)[:, 0, 1:].reshape(2, 1, 4, 4)
    wanted = nn.functional.interpolate(row, (16, 16), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(found.maps, saliency.scaled(wanted), rtol=1e-4, atol=1e-5)


def test_only_the_tokens_that_reach_the_score_count_where_tokens_are_pooled() -> None:
    network = vit(global_pool="avg", class_token=False, depth=1)
    for block in network.blocks:
        block.attn.qkv.weight.data.zero_()  # attends to all alike: rollout is (1/T + I) / 2
    network.head.weight.data.normal_()
    found = saliency.explain(network, torch.randn(1, 3, 16, 16), torch.tensor([0]))
    assert found.side == 4
    assert found.maps.min() > 0.2  # every token is pooled: none is without weight


@pytest.fixture(scope="module")
def built() -> dict[str, nn.Module]:
    from pipeline import networks
    from tests.small_study import BASE, MODELS

    def build(**settings: object) -> nn.Module:
        plain = {key: value for key, value in settings.items() if key not in ("train", "augment")}
        return networks.build(name="m", classes=4, image_size=32, seed=0, **plain).eval()  # type: ignore[arg-type]

    cnn = {"family": "timm", "pretrained": False}
    return {
        **{name: build(**{**BASE, **model}) for name, model in MODELS.items()},
        "resnet": build(**cnn, backbone="resnet18", args={"channels": [8, 8, 16, 16]}),
        "swin": build(
            **cnn,
            backbone="swin_tiny_patch4_window7_224",
            args={"window_size": 2, "embed_dim": 12, "depths": [1, 1, 1], "num_heads": [1, 1, 1]},
        ),
        "convnext": build(**cnn, backbone="convnext_atto", args={"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}),
    }


METHODS = {"tiny": "Grad-CAM", "vit": "attention rollout", "hybrid": "attention rollout"}
METHODS |= {"resnet": "Grad-CAM", "swin": "Grad-CAM", "convnext": "Grad-CAM"}


@pytest.mark.parametrize("name", METHODS)
def test_every_family_is_explained_without_knowing_its_name(name: str, built: dict[str, nn.Module]) -> None:
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    classes = built[name](images).argmax(1)
    found = saliency.explain(built[name], images, classes)
    assert found.method == METHODS[name]
    assert found.side >= saliency.MIN_SIDE
    assert found.maps.shape == (5, 32, 32)
    assert not found.maps.isnan().any()
    assert found.maps.min() >= 0
    assert found.maps.max() <= 1
    one = saliency.explain(built[name], images[2:3], classes[2:3]).maps[0]  # images do not mix
    torch.testing.assert_close(one, found.maps[2], rtol=1e-3, atol=1e-4)


def test_a_network_that_shows_nothing_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(ValueError, match="neither attention over all tokens nor a feature map"):
        saliency.explain(network, torch.rand(1, 3, 2, 2), torch.tensor([0]))
