"""What one training says of every test image: reports/predictions/<model>-<replicate>.parquet, small enough for git.

Of each image the name of its file, its class, the class predicted, the probability of that one to five decimals
(`confidence`), and to three decimals the probability of every class, or of the likeliest five where there are more
than twenty. A decimal is stored as a whole number, split into its bytes: so three of them take two thirds of what half
precision takes. All digits are in data/logits/<model>-<replicate>.npy, in DVC's cache.

Shapes: N images, K classes, M of them whose probabilities are kept.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from pipeline.base.errors import StageError

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

EARLIER = ".csv"  # of the predictions that earlier versions left
ALL_UP_TO = 20
LIKELIEST = [f"likeliest {rank}" for rank in range(1, 6)]
DECIMALS, OF_CONFIDENCE = 3, 5


@dataclass(frozen=True)
class Predictions:
    """Test images in their order, and what a training says of them; probabilities of one that diverged are NaN."""

    classes: list[str]
    actual: Labels  # (N,)
    predicted: Labels  # (N,)
    confidence: Floats  # (N,), the probability of the predicted class
    probabilities: Floats  # (N, M)
    likeliest: Labels | None = None  # (N, M), the classes that these are of; None: all, in their order
    images: list[str] | None = None  # names of files; None where an earlier version did not keep them

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether each image's class is the one predicted (N,)."""
        return self.predicted == self.actual

    @property
    def of_every_class(self) -> Floats:
        """Probabilities (N, K) as far as they are kept, the predicted class's to all of its decimals.

        What the likeliest leave is shared alike by the classes whose probabilities are not kept.
        """
        images = np.arange(len(self.actual))
        found = self.probabilities.copy()
        if self.likeliest is not None:
            others = len(self.classes) - self.likeliest.shape[1]
            rest = (1 - found.sum(1, keepdims=True)).clip(min=0) / others
            found = np.repeat(rest, len(self.classes), axis=1)
            np.put_along_axis(found, self.likeliest, self.probabilities, axis=1)
        found = np.minimum(found, self.confidence[:, None])  # rounded up, another class's may be above it
        found[images, self.predicted] = self.confidence
        return found

    @classmethod
    def of(
        cls, classes: list[str], actual: Labels, predicted: Labels, probabilities: Floats, images: list[str] | None
    ) -> "Predictions":
        """Predictions from probabilities (N, K) in full precision."""
        likeliest = None
        if len(classes) > ALL_UP_TO:
            likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, : len(LIKELIEST)]
            probabilities = np.take_along_axis(probabilities, likeliest, axis=1)
        rounded = probabilities.round(OF_CONFIDENCE)
        return cls(classes, actual, predicted, rounded.max(1), rounded.round(DECIMALS), likeliest, images)

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        """The predictions at `path`; raises StageError where there are none, or none that can be read."""
        remedy = "run `dvc repro predictions` in the study's folder"
        try:
            return _from_table(parquet.read_table(path, read_dictionary=["actual", "predicted", *LIKELIEST]))
        except FileNotFoundError:
            also = f" ({path.stem}{EARLIER} is of an earlier version)" * path.with_suffix(EARLIER).exists()
            raise StageError(f"{path}: not found{also}; {remedy}") from None
        except (OSError, ValueError, KeyError, AttributeError, pa.ArrowException):
            raise StageError(f"{path}: not readable as predictions; {remedy}") from None

    def write(self, path: Path) -> None:
        """Write them to `path`; the bytes are the same for the same predictions."""
        table = _to_table(self)
        numbers = [field.name for field in table.schema if pa.types.is_decimal(field.type)]
        parquet.write_table(
            table,
            path,
            compression="zstd",
            compression_level=19,
            use_dictionary=["actual", "predicted", *LIKELIEST],
            column_encoding={"image": "DELTA_BYTE_ARRAY", **dict.fromkeys(numbers, "BYTE_STREAM_SPLIT")},
            store_decimal_as_integer=True,
            store_schema=False,
            write_statistics=False,
        )

    def frame(self) -> pd.DataFrame:
        """A row for each image: its file's name, its class, the one predicted and how sure of it the network was."""
        classes = pd.Index(self.classes)
        return pd.DataFrame(
            {
                "image": pd.Series(self.images, range(len(self.actual)), dtype="str"),
                "actual": pd.Categorical.from_codes(self.actual, classes),
                "predicted": pd.Categorical.from_codes(self.predicted, classes),
                "confidence": self.confidence,
            }
        )


def predictions_path(name: str, study: Path = Path()) -> Path:
    """Where the predictions of a training are: in git."""
    return study / f"reports/predictions/{name}.parquet"


def cached_path(name: str) -> Path:
    """Where evaluate leaves them, in DVC's cache."""
    return Path(f"data/predictions/{name}.parquet")


def logits_path(name: str, study: Path = Path()) -> Path:
    """Where all digits of them are: float32 (N, K), in DVC's cache."""
    return study / f"data/logits/{name}.npy"


def _to_table(found: Predictions) -> pa.Table:
    def named(labels: Labels) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(labels, pa.int16()), pa.array(found.classes, pa.string()))

    columns = {
        "image": pa.nulls(len(found.actual), pa.string()) if found.images is None else pa.array(found.images),
        "actual": named(found.actual),
        "predicted": named(found.predicted),
        "confidence": _decimals(found.confidence, OF_CONFIDENCE),
    }
    if found.likeliest is not None:
        columns |= {name: named(labels) for name, labels in zip(LIKELIEST, found.likeliest.T, strict=True)}
    names = found.classes if found.likeliest is None else LIKELIEST
    columns |= {
        f"p({name})": _decimals(values, DECIMALS) for name, values in zip(names, found.probabilities.T, strict=True)
    }
    return pa.table(columns)


def _from_table(table: pa.Table) -> Predictions:
    def labels(name: str) -> Labels:
        return table[name].combine_chunks().indices.to_numpy().astype(np.int64)

    classes = table["actual"].combine_chunks().dictionary.to_pylist()
    ranked = LIKELIEST[0] in table.column_names
    names = [f"p({name})" for name in (LIKELIEST if ranked else classes)]
    images = table["image"]
    return Predictions(
        classes=classes,
        actual=labels("actual"),
        predicted=labels("predicted"),
        confidence=_floats(table["confidence"], OF_CONFIDENCE),
        probabilities=np.stack([_floats(table[name], DECIMALS) for name in names], axis=1),
        likeliest=np.stack([labels(name) for name in LIKELIEST], axis=1) if ranked else None,
        images=None if images.null_count else images.to_pylist(),
    )


def _decimals(values: Floats, decimals: int) -> pa.Array:
    """Fractions as decimals that one byte before the point and some behind hold; NaN becomes null."""
    return pa.array(values, from_pandas=True).cast(pa.decimal128(decimals + 1, decimals))


def _floats(column: pa.ChunkedArray, decimals: int) -> Floats:
    """The double nearest to each decimal, which is not what Arrow makes of it; null becomes NaN."""
    return column.cast(pa.float64()).to_numpy().round(decimals)
