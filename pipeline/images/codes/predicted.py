"""Pixels predicted from those before them, and what the predictions miss coded by how much they missed nearby.

The prediction is linear, by weights of each channel that least squares fit to a sample of the images. All images take
their steps together, from pixel to pixel, channel after channel: each image is a lane of the coder.

Shapes: N images, C channels, S side, P = C S S places, L lanes, T neighbours.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from pipeline.images.codes.lanes import Decoder, Encoder, frequencies
from pipeline.images.codes.plain import restored, squeezed

OFFSETS = [(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, -2), (-1, 2), (-2, -1), (-2, 1)]
OFFSETS += [(-2, -2), (-2, 2), (0, -3), (-3, 0)]
OTHERS = [(0, 0), (0, -1), (-1, 0), (0, 1), (1, 0), (-1, -1), (-1, 1)]  # in a channel that is known already
NEARBY = np.array([3, 3, 2, 2, 1, 1], dtype=np.float64)  # what misses at the first of OFFSETS count in a context
ALIKE = 3  # what a miss at the same pixel of another channel counts
ONE = 4096  # weights are whole multiples of 1/ONE: float64 sums of them times pixels are exact, in any order
EDGES = [0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724]
LEVELS = len(EDGES) + 1
FITTED = 1 << 22  # pixels of a channel that the weights are fitted to
MOST_LANES = 4096  # images that take their steps together


@dataclasses.dataclass(frozen=True)
class _Model:
    """Weights of each channel, whole numbers (T + 1,), the last a constant; and its LEVELS tables (C LEVELS, 256)."""

    weights: list[np.ndarray]
    table: np.ndarray

    def packed(self) -> bytes:
        weights = np.concatenate(self.weights).astype("<i4").tobytes()
        return squeezed(weights + self.table.astype("<u2").tobytes())

    @classmethod
    def unpacked(cls, data: bytes, channels: int) -> "_Model":
        sizes = [len(OFFSETS) + len(OTHERS) * channel + 1 for channel in range(channels)]
        plain = restored(data, 4 * sum(sizes) + 2 * channels * LEVELS * 256)
        table = np.frombuffer(plain, "<u2", offset=4 * sum(sizes)).reshape(channels * LEVELS, 256)
        weights = np.frombuffer(plain, "<i4", sum(sizes)).astype(np.float64)
        return cls(np.split(weights, np.cumsum(sizes)[:-1]), table)


def encode(images: np.ndarray) -> list[bytes]:
    """Images, uint8 (N, S, S, C), N not 0: the model and the stream."""
    side, channels = images.shape[1], images.shape[3]
    weights = [_fitted(images, channel) for channel in range(channels)]
    blocks = _blocks(images.shape)
    counts = np.zeros(channels * LEVELS * 256, dtype=np.int64)
    for block in blocks:
        contexts, misses = _missed(_planes(images[block]), weights, side)
        for context, miss in zip(contexts, misses, strict=True):
            counts += np.bincount(context.astype(np.int64) * 256 + miss, minlength=len(counts))
    model = _Model(weights, frequencies(counts.reshape(-1, 256)))
    encoder = Encoder(model.table, len(images[blocks[0]]))
    for block in reversed(blocks):
        contexts, misses = _missed(_planes(images[block]), weights, side)
        for context, miss in zip(contexts[::-1], misses[::-1], strict=True):
            encoder.put(context, miss)
    return [model.packed(), encoder.done()]


def decode(parts: list[bytes], shape: tuple[int, int, int, int]) -> np.ndarray:
    """The images that `encode` took, uint8 (N, S, S, C); raises ValueError or LZMAError for what it never wrote."""
    packed, stream = parts
    count, side, _, channels = shape
    model, blocks = _Model.unpacked(packed, channels), _blocks(shape)
    decoder = Decoder(model.table, min(blocks[0].stop, count), stream)
    images = np.empty(shape, dtype=np.uint8)
    for block in blocks:
        lanes = len(images[block])
        planes = np.full((channels * side * side + 1, lanes), 128, dtype=np.uint8)
        sizes = np.zeros_like(planes)
        for place, guess, context in _steps(planes, sizes, model.weights, side):
            miss = decoder.get(context)
            planes[place] = guess + miss
            sizes[place] = _size(miss)
        images[block] = planes[:-1].reshape(channels, side, side, lanes).transpose(3, 1, 2, 0)
    return images


def _blocks(shape: tuple[int, ...]) -> list[slice]:
    """Images that take their steps together: as many as caches and memory bear."""
    lanes = max(1, min(MOST_LANES, (1 << 27) // math.prod(shape[1:])))
    return [slice(start, start + lanes) for start in range(0, shape[0], lanes)]


def _planes(images: np.ndarray) -> np.ndarray:
    """Images (L, S, S, C) as places (P + 1, L), channel after channel; the last is grey, beyond every image."""
    places = images.transpose(3, 1, 2, 0).reshape(-1, len(images))
    return np.concatenate([places, np.full((1, len(images)), 128, dtype=np.uint8)])


def _missed(planes: np.ndarray, weights: list[np.ndarray], side: int) -> tuple[np.ndarray, np.ndarray]:
    """Contexts and misses of known pixels: uint8 (P, L) each."""
    contexts, misses, sizes = (np.zeros_like(planes) for _ in range(3))
    for place, guess, context in _steps(planes, sizes, weights, side):
        contexts[place], misses[place] = context, planes[place] - guess
        sizes[place] = _size(misses[place])
    return contexts[:-1], misses[:-1]


def _steps(
    planes: np.ndarray, sizes: np.ndarray, weights: list[np.ndarray], side: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """From place to place: the place, guesses, uint8 (L,), and contexts, uint8 (L,).

    A guess is made of `planes`, a context of the `sizes` of misses, (P + 1, L) each, as they are before that place:
    who takes the steps fills both in.
    """
    for channel, own in enumerate(weights):
        alike = len(OFFSETS) + len(OTHERS) * np.arange(channel)  # the same pixel in other channels
        near = np.concatenate([np.arange(len(NEARBY)), alike])
        counts = np.concatenate([NEARBY, np.full(channel, ALIKE)])
        level = np.searchsorted(EDGES, np.arange(int(counts.sum()) * 128 + 1), side="left") + channel * LEVELS
        level = level.astype(np.uint8)
        for row in range(side):
            first = (channel * side + row) * side
            for column, places in enumerate(_neighbours(channel, row, side)):
                guess = np.floor((own[:-1] @ planes[places].astype(np.float64) + (own[-1] + ONE // 2)) / ONE)
                context = level[(counts @ sizes[places[near]].astype(np.float64)).astype(np.int64)]
                yield first + column, guess.clip(0, 255).astype(np.uint8), context


def _neighbours(channel: int, row: int, side: int) -> np.ndarray:
    """Places of the neighbours of a row's pixels, (S, T): OFFSETS in this channel, OTHERS in each before it.

    What lies outside the image is the nearest pixel inside, and what is not known yet the pixel before, or above.
    """
    column = np.arange(side)
    start = channel * side * side
    before = start + row * side + column - 1
    before[0] = start + (row - 1) * side if row else -1  # the grey place
    found = []
    for down, right in OFFSETS:
        y, x = max(row + down, 0), (column + right).clip(0, side - 1)
        found.append(np.where((y < row) | (x < column), start + y * side + x, before))
    for other in range(channel):
        for down, right in OTHERS:
            y, x = min(max(row + down, 0), side - 1), (column + right).clip(0, side - 1)
            found.append((other * side + y) * side + x)
    return np.stack(found, axis=1)


def _fitted(images: np.ndarray, channel: int) -> np.ndarray:
    """Weights of a channel's neighbours, whole numbers (T + 1,), by least squares."""
    side = images.shape[1]
    planes = _planes(images[:: -(-images.shape[0] * side * side // FITTED)])
    size = len(OFFSETS) + len(OTHERS) * channel + 2
    products = np.zeros((size, size))
    for row in range(side):
        first = (channel * side + row) * side
        near = planes[_neighbours(channel, row, side)]  # (S, T, L)
        known = [near, np.ones_like(near[:, :1]), planes[first : first + side, None]]
        rows = np.concatenate(known, axis=1).astype(np.float64).transpose(1, 0, 2).reshape(size, -1)
        products += rows @ rows.T  # of whole numbers below 2**53
    weights = np.linalg.solve(products[:-1, :-1] + np.eye(size - 1), products[:-1, -1])
    return np.round(weights * ONE).clip(-(2**30), 2**30)


def _size(misses: np.ndarray) -> np.ndarray:
    """How far misses, modulo 256, are from nothing: uint8 up to 128."""
    return np.minimum(misses, -misses)
