"""Large crops come out the same to the last bit, with a C compiler and without one."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision.transforms.v2.functional as oracle
from torch import Tensor

from pipeline.base import native
from pipeline.images import resample

needs_native = pytest.mark.skipif(resample.native() is None, reason="no C compiler, or a CPU without AVX2")
SIZE = 64


def pictures(count: int, side: int = 71) -> Tensor:
    """(N, 3, H, W) uint8, as packed images lie: channels last."""
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, side - 4, side, 3), dtype=torch.uint8, generator=rng).permute(0, 3, 1, 2)


def boxes_of(images: Tensor, heights: Tensor, widths: Tensor, rng: torch.Generator) -> Tensor:
    rows, columns = images.shape[2:]
    places = torch.rand(2, len(heights), generator=rng)
    top, left = (places[0] * (rows - heights + 1)).long(), (places[1] * (columns - widths + 1)).long()
    return torch.stack([top, left, heights, widths], 1).float()


@needs_native
def test_every_length_of_a_crop_gives_torchs_bytes() -> None:
    """All heights and widths that there are, mirrored and not; also run by hand for 224 pixels."""
    rng, lengths = torch.Generator().manual_seed(1), torch.arange(1, SIZE + 1)
    images = pictures(SIZE)
    for widths in (lengths, lengths.flip(0), lengths[torch.randperm(SIZE, generator=rng)]):
        boxes = boxes_of(images, lengths, widths, rng)
        assert resample.fits(images, boxes, SIZE)
        for flip in (None, torch.rand(SIZE, generator=rng) < 0.5):
            found = resample.crops(images, boxes, SIZE, flip)
            assert torch.equal(found, resample.one_by_one(images, boxes, SIZE, flip))


@needs_native
def test_nothing_is_read_beyond_an_image() -> None:
    """The smallest crops in the last corner of the narrowest images, whose memory ends there."""
    images = pictures(4, side=10)[:, :, :, : resample.NARROWEST].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for length in range(1, 7):
        lengths = torch.full((4,), length)
        boxes = torch.stack([6 - lengths, 6 - lengths, lengths, lengths], 1).float()
        assert resample.fits(images, boxes, SIZE)
        found = resample.crops(images, boxes, SIZE, torch.tensor([True, False, True, False]))
        wanted = oracle.resized_crop(images[1], *boxes[1].int().tolist(), size=[SIZE, SIZE], antialias=False)
        assert torch.equal(found[1], wanted)
        assert torch.equal(found[0].flip(-1), resample.one_by_one(images, boxes, SIZE, None)[0])


@pytest.mark.parametrize(
    ("box", "channels", "size"),
    [
        ((0, 0, 65, 20), 3, SIZE),  # made smaller, not larger
        ((-1, 0, 20, 20), 3, SIZE),  # over the border
        ((60, 0, 20, 20), 3, SIZE),
        ((0, 0, 20, 20), 1, SIZE),
        ((0, 0, 20, 20), 3, SIZE + 2),
    ],
)
def test_what_the_fast_way_does_not_know_goes_the_other(box: tuple[int, ...], channels: int, size: int) -> None:
    images = pictures(2)[:, :channels]
    assert not resample.fits(images, torch.tensor([box, box]).float(), size)


# Without a compiler


@pytest.fixture
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout in which nothing is compiled yet."""
    monkeypatch.setenv("VERSUS_HOME", str(tmp_path))
    resample.native.cache_clear()
    yield tmp_path / ".versus/native"
    resample.native.cache_clear()


def refuse(*_: object, **__: object) -> None:
    raise subprocess.CalledProcessError(1, "cc")


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("fault", ["none", "refuses", "rubbish"])
def test_without_a_working_compiler_torch_does_it(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    images, box = pictures(2), torch.tensor([[3.0, 5, 20, 30]]).expand(2, 4)
    if fault == "none":
        monkeypatch.setattr(native.shutil, "which", lambda _: None)
    elif fault == "refuses":
        monkeypatch.setattr(native.subprocess, "run", refuse)
    else:
        monkeypatch.setattr(native.subprocess, "run", lambda command, **_: Path(command[-2]).write_bytes(b"rubbish"))
    assert resample.native() is None
    assert torch.equal(resample.crops(images, box, SIZE, None), resample.one_by_one(images, box, SIZE, None))


@needs_native
def test_a_file_is_compiled_once(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.library(resample.SOURCE)
    assert [path.suffix for path in anew.iterdir()] == [".so"]
    monkeypatch.setattr(native.subprocess, "run", refuse)
    assert native.library(resample.SOURCE)
