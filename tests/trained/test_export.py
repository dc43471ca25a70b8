"""ONNX files: PyTorch's answers for any batch, with what one needs to use them, or no file."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from pipeline.base.errors import StageError
from pipeline.base.places import TEST
from pipeline.images import form, packed
from pipeline.inference import loading
from pipeline.params import faults, read
from pipeline.params.read import load_params
from pipeline.records.predictions import Predictions, predictions_path
from pipeline.stages import check
from pipeline.trained import catalogue, int8
from pipeline.trained import export as trained_export
from pipeline.trained.export import export, refuse_disagreement, saved_images
from pipeline.trained.onnx import compare, run

NAMES = ("tiny-0", "vit-0", "hybrid-0")  # blurpool and squeeze_excite; a transformer; a class token


@pytest.fixture(scope="module")
def exported(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every family's network as a file."""
    folder = tmp_path_factory.mktemp("onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained_folder)
        for name in NAMES:
            export(name, folder / f"{name}.onnx")
    return {name: folder / f"{name}.onnx" for name in NAMES}


def prepared(name: str, count: int) -> tuple[nn.Module, torch.Tensor]:
    """The network and test images as it takes them."""
    network, config = catalogue.load(catalogue.choose(name)[0])
    pixels = packed.read(Path("data/test/0")).pixels[:count]
    return network.eval(), form.prepare(pixels, loading.image_format(config))


@pytest.mark.usefixtures("trained_study")
@pytest.mark.parametrize("count", [1, 2, 7, 360])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_gives_the_networks_logits_for_batches_of_any_size(
    exported: dict[str, Path], name: str, count: int
) -> None:
    network, images = prepared(name, count)
    session = onnxruntime.InferenceSession(exported[name])
    (got,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        wanted = network(images).numpy()
    assert got.shape == (count, 10)
    assert got == pytest.approx(wanted, abs=1e-4)
    assert (got.argmax(1) == wanted.argmax(1)).all()


@pytest.mark.usefixtures("trained_study")
@pytest.mark.parametrize("name", NAMES)
def test_with_its_metadata_alone_a_file_classifies_the_studys_images(exported: dict[str, Path], name: str) -> None:
    session = onnxruntime.InferenceSession(exported[name])
    notes = session.get_modelmeta().custom_metadata_map
    mean, std = (np.array(json.loads(notes[key]), np.float32)[:, None, None] for key in ("mean", "std"))
    side = session.get_inputs()[0].shape[2]
    digits = torch.from_numpy(np.load("data/test/0/images.npy")[..., 0])[:, None].float()
    values = nn.functional.interpolate(digits, (side, side), mode="bilinear").numpy() / 255
    (got,) = session.run(None, {"images": (values.repeat(3, axis=1) - mean) / std})
    classes = np.array(json.loads(notes["classes"]))
    assert list(classes[got.argmax(1)]) == Predictions.read(predictions_path(name)).frame()["predicted"].tolist()
    assert notes["model"] == name


def test_a_file_tells_nothing_of_the_machine_that_wrote_it(exported: dict[str, Path]) -> None:
    for path in exported.values():
        content = path.read_bytes()
        assert str(Path(trained_export.__file__).parent).encode() not in content
        assert b"site-packages" not in content


@pytest.mark.usefixtures("trained_study")
def test_what_was_verified_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "tiny.onnx"
    export("tiny", path)
    first, written, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("export: tiny-")
    assert "the highest of 2 replicates of tiny" in first
    assert written.startswith(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    assert second.startswith("verified on 360 test images with ONNX Runtime")
    assert " ms in PyTorch " in third
    assert [entry.name for entry in path.parent.iterdir()] == ["tiny.onnx"]


# Made faster


def noted(batches: Iterable[torch.Tensor], seen: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    for batch in batches:
        seen.append(batch)
        yield batch


@pytest.mark.usefixtures("trained_study")
def test_filled_up_a_network_gives_the_same_logits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export("tiny-0", tmp_path / "filled.onnx", "fill")
    said = capsys.readouterr().out
    assert "the same class for all" in said
    assert " ms in ONNX Runtime without --fill" in said
    network, images = prepared("tiny-0", 360)
    session = onnxruntime.InferenceSession(tmp_path / "filled.onnx")
    assert run(session, images) == pytest.approx(run(network, images), abs=1e-4)
    notes = session.get_modelmeta().custom_metadata_map
    assert notes["channels"] == "filled up with zeros to multiples of 16"


@pytest.mark.usefixtures("trained_study")
def test_in_integers_most_classes_stay_and_what_changes_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ranges come from training images: from test images they would make the comparison too favourable."""
    seen: list[torch.Tensor] = []
    quantise = int8.quantise
    monkeypatch.setattr(int8, "quantise", lambda model, batches: quantise(model, noted(batches, seen)))
    export("tiny-0", tmp_path / "int8.onnx", "int8")
    network, images = prepared("tiny-0", 360)
    session = onnxruntime.InferenceSession(tmp_path / "int8.onnx")
    logits = run(network, images)
    got, wanted = run(session, images).argmax(1), logits.argmax(1)
    assert (got == wanted).mean() >= trained_export.LEAST
    first, second = np.sort(logits, axis=1)[:, :-3:-1].T
    margin = first - second
    assert (margin[got != wanted] < np.median(margin)).all()  # near ties alone: this network hardly learnt
    _, config = catalogue.load(catalogue.choose("tiny-0")[0])
    train = form.prepare(packed.read(Path("data/fit/0"), "train_").pixels, loading.image_format(config))
    assert {image.numpy().tobytes() for image in torch.cat(seen)} <= {image.numpy().tobytes() for image in train}
    labels = packed.read(Path("data/test/0")).labels.numpy()
    scores = [f"{(answers == labels).mean():.1%}" for answers in (got, wanted)]
    said = capsys.readouterr().out
    assert f"PyTorch's class for {(got == wanted).sum()}; accuracy {scores[0]}, PyTorch's {scores[1]}" in said
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    assert session.get_modelmeta().custom_metadata_map["precision"].startswith("8-bit integers, ranges from 512 ")


@pytest.mark.usefixtures("trained_study")
def test_integers_that_name_other_classes_are_refused(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained_export, "convert", lambda *_: None)
    monkeypatch.setattr(int8, "quantise", lambda *_: onnx.load(exported["vit-0"]))
    with pytest.raises(StageError, match=r"not written, for in 8-bit integers .* of 360 test images only"):
        export("tiny-0", tmp_path / "int8.onnx", "int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("trained_study")
def test_a_network_without_channels_to_fill_is_refused(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained_export, "convert", lambda *_: onnx.load(exported["hybrid-0"]))
    with pytest.raises(StageError, match=r"^hybrid-0: .*; leave out --fill"):
        export("hybrid-0", tmp_path / "filled.onnx", "fill")


# Refusals


@pytest.mark.usefixtures("trained_study")
@pytest.mark.parametrize("before", [None, b"an older file"])
def test_a_file_that_disagrees_is_not_kept_and_an_older_one_stays(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    """The exporter is made to give another network, of the same form."""
    path = tmp_path / "out" / "tiny.onnx"
    path.parent.mkdir()
    if before:
        path.write_bytes(before)
    monkeypatch.setattr(trained_export, "convert", lambda *_: onnx.load(exported["vit-0"]))
    with pytest.raises(StageError) as fault:
        export("tiny-0", path)
    assert str(fault.value).startswith(
        f"{path}: not written, for ONNX Runtime disagrees with PyTorch: on 360 test images"
    )
    assert [entry.read_bytes() for entry in path.parent.iterdir()] == ([before] if before else [])


class Session:
    """Stands in for ONNX Runtime: the network's logits with `change` added."""

    def __init__(self, network: nn.Module, change: Any) -> None:
        self.network, self.change = network, change

    def run(self, _: object, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        images = torch.from_numpy(inputs["images"])
        return [self.network(images).numpy() + self.change(len(images))]


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (lambda _: 0.0, False),
        (lambda _: np.float32(0.9e-4), False),
        (lambda _: np.float32(1e-3), True),
        (lambda _: np.float32("nan"), True),
        (lambda n: np.float32(1e-3) if n == 1 else 0.0, True),  # an image alone
        (lambda n: 0.0 if n == 1 else np.float32([-5e-5, 5e-5]), True),  # within bounds, another class
    ],
    ids=["nothing", "a little", "too much", "nan", "too much alone", "another class"],
)
def test_logits_that_differ_by_too_much_or_in_their_largest_are_refused(change: Any, refused: bool) -> None:
    network = nn.Flatten()  # an image's two pixels are its logits
    batches = [torch.tensor([[[[0.5, 0.0]]], [[[0.30005, 0.3]]]])]
    found = compare(Session(network, change), network, batches)
    assert found.images == 2
    if refused:
        with pytest.raises(StageError, match="disagrees"):
            refuse_disagreement(found, Path("x.onnx"))
    else:
        refuse_disagreement(found, Path("x.onnx"))


@pytest.mark.usefixtures("trained_study")
def test_a_folder_in_the_files_place_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    with pytest.raises(StageError, match=r"--onnx: .* is a folder; give a file's name"):
        export("tiny-0", tmp_path)
    assert (tmp_path / "kept").exists()


@pytest.mark.usefixtures("trained_study")
@pytest.mark.parametrize("place", ["pipe", "file/x.onnx", "/proc/x.onnx"])
def test_a_place_that_takes_no_file_is_refused_and_left_alone(place: str, tmp_path: Path) -> None:
    """A device would be replaced by a file: as root /dev/null for all."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StageError, match=r"--onnx: .*(is neither a file nor a free name|cannot be written into)"):
        export("tiny-0", Path(place) if place.startswith("/") else tmp_path / place)
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "file").read_text() == "mine"


def test_without_the_packages_the_command_that_installs_them_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "ONNX", ("onnx", "no_such_package"))
    with pytest.raises(StageError, match=r"export needs no_such_package: .*'\.\[export\]'"):
        export("tiny-0", tmp_path / "x.onnx")


@pytest.mark.usefixtures("trained_study")
def test_a_study_that_times_onnx_is_refused_before_any_work_without_the_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed = faults.parse({**load_params().model_dump(mode="json"), "evaluate": {"onnx": True}})
    monkeypatch.setattr(check, "load_params", lambda: timed)
    monkeypatch.setattr(read, "ONNX", ("onnx", "no_such_package"))
    with pytest.raises(StageError, match=r"evaluate\.onnx: true needs no_such_package: .*'\.\[export\]'"):
        check.main()


def test_a_large_test_set_is_compared_at_images_spread_over_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = packed.Images(torch.arange(100), torch.arange(100))
    monkeypatch.setattr(packed, "read", lambda *_: images)
    monkeypatch.setattr(packed, "read_info", lambda _: {"classes": ["a"]})
    config = {"classes": ["a"], "replicate": 0}
    assert saved_images(TEST, config, "x", 4).labels.tolist() == [0, 33, 66, 99]
    assert saved_images(TEST, config, "x", 1000).labels.equal(images.labels)
    with pytest.raises(StageError, match="was trained on classes"):
        saved_images(TEST, {"classes": ["b"], "replicate": 0}, "x", 4)
