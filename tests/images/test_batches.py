"""What reaches the network: every image drawn, cut and coloured by (seed, epoch, place) and by nothing else."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as oracle
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import WeightedRandomSampler

from pipeline.base.errors import StageError
from pipeline.images import batches as images_batches
from pipeline.images import packed, transform
from pipeline.images.batches import Batch, at_once, order, steps, train_batches
from pipeline.images.form import IMAGENET, Format, evaluation_batches, format_for, prepare
from pipeline.images.form import views as form_views
from pipeline.images.recipe import DRAWS, KEYS, Recipe
from pipeline.images.recipe import recipe as recipe_recipe

CPU = torch.device("cpu")
COUNTS = [60, 30, 6, 4]  # images per class; classes 2 and 3 are below the median
CLASSES, MINORITY = ["a", "b", "c", "d"], ["c", "d"]
AUGMENT = {
    "strength": 1.0,
    "flip": True,
    "minority": "strong",
    "cutout": 0,
    "mixup": 0.0,
    "light": {"crop": 0.2, "aspect": 0.1, "shift": 0.0, "rotate": 0, "jitter": 0.2, "erase": 0.0},
    "strong": {"crop": 0.4, "aspect": 0.2, "shift": 0.1, "rotate": 15, "jitter": 0.4, "erase": 0.5},
}
NONE = dict.fromkeys(KEYS, 0.0)
OFF = {"flip": False, "light": NONE, "strong": NONE}
STATISTICS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}  # of images in colour


def images(channels: int = 3, side: int = 16) -> packed.Images:
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(np.repeat(np.arange(len(COUNTS)), COUNTS))
    pixels = torch.from_numpy(rng.integers(0, 256, (len(labels), side, side, channels), dtype=np.uint8))
    return packed.Images(pixels, labels)


def form(size: int = 16, channels: int = 3) -> Format:
    return format_for(size, "imagenet", {}, channels)


def recipe(size: int = 16, flip: bool = True, channels: int = 3, **changes: object) -> Recipe:
    return recipe_recipe(form(size, channels), CLASSES, MINORITY, {**AUGMENT, **changes}, flip, CPU)


def epoch(
    data: packed.Images, how: Recipe, *, sampler: str = "shuffle", batch_size: int = 64, seed: int = 0, index=0
) -> tuple[Tensor, Tensor]:
    """All batches of one epoch, put together."""
    batches = list(train_batches(data, how, sampler=sampler, batch_size=batch_size, seed=seed, epoch=index, device=CPU))
    return torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])


def distinct(batch: Tensor) -> int:
    return len(batch.flatten(1).unique(dim=0))


# Order


def test_a_shuffle_takes_each_image_once_in_another_order_each_epoch() -> None:
    labels = images().labels
    orders = [order(labels, "shuffle", seed, index) for seed, index in ((0, 0), (0, 1), (1, 0))]
    for rows in orders:
        assert rows.sort().values.equal(torch.arange(len(labels)))
    assert not orders[0].equal(orders[1])
    assert not orders[0].equal(orders[2])
    assert order(labels, "shuffle", 0, 0).equal(orders[0])


@pytest.mark.parametrize(("seed", "index"), [(0, 0), (0, 7), (3, 0)])
def test_weighted_sampling_is_torchs_weighted_random_sampler(
    monkeypatch: pytest.MonkeyPatch, seed: int, index: int
) -> None:
    monkeypatch.setattr(
        images_batches, "_torch_rng", lambda seed, epoch: torch.Generator().manual_seed(100 * seed + epoch)
    )
    labels = images().labels
    weights = [1 / COUNTS[label] for label in labels.tolist()]
    sampler = WeightedRandomSampler(
        weights, num_samples=len(labels), generator=torch.Generator().manual_seed(100 * seed + index)
    )
    assert order(labels, "weighted", seed, index).tolist() == list(sampler)


def test_weighted_sampling_draws_classes_evenly_and_images_of_a_class_alike() -> None:
    labels, epochs = images().labels, 60
    rows = torch.cat([order(labels, "weighted", 0, index) for index in range(epochs)])
    assert rows.shape == (epochs * len(labels),)
    drawn = torch.bincount(labels[rows]).double()
    expected = len(rows) / len(COUNTS)
    assert ((drawn - expected) ** 2 / expected).sum() < 16.27  # chi-square, 3 degrees of freedom, p = 0.001
    rare = torch.bincount(rows, minlength=len(labels))[-COUNTS[-1] :].double()
    assert ((rare - rare.mean()) ** 2 / rare.mean()).sum() < 16.27


def test_chance_is_keyed_by_seed_and_epoch_and_uniform() -> None:
    draws = transform.draw(1000, 0, 0)
    assert draws.shape == (1000, DRAWS)
    assert draws.equal(transform.draw(1000, 0, 0))
    assert draws[:10].equal(transform.draw(10, 0, 0)), "the number of images does not change what the first ones get"
    for other in (transform.draw(1000, 1, 0), transform.draw(1000, 0, 1)):
        assert not (draws == other).all(1).any()
    assert 0 <= draws.min() < draws.max() < 1
    assert_close(draws.mean(0), torch.full((DRAWS,), 0.5), atol=0.05, rtol=0)
    assert torch.corrcoef(draws.T).fill_diagonal_(0).abs().max() < 0.15
    assert not torch.equal(draws[:, 0].argsort(), order(torch.zeros(1000, dtype=torch.int64), "shuffle", 0, 0))


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


@pytest.mark.parametrize("changes", [{}, {"mixup": 0.5}, {"cutout": 5}, {**OFF, "light": {**NONE, "shift": 0.2}}])
def test_batches_augmented_together_are_those_augmented_each_alone(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    """The last batch is a smaller one."""

    def batches(room: int) -> list[Batch]:
        monkeypatch.setattr(images_batches, "CACHE", room)
        options = {"sampler": "shuffle", "batch_size": 8, "seed": 0, "epoch": 0, "device": CPU}
        return list(train_batches(images(), recipe(**changes), **options))

    one = 8 * 3 * 16 * 16 * 4  # bytes
    monkeypatch.setattr(images_batches, "CACHE", 3 * one)
    assert at_once(form(), 8) == 3
    alone = batches(0)
    assert len(alone) == 13
    for room in (3 * one, 100 * one):
        for batch, wanted in zip(batches(room), alone, strict=True):
            assert batch.images.equal(wanted.images)
            assert batch.images.stride() == wanted.images.stride()
            assert batch.labels.equal(wanted.labels)
            assert (batch.others.equal(wanted.others), batch.share) == (True, wanted.share)


def test_an_epoch_repeats_by_its_seed_and_number_and_no_other_is_alike() -> None:
    data, how = images(), recipe()
    first = epoch(data, how)[0]
    assert epoch(data, how)[0].equal(first)
    for other in (epoch(data, how, seed=1)[0], epoch(data, how, index=1)[0]):
        assert distinct(torch.cat([first, other])) == 2 * len(first)


def test_each_image_gets_an_augmentation_of_its_own() -> None:
    same = packed.Images(images().pixels[:1].expand(100, -1, -1, -1), images().labels)
    found, _ = epoch(same, recipe())
    assert distinct(found) == 100


def test_an_image_sampled_twice_in_an_epoch_looks_different_twice() -> None:
    data = images()
    rows = order(data.labels, "weighted", 0, 0)
    assert len(rows.unique()) < len(rows) - 20
    found, labels = epoch(data, recipe(), sampler="weighted")
    assert labels.equal(data.labels[rows])
    assert distinct(found) == len(rows)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 24])
def test_strength_0_gives_the_images_as_they_are(size: int, channels: int) -> None:
    data = images(channels)
    rows = order(data.labels, "shuffle", 0, 0)
    found, labels = epoch(data, recipe(size, strength=0.0))
    assert_close(found, prepare(data.pixels[rows], form(size)), atol=1e-3, rtol=0)
    assert labels.equal(data.labels[rows])


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_off_is_skipped_and_leaves_the_pixels_bit_for_bit(channels: int) -> None:
    data = images(channels)
    rows = order(data.labels, "shuffle", 0, 0)
    assert recipe(**OFF).used == frozenset()
    assert epoch(data, recipe(**OFF))[0].equal(prepare(data.pixels[rows], form()))


def test_a_pipeline_that_no_class_uses_counts_as_off() -> None:
    strong = {**NONE, "rotate": 10.0}
    assert recipe(light=NONE, strong=strong).used == {"rotate"}
    assert recipe(light=NONE, strong=strong, minority="light").used == frozenset()
    assert recipe_recipe(form(), CLASSES, [], {**AUGMENT, "light": NONE, "strong": strong}, True, CPU).used == set()
    assert (
        recipe_recipe(form(), CLASSES, CLASSES, {**AUGMENT, "light": strong, "strong": NONE}, True, CPU).used == set()
    )


def test_what_one_class_uses_changes_no_image_of_another() -> None:
    """A part that is on for the strong pipeline is computed for all; for light classes it is then the identity."""
    data = images()
    alone, both = (epoch(data, recipe(flip=False, light=NONE, strong=strong)) for strong in (NONE, AUGMENT["strong"]))
    assert_close(both[0][both[1] < 2], alone[0][alone[1] < 2], atol=1e-3, rtol=0)


def test_strength_scales_every_amplitude_up_to_what_has_a_meaning() -> None:
    half, double = recipe(strength=0.5).amplitudes, recipe(strength=2.0).amplitudes
    assert_close(half, recipe().amplitudes / 2)
    assert_close(double[1], torch.tensor([0.8, 0.4, 0.2, 30.0, 0.8, 1.0]))
    wild = {"crop": 0.9, "aspect": 0.9, "shift": 0.9, "rotate": 180.0, "jitter": 0.9, "erase": 1.0}
    assert_close(recipe(strength=2.0, strong=wild).amplitudes[1], torch.tensor([0.99, 0.99, 0.99, 180.0, 1.0, 1.0]))
    assert epoch(images(), recipe(strength=2.0, strong=wild))[0].isfinite().all()
    scaled = recipe(strength=0.5, cutout=10, mixup=0.2)
    assert ([technique.amount for technique in scaled.techniques], scaled.mixup) == ([5], pytest.approx(0.1))


def test_only_minority_classes_get_the_strong_pipeline() -> None:
    """Here light does nothing and strong always erases."""
    data = images()
    data.pixels.fill_(255)
    options = {"flip": False, "light": NONE, "strong": {**NONE, "erase": 1.0}}
    found, labels = epoch(data, recipe(**options))
    erased = (found == 0).flatten(1).any(1)
    assert erased.equal(labels >= 2)
    assert not (epoch(data, recipe(**options, minority="light"))[0] == 0).any()


@pytest.mark.parametrize("key", ["crop", "jitter", "rotate", "aspect", "shift"])
def test_each_amplitude_acts_where_it_is_set(key: str) -> None:
    data = images()
    rows = order(data.labels, "shuffle", 0, 0)
    value = 20.0 if key == "rotate" else 0.5
    found, labels = epoch(data, recipe(flip=False, light=NONE, strong={**NONE, key: value}))
    changed = (found - prepare(data.pixels[rows], form())).abs().amax((1, 2, 3)) > 1e-3
    assert changed.equal(labels >= 2)


def test_the_erased_share_is_the_probability() -> None:
    labels = torch.full((2000,), 3)
    data = packed.Images(torch.full((2000, 8, 8, 1), 255, dtype=torch.uint8), labels)
    found, _ = epoch(data, recipe(8, flip=False, light=NONE, strong={**NONE, "erase": 0.3}))
    assert (found == 0).flatten(1).any(1).float().mean().item() == pytest.approx(0.3, abs=0.04)


def test_a_crop_keeps_its_share_of_the_area_and_sides_that_differ_within_the_aspect() -> None:
    """Red rises by column and green by row: their slopes after resizing are the shares of width and height left."""
    ramp = (torch.arange(64, dtype=torch.uint8) * 4).expand(64, 64)
    pixels = torch.stack([ramp, ramp.T, ramp], dim=-1)
    data = packed.Images(pixels.expand(500, -1, -1, -1), torch.zeros(500, dtype=torch.int64))
    found, _ = epoch(data, recipe(64, flip=False, light={**NONE, "crop": 0.4, "aspect": 0.2}))
    red, green = (found[:, channel] * 255 * IMAGENET["std"][channel] / (32 * 4) for channel in (0, 1))
    wide, tall = red[:, 32, 48] - red[:, 32, 16], green[:, 48, 32] - green[:, 16, 32]
    area, aspect = wide * tall, tall / wide
    assert 0.54 < area.min() < 0.65
    assert area.max() <= 1.001
    assert area.mean().item() == pytest.approx(0.8, abs=0.03)
    assert 1 / 1.21 < aspect.min() < 0.87
    assert 1.15 < aspect.max() < 1.21
    assert aspect.log().mean().item() == pytest.approx(0, abs=0.02)


def cropped(whole: int, crop: int, views: int = 1) -> Format:
    return format_for(whole, "imagenet", {}, 3, crop, views)


@pytest.mark.parametrize("whole", [16, 24])
def test_random_squares_are_whole_pixels_of_the_image_at_every_place(whole: int) -> None:
    """Each equals one of the places where a square can stand; of a resized image but for the square's border."""
    data, side = images(), whole - 4
    how = recipe_recipe(cropped(whole, side), CLASSES, MINORITY, {**AUGMENT, **OFF}, False, CPU)
    complete = recipe_recipe(form(whole), CLASSES, MINORITY, {**AUGMENT, **OFF}, False, CPU)
    places: set[int] = set()
    for index in range(3):
        found, sources = epoch(data, how, index=index)[0], epoch(data, complete, index=index)[0]
        assert found.shape[1:] == (3, side, side)
        windows = sources.unfold(2, side, 1).unfold(3, side, 1)  # (N, C, 5, 5, S, S)
        inner = slice(0, None) if whole == 16 else slice(1, -1)
        apart = (windows - found[:, :, None, None])[..., inner, inner].abs().amax((1, 4, 5)).flatten(1)  # (N, 25)
        assert apart.min(1).values.max() < 1e-4
        places |= set(apart.argmin(1).tolist())
    assert places == set(range(25))


def test_random_squares_may_be_mirrored_and_combine_with_the_other_amplitudes() -> None:
    data = images()
    mirrored = recipe_recipe(cropped(16, 12), CLASSES, MINORITY, {**AUGMENT, **OFF, "flip": True}, True, CPU)
    plain = recipe_recipe(cropped(16, 12), CLASSES, MINORITY, {**AUGMENT, **OFF}, True, CPU)
    found, without = epoch(data, mirrored)[0], epoch(data, plain)[0]
    same = torch.isclose(found, without, atol=1e-4).flatten(1).all(1)
    turned = torch.isclose(found, without.flip(-1), atol=1e-4).flatten(1).all(1)
    assert (same ^ turned).all()
    assert 20 < same.sum() < 80
    everything = recipe_recipe(cropped(16, 12), CLASSES, MINORITY, AUGMENT, True, CPU)
    assert distinct(epoch(data, everything)[0]) == len(data)


def test_two_views_are_the_middle_and_its_mirror_image_with_or_without_a_crop() -> None:
    pixels = images().pixels[:4]
    for how in (cropped(16, 12, 2), dataclasses.replace(form(16), views=2)):
        middle, mirrored = form_views(pixels, how)
        assert_close(middle, prepare(pixels, how), atol=0, rtol=0)
        assert_close(mirrored, middle.flip(-1), atol=0, rtol=0)
        assert mirrored.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("views", [1, 5, 10])
def test_the_views_of_an_image_are_torchvisions_ten_crops(views: int) -> None:
    pixels, how = images().pixels[:4], cropped(16, 12, views)
    complete = prepare(pixels, form(16))
    crops = oracle.ten_crop(complete, [12, 12])
    wanted = [*(crops[index] for index in (4, 0, 1, 2, 3)), *(crops[index] for index in (9, 5, 6, 7, 8))]
    found = form_views(pixels, how)
    assert len(found) == views
    for ours, theirs in zip(found, wanted[:views], strict=True):
        assert_close(ours, theirs, atol=0, rtol=0)
    assert_close(prepare(pixels, how), wanted[0], atol=0, rtol=0)
    assert all(view.is_contiguous(memory_format=torch.channels_last) for view in found)


def flipped(**options: object) -> Tensor:
    """(N,) bool of an epoch of images that are dark on the left: which came out dark on the right."""
    pixels = torch.zeros(2000, 8, 8, 1, dtype=torch.uint8)
    pixels[:, :, 4:] = 255
    how = recipe(8, light=NONE, strong=NONE, **options)
    found, _ = epoch(packed.Images(pixels, torch.zeros(2000, dtype=torch.int64)), how)
    left, right = found[..., :4].mean((1, 2, 3)), found[..., 4:].mean((1, 2, 3))
    assert (left != right).all()
    return left > right


def test_half_of_the_images_are_flipped_where_it_is_allowed() -> None:
    assert flipped().float().mean().item() == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("options", [{"flip": False}, {"strength": 0.0}], ids=str)
def test_no_image_is_flipped_where_the_data_set_forbids_it_or_nothing_is_augmented(options: dict) -> None:
    assert not flipped(**options).any()


def test_no_image_is_flipped_where_params_forbid_it() -> None:
    how = recipe_recipe(form(8), CLASSES, MINORITY, {**AUGMENT, "flip": False}, True, CPU)
    assert how.flip is False


# Batches


def test_a_last_batch_of_one_image_is_left_out_and_no_other() -> None:
    data = images()
    for size, wanted in ((33, [33, 33, 33]), (99, [99]), (50, [50, 50]), (49, [49, 49, 2])):
        batches = train_batches(data, recipe(), sampler="shuffle", batch_size=size, seed=0, epoch=0, device=CPU)
        assert [len(batch.labels) for batch in batches] == wanted
        assert steps(data, size) == len(wanted)


@pytest.mark.parametrize("batch_size", [1, 7, 33, 256])
def test_test_batches_keep_every_image_in_order(batch_size: int) -> None:
    data = images()
    batches = list(evaluation_batches(data, form(), batch_size, CPU))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert_close(torch.cat(batches), prepare(data.pixels, form()))


@pytest.mark.parametrize("size", [16, 11, 24])
def test_prepared_images_are_torchvisions_resize_and_normalize(size: int) -> None:
    pixels = images().pixels[:5]
    wanted = oracle.resize(pixels.permute(0, 3, 1, 2).float() / 255, [size, size], antialias=False)
    wanted = oracle.normalize(wanted, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    found = prepare(pixels, form(size))
    assert_close(found, wanted, atol=1e-4, rtol=0)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_grey_images_are_colour_images_of_three_equal_channels() -> None:
    grey = images(channels=1)
    colour = packed.Images(grey.pixels.expand(-1, -1, -1, 3).clone(), grey.labels)
    assert_close(prepare(grey.pixels, form()), prepare(colour.pixels, form()))
    assert_close(epoch(grey, recipe())[0], epoch(colour, recipe())[0], atol=0.01, rtol=0)  # the luma weights sum 0.9999


# Formats


@pytest.mark.parametrize("channels", [1, 3])
def test_the_data_sets_own_statistics_make_its_training_images_mean_0_and_deviation_1(channels: int) -> None:
    data = images(channels)
    fractions = data.pixels.double() / 255
    own = {"mean": fractions.mean((0, 1, 2)).tolist(), "std": fractions.std((0, 1, 2), correction=0).tolist()}
    found = prepare(data.pixels, format_for(16, "dataset", own, 3))
    assert found.shape == (100, 3, 16, 16)
    assert_close(found.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    assert_close(found.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_a_network_of_three_channels_gets_three_statistics_and_one_of_one_channel_their_luma() -> None:
    colour, grey = STATISTICS, {"mean": [0.13], "std": [0.31]}
    assert format_for(8, "dataset", colour, 3) == Format(8, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert format_for(8, "dataset", grey, 3) == Format(8, (0.13,) * 3, (0.31,) * 3)
    assert format_for(8, "dataset", grey, 1) == Format(8, (0.13,), (0.31,))
    one = format_for(8, "dataset", colour, 1)
    assert one.channels == 1
    assert one.mean == pytest.approx((0.299 * 0.5 + 0.587 * 0.4 + 0.114 * 0.3,), abs=1e-4)
    assert format_for(8, "imagenet", grey, 3).mean == (0.485, 0.456, 0.406)


def test_a_channel_that_does_not_vary_is_left_unscaled() -> None:
    """It would be divided by zero, and by next to nothing where one pixel of thousands differs."""
    for deviation in (0.0, 1e-6, 0.9 / 255):
        form = format_for(16, "dataset", {"mean": [0.5, 0.5, 0.0], "std": [0.2, 0.3, deviation]}, 3)
        assert form.std == (0.2, 0.3, 1.0)
        assert prepare(torch.zeros(2, 16, 16, 3, dtype=torch.uint8), form).isfinite().all()
    assert format_for(16, "dataset", {"mean": [0.5], "std": [1 / 255]}, 1).std == (1 / 255,)


def test_a_network_of_one_channel_sees_torchvisions_luma_of_an_image_in_colour() -> None:
    pixels = images().pixels[:5]
    one = format_for(16, "dataset", STATISTICS, 1)
    wanted = oracle.rgb_to_grayscale(pixels.permute(0, 3, 1, 2).float() / 255)
    assert_close(prepare(pixels, one), (wanted - one.mean[0]) / one.std[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("stored", [1, 3])
@pytest.mark.parametrize("taken", [1, 3])
def test_augmented_images_have_the_channels_that_the_network_takes(stored: int, taken: int) -> None:
    found, _ = epoch(images(stored), recipe(24, channels=taken, cutout=6))
    assert found.shape == (100, taken, 24, 24)
    assert found.isfinite().all()
    assert distinct(found) == 100


# Shift


def test_a_shift_by_whole_pixels_is_a_crop_of_the_image_with_its_border_repeated() -> None:
    data, reach = images(), 4
    how = recipe(flip=False, light={**NONE, "shift": reach / 16}, minority="light")
    down, right = torch.arange(100) % 9 - reach, torch.arange(100) % 7 - 3
    draws = torch.full((100, DRAWS), 0.5)
    draws[:, 2], draws[:, 3] = (down / reach + 1) / 2, (right / reach + 1) / 2
    found = transform.augment(data.pixels, draws, torch.zeros(100, dtype=torch.bool), how)
    padded = F.pad(prepare(data.pixels, form()), (reach,) * 4, mode="replicate")
    for image, wide, y, x in zip(found, padded, (down + reach).tolist(), (right + reach).tolist(), strict=True):
        assert_close(image, wide[:, y : y + 16, x : x + 16], atol=1e-3, rtol=0)


def test_shifts_are_uniform_up_to_their_share_in_both_directions() -> None:
    """Red rises by column and green by row: the pixel at the centre tells where the image went."""
    ramp = (torch.arange(32, dtype=torch.uint8) * 8).expand(32, 32)
    pixels = torch.stack([ramp, ramp.T, ramp], dim=-1)
    data = packed.Images(pixels.expand(2000, -1, -1, -1), torch.zeros(2000, dtype=torch.int64))
    found, _ = epoch(data, recipe(32, flip=False, light={**NONE, "shift": 0.25}))
    home = prepare(pixels[None], form(32))
    std = torch.tensor(IMAGENET["std"])[:2]
    moved = (found - home)[:, :2, 16, 16] * 255 * std / 8 / 32  # (N, 2) in shares of a side
    assert -0.25 <= moved.min() < -0.24
    assert 0.24 < moved.max() <= 0.25
    assert_close(moved.mean(0), torch.zeros(2), atol=0.01, rtol=0)
    assert_close(moved.std(0), torch.full((2,), 0.5 / 12**0.5), atol=0.01, rtol=0)
    assert torch.corrcoef(moved.T)[0, 1].abs() < 0.1


# Cutout and mixup in the batches


def test_cutout_masks_a_square_of_each_image_at_a_place_of_its_own() -> None:
    data = images()
    plain, found = (epoch(data, recipe(**OFF, cutout=side))[0] for side in (0, 6))
    masked = (found == 0).all(1)  # (N, H, W)
    assert_close(found, plain.masked_fill(masked[:, None], 0), rtol=0, atol=0)
    assert masked.flatten(1).any(1).all()
    assert distinct(masked.float()) > 60
    assert masked.sum((1, 2)).max() == 36


def test_mixup_mixes_each_batch_by_one_share_of_its_own_and_says_whose_labels() -> None:
    data = images()

    def batches(alpha: float) -> list[Batch]:
        how = recipe(**OFF, mixup=alpha)
        return list(train_batches(data, how, sampler="shuffle", batch_size=9, seed=0, epoch=0, device=CPU))

    mixed = batches(1.0)
    assert len({batch.share for batch in mixed}) == len(mixed) == steps(data, 9) == 11
    for plain, batch in zip(batches(0.0), mixed, strict=True):
        assert plain.share == 1.0
        assert 0.5 <= batch.share < 1.0
        before = torch.arange(len(batch.labels)) - 1
        assert_close(batch.images, batch.share * plain.images + (1 - batch.share) * plain.images[before])
        assert batch.labels.equal(plain.labels)
        assert batch.others.equal(plain.labels[before])


def test_the_shares_of_an_epoch_repeat_and_those_of_another_differ() -> None:
    def found(seed: int, index: int) -> list[float]:
        how = recipe(mixup=0.5)
        options = {"sampler": "shuffle", "batch_size": 20, "seed": seed, "epoch": index, "device": CPU}
        return [batch.share for batch in train_batches(images(), how, **options)]

    assert found(0, 0) == found(0, 0)
    assert not set(found(0, 0)) & (set(found(0, 1)) | set(found(1, 0)))


# Files


def test_a_split_is_read_as_it_was_written(tmp_path: Path) -> None:
    data = images()
    np.save(tmp_path / "train_images.npy", data.pixels.numpy())
    np.save(tmp_path / "train_labels.npy", data.labels.numpy())
    found = packed.read(tmp_path, "train_")
    assert len(found) == len(data)
    assert found.pixels.equal(data.pixels)
    assert found.labels.equal(data.labels)


def test_a_split_that_is_not_there_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(
        StageError, match=r"val_images.npy: not found; run `dvc repro` or `python -m pipeline.stages.split`"
    ):
        packed.read(tmp_path, "val_")
