"""Small generated data sets in the published layouts, for tests: `from tests.trees import rafdb_folders`.

The images are noise over stripes whose number is the class's, so that a network can learn them.
"""

import contextlib
import csv
import dataclasses
import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from pipeline.records.predictions import Predictions

ROOT = Path(__file__).parents[1]
RAFDB = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
LANDMARKS = "43.7\t41.2\n68.1\t40.9\n55.0\t58.3\n45.6\t71.4\n66.2\t71.0\n"  # eyes, nose, corners of the mouth
USAGES = {"train": ("Training",), "test": ("PublicTest", "PrivateTest")}


def striped(label: int, height: int, width: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """One image of class `label`: uint8 (H, W, C)."""
    wave = np.sin(2 * np.pi * (label + 1) * np.arange(width) / width + rng.uniform(0, 0.5))  # (W,)
    image = 128 + 80 * wave[None, :, None] + rng.normal(0, 15, (height, width, channels))
    return np.clip(image, 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "png", **options: Any) -> bytes:
    """An image file of pixels (H, W, C)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def class_tree(
    root: Path,
    counts: Mapping[str, Mapping[str, int]],
    size: tuple[int, int] = (16, 16),
    channels: int = 3,
    suffix: str = "png",
    seed: int = 0,
) -> Path:
    """`<split>/<class>/<n>.<suffix>` for split -> class -> count; an empty split leaves `<class>/` alone."""
    rng = np.random.default_rng(seed)
    classes = sorted({name for per_class in counts.values() for name in per_class})
    for split, per_class in counts.items():
        for name, count in per_class.items():
            for number in range(count):
                pixels = striped(classes.index(name), *size, channels, rng)
                kind = "jpeg" if suffix == "jpg" else suffix
                put(root / split / name / f"{number:04d}.{suffix}", encoded(pixels, kind))
    return root


def rafdb_images(train: int, test: int, side: int, seed: int) -> Iterable[tuple[str, int, bytes]]:
    """Name in the official list, label 1 to 7, JPEG; `train` and `test` images a class."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("test", test)):
        for number in range(7 * count):
            label = number % 7
            yield f"{split}_{number + 1:05d}", label + 1, encoded(striped(label, side, side, 3, rng), "jpeg")


def rafdb_folders(root: Path, train: int = 10, test: int = 3, side: int = 100, seed: int = 0) -> Path:
    """RAF-DB as class folders `train/1..7`, `test/1..7`."""
    for name, label, content in rafdb_images(train, test, side, seed):
        put(root / name.split("_")[0] / str(label) / f"{name}_aligned.jpg", content)
    return root


def rafdb_official(root: Path, train: int = 10, test: int = 3, side: int = 100, seed: int = 0) -> Path:
    """RAF-DB as its authors give it out: `basic/EmoLabel/list_patition_label.txt`, `basic/Image/aligned/`.

    And `basic/Annotation/manual/`: of each image five landmarks, then numbers for gender, race and age.
    """
    lines = []
    for number, (name, label, content) in enumerate(rafdb_images(train, test, side, seed)):
        put(root / "basic" / "Image" / "aligned" / f"{name}_aligned.jpg", content)
        seen = f"{number % 3}\n{number // 3 % 3}\n{number % 5}\n"
        put(root / "basic" / "Annotation" / "manual" / f"{name}_manu_attri.txt", (LANDMARKS + seen).encode())
        lines.append(f"{name}.jpg {label}\n")
    put(root / "basic" / "EmoLabel" / "list_patition_label.txt", "".join(lines).encode())
    return root


def fer2013_rows(train: int, val: int, test: int, seed: int) -> list[tuple[int, str, np.ndarray]]:
    """Emotion code, Usage and pixels (48, 48, 1) by row; so many images a class in each split."""
    rng = np.random.default_rng(seed)
    return [
        (number % 7, usage, striped(number % 7, 48, 48, 1, rng))
        for usage, count in (("Training", train), ("PublicTest", val), ("PrivateTest", test))
        for number in range(7 * count)
    ]


def fer2013_folders(root: Path, train: int = 10, val: int = 3, test: int = 3, seed: int = 0) -> Path:
    """FER2013 as Kaggle's folders."""
    for row, (code, usage, pixels) in enumerate(fer2013_rows(train, val, test, seed)):
        split = "train" if usage == "Training" else "test"
        put(root / split / FER2013[code] / f"{usage}_{row}.png", encoded(pixels))
    return root


def reverse_predictions(path: Path) -> None:
    """Put a training's predictions into the opposite order of images."""
    found = Predictions.read(path)
    turned = {key: each[::-1] for key, each in vars(found).items() if key not in ("classes", "likeliest")}
    dataclasses.replace(found, **turned).write(path)


def ferplus(path: Path, train: int = 10, val: int = 3, test: int = 3) -> Path:
    """FER+'s table beside FER2013's: seven of ten people agree with FER2013, one saw contempt; nobody saw row 3."""
    columns = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
    seen = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")  # by FER2013's code
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, ("Usage", "Image name", *columns), restval=0)
        table.writeheader()
        for row, (code, usage, _) in enumerate(fer2013_rows(train, val, test, 0)):
            votes = {seen[code]: 7, seen[(code + 1) % 7]: 2, "contempt": 1} if row != 3 else {"NF": 10}
            table.writerow({"Usage": usage, "Image name": f"fer{row:07d}.png", **votes})
    return path


def fer2013_csv(path: Path, train: int = 10, val: int = 3, test: int = 3, seed: int = 0, icml: bool = False) -> Path:
    """FER2013 as the challenge's table; `icml` has the columns of icml_face_data.csv, blanks and all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["emotion", " Usage", " pixels"] if icml else ["emotion", "pixels", "Usage"])
        for code, usage, pixels in fer2013_rows(train, val, test, seed):
            text = " ".join(map(str, pixels.ravel()))
            table.writerow([code, usage, text] if icml else [code, text, usage])
    return path


JAFFE = {"AN": 30, "DI": 29, "FE": 32, "HA": 31, "NE": 30, "SA": 31, "SU": 30}  # published images of each expression
SUBJECTS = ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM")


def jaffe(root: Path, counts: Mapping[str, int] = JAFFE, side: int = 64, seed: int = 0) -> Path:
    """JAFFE as its authors give it out: `KA.AN1.39.tiff`; each expression is spread evenly over the ten subjects."""
    rng = np.random.default_rng(seed)
    number = 0
    for label, (code, count) in enumerate(counts.items()):
        for index in range(count):
            number += 1
            subject, take = SUBJECTS[index % len(SUBJECTS)], index // len(SUBJECTS) + 1
            content = encoded(striped(label, side, side, 1, rng), "tiff")
            put(root / f"{subject}.{code}{take}.{number}.tiff", content)
    put(root / "README", b"The Japanese Female Facial Expression database")
    return root


def caltech256_folders(root: Path, classes: int = 3, count: int = 10, seed: int = 0) -> Path:
    """Caltech-256 as its archive has it: images of any size and mode, and files that are none."""
    rng = np.random.default_rng(seed)
    for number in range(1, classes + 1):
        folder = root / "256_ObjectCategories" / f"{number:03d}.thing-{number}"
        for image in range(1, count + 1):
            height, width = rng.integers(20, 40, 2)
            pixels = striped(number, int(height), int(width), 3, rng)
            mode = ("RGB", "L", "P", "CMYK", "RGBA")[image % 5]
            kind = "png" if mode in ("P", "RGBA") else "jpeg"  # as it says .jpg all the same
            buffer = io.BytesIO()
            Image.fromarray(pixels).convert(mode).save(buffer, kind)
            put(folder / f"{number:03d}_{image:04d}.jpg", buffer.getvalue())
        put(folder / "RENAME2", b"#!/bin/sh\n")
        put(folder / "greg" / "notes.jpg", b"no image")
    return root


def archived(folder: Path, kind: str = "zip") -> Path:
    """An archive of `folder` beside it; `kind` is zip, tar or gztar."""
    return Path(shutil.make_archive(str(folder), kind, folder))


def study(folder: Path, settings: Mapping[str, Any], without: Sequence[str] = ()) -> Path:
    """Write the repository's params.yaml into `folder` with dotted keys set: {"dataset.name": "rafdb"}."""
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    put_settings(params, settings)
    for name in without:
        del params["models"][name]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    return folder


def put_settings(params: Any, settings: Mapping[str, Any]) -> None:
    """Set dotted keys of a params.yaml's content: {"dataset.name": "rafdb"}."""
    for key, value in settings.items():
        *path, last = key.split(".")
        section = params
        for name in path:
            section = section[name]
        section[last] = value


class Recorded:
    """Stands in for a tracked run and keeps what is logged."""

    id = "recorded"

    def __init__(self) -> None:
        self.logged: dict[str, Any] = {"params": {}, "metrics": {}, "artifacts": [], "datasets": []}

    def params(self, values: Mapping[str, Any]) -> None:
        self.logged["params"] |= values

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:  # noqa: ARG002
        self.logged["metrics"] |= values

    def later(self, values: Mapping[str, float], step: int) -> None:
        self.metrics(values, step)

    def settle(self) -> None:
        pass

    def artifact(self, path: Path, folder: str = "") -> None:  # noqa: ARG002
        assert path.exists()
        self.logged["artifacts"].append(path.as_posix())

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        self.logged["datasets"].append((name, digest, source, context))


def recorded(monkeypatch: Any) -> dict[str, Any]:
    """Keep what fetch and split log, instead of opening an MLflow store."""
    from pipeline.tracking import runs

    run = Recorded()
    monkeypatch.setattr(runs, "data_run", lambda stage: contextlib.nullcontext(run))  # noqa: ARG005
    return run.logged
