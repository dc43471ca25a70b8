"""What reaches the network: every image drawn, cut and coloured by (seed, epoch, place) and by nothing else."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as oracle
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import WeightedRandomSampler

from pipeline import loader
from pipeline.stage import StageError

CPU = torch.device("cpu")
COUNTS = [60, 30, 6, 4]  # images per class; classes 2 and 3 are below the median
CLASSES, MINORITY = ["a", "b", "c", "d"], ["c", "d"]
AUGMENT = {
    "strength": 1.0,
    "flip": True,
    "minority": "strong",
    "light": {"crop": 0.2, "aspect": 0.1, "rotate": 0, "jitter": 0.2, "erase": 0.0},
    "strong": {"crop": 0.4, "aspect": 0.2, "rotate": 15, "jitter": 0.4, "erase": 0.5},
}
NONE = {"crop": 0.0, "aspect": 0.0, "rotate": 0.0, "jitter": 0.0, "erase": 0.0}


def images(channels: int = 3, side: int = 16) -> loader.Images:
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(np.repeat(np.arange(len(COUNTS)), COUNTS))
    pixels = torch.from_numpy(rng.integers(0, 256, (len(labels), side, side, channels), dtype=np.uint8))
    return loader.Images(pixels, labels)


def recipe(size: int = 16, flip: bool = True, **changes: object) -> loader.Recipe:
    return loader.recipe(size, CLASSES, MINORITY, {**AUGMENT, **changes}, flip, CPU)


def epoch(
    data: loader.Images, how: loader.Recipe, *, sampler: str = "shuffle", batch_size: int = 64, seed: int = 0, index=0
) -> tuple[Tensor, Tensor]:
    """All batches of one epoch, put together."""
    batches = loader.train_batches(
        data, how, sampler=sampler, batch_size=batch_size, seed=seed, epoch=index, device=CPU
    )
    pixels, labels = zip(*batches, strict=True)
    return torch.cat(pixels), torch.cat(labels)


def distinct(batch: Tensor) -> int:
    return len(batch.flatten(1).unique(dim=0))


# Order


def test_a_shuffle_takes_each_image_once_in_another_order_each_epoch() -> None:
    labels = images().labels
    orders = [loader.order(labels, "shuffle", seed, index) for seed, index in ((0, 0), (0, 1), (1, 0))]
    for rows in orders:
        assert rows.sort().values.equal(torch.arange(len(labels)))
    assert not orders[0].equal(orders[1])
    assert not orders[0].equal(orders[2])
    assert loader.order(labels, "shuffle", 0, 0).equal(orders[0])


@pytest.mark.parametrize(("seed", "index"), [(0, 0), (0, 7), (3, 0)])
def test_weighted_sampling_is_torchs_weighted_random_sampler(
    monkeypatch: pytest.MonkeyPatch, seed: int, index: int
) -> None:
    monkeypatch.setattr(loader, "_torch_rng", lambda seed, epoch: torch.Generator().manual_seed(100 * seed + epoch))
    labels = images().labels
    weights = [1 / COUNTS[label] for label in labels.tolist()]
    sampler = WeightedRandomSampler(
        weights, num_samples=len(labels), generator=torch.Generator().manual_seed(100 * seed + index)
    )
    assert loader.order(labels, "weighted", seed, index).tolist() == list(sampler)


def test_weighted_sampling_draws_classes_evenly_and_images_of_a_class_alike() -> None:
    labels, epochs = images().labels, 60
    rows = torch.cat([loader.order(labels, "weighted", 0, index) for index in range(epochs)])
    assert rows.shape == (epochs * len(labels),)
    drawn = torch.bincount(labels[rows]).double()
    expected = len(rows) / len(COUNTS)
    assert ((drawn - expected) ** 2 / expected).sum() < 16.27  # chi-square, 3 degrees of freedom, p = 0.001
    rare = torch.bincount(rows, minlength=len(labels))[-COUNTS[-1] :].double()
    assert ((rare - rare.mean()) ** 2 / rare.mean()).sum() < 16.27


def test_chance_is_keyed_by_seed_and_epoch_and_uniform() -> None:
    draws = loader.draw(1000, 0, 0)
    assert draws.shape == (1000, loader.DRAWS)
    assert draws.equal(loader.draw(1000, 0, 0))
    assert draws[:10].equal(loader.draw(10, 0, 0)), "the number of images does not change what the first ones get"
    for other in (loader.draw(1000, 1, 0), loader.draw(1000, 0, 1)):
        assert not (draws == other).all(1).any()
    assert 0 <= draws.min() < draws.max() < 1
    assert_close(draws.mean(0), torch.full((loader.DRAWS,), 0.5), atol=0.05, rtol=0)
    assert torch.corrcoef(draws.T).fill_diagonal_(0).abs().max() < 0.15
    assert not torch.equal(draws[:, 0].argsort(), loader.order(torch.zeros(1000, dtype=torch.int64), "shuffle", 0, 0))


def test_nothing_touches_or_reads_the_global_generators() -> None:
    data, how = images(), recipe()
    torch.manual_seed(1)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = epoch(data, how, sampler="weighted")[0]
    assert torch.get_rng_state().equal(before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    torch.manual_seed(2)
    assert epoch(data, how, sampler="weighted")[0].equal(first)


# Augmentation


@pytest.mark.parametrize("sampler", ["shuffle", "weighted"])
def test_the_batch_size_changes_no_image(sampler: str) -> None:
    large, small = (epoch(images(), recipe(), sampler=sampler, batch_size=size) for size in (64, 10))
    assert large[0].equal(small[0])
    assert large[1].equal(small[1])


def test_an_epoch_repeats_by_its_seed_and_number_and_no_other_is_alike() -> None:
    data, how = images(), recipe()
    first = epoch(data, how)[0]
    assert epoch(data, how)[0].equal(first)
    for other in (epoch(data, how, seed=1)[0], epoch(data, how, index=1)[0]):
        assert distinct(torch.cat([first, other])) == 2 * len(first)


def test_each_image_gets_an_augmentation_of_its_own() -> None:
    same = loader.Images(images().pixels[:1].expand(100, -1, -1, -1), images().labels)
    found, _ = epoch(same, recipe())
    assert distinct(found) == 100


def test_an_image_sampled_twice_in_an_epoch_looks_different_twice() -> None:
    data = images()
    rows = loader.order(data.labels, "weighted", 0, 0)
    assert len(rows.unique()) < len(rows) - 20
    found, labels = epoch(data, recipe(), sampler="weighted")
    assert labels.equal(data.labels[rows])
    assert distinct(found) == len(rows)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 24])
def test_strength_0_gives_the_images_as_they_are(size: int, channels: int) -> None:
    data = images(channels)
    rows = loader.order(data.labels, "shuffle", 0, 0)
    found, labels = epoch(data, recipe(size, strength=0.0))
    assert_close(found, loader.prepare(data.pixels[rows], size), atol=1e-3, rtol=0)
    assert labels.equal(data.labels[rows])


def test_strength_scales_every_amplitude_up_to_what_has_a_meaning() -> None:
    half, double = recipe(strength=0.5).amplitudes, recipe(strength=2.0).amplitudes
    assert_close(half, recipe().amplitudes / 2)
    assert_close(double[1], torch.tensor([0.8, 0.4, 30.0, 0.8, 1.0]))
    wild = {"crop": 0.9, "aspect": 0.9, "rotate": 180.0, "jitter": 0.9, "erase": 1.0}
    assert_close(recipe(strength=2.0, strong=wild).amplitudes[1], torch.tensor([0.99, 0.99, 180.0, 1.0, 1.0]))
    assert epoch(images(), recipe(strength=2.0, strong=wild))[0].isfinite().all()


def test_only_minority_classes_get_the_strong_pipeline() -> None:
    """Here light does nothing and strong always erases."""
    data = images()
    data.pixels.fill_(255)
    options = {"flip": False, "light": NONE, "strong": {**NONE, "erase": 1.0}}
    found, labels = epoch(data, recipe(**options))
    erased = (found == 0).flatten(1).any(1)
    assert erased.equal(labels >= 2)
    assert not (epoch(data, recipe(**options, minority="light"))[0] == 0).any()


@pytest.mark.parametrize("key", ["crop", "jitter", "rotate", "aspect"])
def test_each_amplitude_acts_where_it_is_set(key: str) -> None:
    data = images()
    rows = loader.order(data.labels, "shuffle", 0, 0)
    value = 20.0 if key == "rotate" else 0.5
    found, labels = epoch(data, recipe(flip=False, light=NONE, strong={**NONE, key: value}))
    changed = (found - loader.prepare(data.pixels[rows], 16)).abs().amax((1, 2, 3)) > 1e-3
    assert changed.equal(labels >= 2)


def test_the_erased_share_is_the_probability() -> None:
    labels = torch.full((2000,), 3)
    data = loader.Images(torch.full((2000, 8, 8, 1), 255, dtype=torch.uint8), labels)
    found, _ = epoch(data, recipe(8, flip=False, light=NONE, strong={**NONE, "erase": 0.3}))
    assert (found == 0).flatten(1).any(1).float().mean().item() == pytest.approx(0.3, abs=0.04)


def test_a_crop_keeps_its_share_of_the_area_and_sides_that_differ_within_the_aspect() -> None:
    """Red rises by column and green by row: their slopes after resizing are the shares of width and height left."""
    ramp = (torch.arange(64, dtype=torch.uint8) * 4).expand(64, 64)
    pixels = torch.stack([ramp, ramp.T, ramp], dim=-1)
    data = loader.Images(pixels.expand(500, -1, -1, -1), torch.zeros(500, dtype=torch.int64))
    found, _ = epoch(data, recipe(64, flip=False, light={**NONE, "crop": 0.4, "aspect": 0.2}))
    red, green = (found[:, channel] * 255 * loader.IMAGENET_STD[channel] / (32 * 4) for channel in (0, 1))
    wide, tall = red[:, 32, 48] - red[:, 32, 16], green[:, 48, 32] - green[:, 16, 32]
    area, aspect = wide * tall, tall / wide
    assert 0.54 < area.min() < 0.65
    assert area.max() <= 1.001
    assert area.mean().item() == pytest.approx(0.8, abs=0.03)
    assert 1 / 1.21 < aspect.min() < 0.87
    assert 1.15 < aspect.max() < 1.21
    assert aspect.log().mean().item() == pytest.approx(0, abs=0.02)


def flipped(**options: object) -> Tensor:
    """(N,) bool of an epoch of images that are dark on the left: which came out dark on the right."""
    pixels = torch.zeros(2000, 8, 8, 1, dtype=torch.uint8)
    pixels[:, :, 4:] = 255
    how = recipe(8, light=NONE, strong=NONE, **options)
    found, _ = epoch(loader.Images(pixels, torch.zeros(2000, dtype=torch.int64)), how)
    left, right = found[..., :4].mean((1, 2, 3)), found[..., 4:].mean((1, 2, 3))
    assert (left != right).all()
    return left > right


def test_half_of_the_images_are_flipped_where_it_is_allowed() -> None:
    assert flipped().float().mean().item() == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("options", [{"flip": False}, {"strength": 0.0}], ids=str)
def test_no_image_is_flipped_where_the_data_set_forbids_it_or_nothing_is_augmented(options: dict) -> None:
    assert not flipped(**options).any()


def test_no_image_is_flipped_where_params_forbid_it() -> None:
    how = loader.recipe(8, CLASSES, MINORITY, {**AUGMENT, "flip": False}, True, CPU)
    assert how.flip is False


# Batches


def test_a_last_batch_of_one_image_is_left_out_and_no_other() -> None:
    data = images()
    for size, wanted in ((33, [33, 33, 33]), (99, [99]), (50, [50, 50]), (49, [49, 49, 2])):
        batches = loader.train_batches(data, recipe(), sampler="shuffle", batch_size=size, seed=0, epoch=0, device=CPU)
        assert [len(labels) for _, labels in batches] == wanted


@pytest.mark.parametrize("batch_size", [1, 7, 33, 256])
def test_test_batches_keep_every_image_in_order(batch_size: int) -> None:
    data = images()
    pixels, labels = zip(*loader.test_batches(data, 16, batch_size, CPU), strict=True)
    assert torch.cat(labels).equal(data.labels)
    assert_close(torch.cat(pixels), loader.prepare(data.pixels, 16))


@pytest.mark.parametrize("size", [16, 11, 24])
def test_prepared_images_are_torchvisions_resize_and_normalize(size: int) -> None:
    pixels = images().pixels[:5]
    wanted = oracle.resize(pixels.permute(0, 3, 1, 2).float() / 255, [size, size], antialias=False)
    wanted = oracle.normalize(wanted, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    found = loader.prepare(pixels, size)
    assert_close(found, wanted, atol=1e-4, rtol=0)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_grey_images_are_colour_images_of_three_equal_channels() -> None:
    grey = images(channels=1)
    colour = loader.Images(grey.pixels.expand(-1, -1, -1, 3).clone(), grey.labels)
    assert_close(loader.prepare(grey.pixels, 16), loader.prepare(colour.pixels, 16))
    assert_close(epoch(grey, recipe())[0], epoch(colour, recipe())[0], atol=0.01, rtol=0)  # the luma weights sum 0.9999


# Files


def test_a_split_is_read_as_it_was_written(tmp_path: Path) -> None:
    data = images()
    np.save(tmp_path / "train_images.npy", data.pixels.numpy())
    np.save(tmp_path / "train_labels.npy", data.labels.numpy())
    found = loader.read(tmp_path, "train_")
    assert len(found) == len(data)
    assert found.pixels.equal(data.pixels)
    assert found.labels.equal(data.labels)


def test_a_split_that_is_not_there_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"val_images.npy: not found; run `dvc repro` or `python -m pipeline.split`"):
        loader.read(tmp_path, "val_")
