"""Classes and probabilities for images: as evaluate gave them, for every kind of file, from the model that is meant."""

import io
import json
import os
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.base.errors import StageError
from pipeline.commands import models
from pipeline.commands.predict import predict
from pipeline.images.packed import read
from pipeline.inference import forward, loading
from pipeline.records.predictions import Predictions, logits_path, predictions_path
from pipeline.stages import split
from pipeline.trained import answers, catalogue
from tests import small_study, trees

CPU = torch.device("cpu")
PLAIN = {"plain": {"family": "tiny", "layers": ["conv 8, pool, conv 8"], "train": {"lr": 0.02}}}


def load(name: str) -> tuple[torch.nn.Module, dict[str, Any], answers.Packed]:
    network, config = catalogue.load(catalogue.choose(name)[0])
    return network, config, answers.packed(config, name)


def logits(name: str, paths: list[Path]) -> torch.Tensor:
    """Of image files, by predict's own way."""
    network, config, form = load(name)
    images = [(str(path), answers.read(path, form)) for path in paths]
    return torch.cat([batch for _, _, batch in answers.scored(network, config, images)])


def evaluated(name: str) -> torch.Tensor:
    """Logits of the test images, as evaluate computes them."""
    network, config, _ = load(name)
    images, form = read(Path("data/test/0")), loading.image_format(config)
    return forward.predict(network, images, form, CPU, config["train"]["batch_size"])


def saved_test_images(folder: Path, number: int = 360) -> list[Path]:
    """The packed test images as files."""
    folder.mkdir()
    paths = [folder / f"{row:04d}.png" for row in range(number)]
    for path, pixels in zip(paths, np.load("data/test/0/images.npy")[:number], strict=True):
        Image.fromarray(pixels[..., 0]).save(path)
    return paths


# The same as evaluate


@pytest.mark.parametrize("name", ["tiny-0", "vit-0", "hybrid-0"])
@pytest.mark.usefixtures("trained_study")
def test_images_of_the_test_set_get_exactly_the_logits_that_evaluate_gave_them(tmp_path: Path, name: str) -> None:
    found = logits(name, saved_test_images(tmp_path / "images"))
    assert found.equal(evaluated(name))
    assert found.numpy() == pytest.approx(np.load(logits_path(name)), abs=1e-5)  # batches of another size
    reported = Predictions.read(predictions_path(name))
    assert found.argmax(1).tolist() == reported.predicted.tolist()
    assert found.double().softmax(1).numpy() == pytest.approx(reported.probabilities, abs=6e-4)
    assert found.double().softmax(1).amax(1).numpy() == pytest.approx(reported.confidence, abs=6e-6)


@pytest.fixture(scope="module", params=["crop", "squash"])
def odd_study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of many sizes, formats and modes as a data set: what split has to resize, predict has to as well."""
    folder = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(0)
    for name, (mode, suffix, turned) in KINDS.items():
        for label in range(2):
            for split_name, count in (("train", 3), ("test", 2)):
                for number in range(count):
                    pixels = trees.striped(label, *rng.integers(14, 40, 2), 3, rng)
                    image = Image.fromarray(pixels).convert(mode)
                    path = folder / "images" / split_name / f"class {label}" / f"{name}{number}.{suffix}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    image.save(path, **({"exif": turned_exif()} if turned else {}))
    settings = {"dataset.name": "folder", "dataset.source": "images", "dataset.resize": request.param}
    return small_study.run(folder, {**settings, "replicates": [0]}, PLAIN, ["plain-0"])


KINDS = {  # mode, suffix, turned by its EXIF orientation
    "colour": ("RGB", "png", False),
    "grey": ("L", "png", False),
    "binary": ("1", "png", False),
    "palette": ("P", "gif", False),
    "alpha": ("RGBA", "png", False),
    "print": ("CMYK", "jpg", False),
    "photo": ("RGB", "jpg", True),
}


def turned_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def test_files_of_any_size_and_mode_get_the_logits_that_the_data_set_got(
    odd_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(odd_study)
    names = pd.read_csv("data/test/0/manifest.csv").name
    paths = [Path("images") / name for name in names]
    assert len(paths) == 4 * len(KINDS)
    packed = np.load("data/test/0/images.npy")
    _, _, form = load("plain-0")
    assert all((answers.read(path, form) == image).all() for path, image in zip(paths, packed, strict=True))
    assert logits("plain-0", paths).equal(evaluated("plain-0"))


@pytest.mark.usefixtures("trained_study")
def test_an_images_logits_hardly_depend_on_its_neighbours(tmp_path: Path) -> None:
    paths = saved_test_images(tmp_path / "images")[:5]
    together = logits("tiny-0", paths)
    alone = torch.cat([logits("tiny-0", [path]) for path in paths])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def test_the_probabilities_are_a_softmax_the_likeliest_first_no_more_than_there_are() -> None:
    (answer,) = answers.ranked(torch.tensor([[0.0, np.log(3.0), 0.0]]), ["a", "b", "c"], 9)
    assert [choice["class"] for choice in answer] == ["b", "a", "c"]
    assert [choice["probability"] for choice in answer] == pytest.approx([0.6, 0.2, 0.2])
    assert len(answers.ranked(torch.zeros(1, 3), ["a", "b", "c"], 2)[0]) == 2


# Which images


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Images at several depths, and files that are none."""
    image = trees.encoded(np.zeros((8, 8, 1), np.uint8))
    for name in ("b.png", "a.PNG", "deep/er/c.png", ".hidden/d.png", "[odd].png"):
        trees.put(tmp_path / "pictures" / name, image)
    trees.put(tmp_path / "pictures/labels.csv", b"a,b\n")
    return tmp_path / "pictures"


def names(source: Path | str) -> list[str]:
    return [path.name for path in answers.files(str(source))]


def test_a_folder_means_the_images_in_it_and_below(pictures: Path) -> None:
    assert names(pictures) == ["[odd].png", "a.PNG", "b.png", "c.png"]


def test_a_glob_means_what_it_matches_and_the_images_of_folders_that_it_matches(pictures: Path) -> None:
    assert names(pictures / "?.png") == ["b.png"]
    assert names(pictures / "**/*.png") == ["[odd].png", "b.png", "c.png"]
    assert names(pictures / "d*") == ["c.png"]
    assert names(pictures / "**") == names(pictures), "each once, and what is named as an image"
    (pictures / "empty").mkdir()
    (pictures / "gone.png").symlink_to("removed.png")
    assert names(pictures / "[beg]*") == ["b.png", "gone.png"], "folders without images, and links to nothing"
    assert names(pictures / "gone.png") == ["gone.png"]
    with pytest.raises(StageError, match="no images in these folders"):
        answers.files(str(pictures / "empt*"))


def test_a_files_name_means_that_file_also_where_it_looks_like_a_glob_or_like_no_image(pictures: Path) -> None:
    assert names(pictures / "[odd].png") == ["[odd].png"]
    assert names(pictures / "labels.csv") == ["labels.csv"]


@pytest.mark.parametrize("source", ["none.png", "*.jpg"])
def test_what_does_not_exist_is_named(pictures: Path, source: str) -> None:
    with pytest.raises(StageError, match="no such file"):
        answers.files(str(pictures / source))
    with pytest.raises(StageError, match=r"~nobody-of-this-name/x\.png: no such file"):
        answers.files("~nobody-of-this-name/x.png")
    with pytest.raises(StageError, match="cannot be read: File name too long"):
        answers.files("x" * 5000)


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no images in this folder"):
        answers.files(str(tmp_path))


# Answers and faults


def bad_files(folder: Path) -> dict[Path, str]:
    """File -> what is to be said of it."""
    whole = trees.encoded(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    floats = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.float32)).save(floats, "tiff")
    return {
        trees.put(folder / "text.png", b"hello"): "image (read are AVIF, BMP",
        trees.put(folder / "empty.png", b""): "image (read are AVIF, BMP",
        trees.put(folder / "half.png", whole[: len(whole) // 2]): "unreadable or truncated image",
        trees.put(folder / "floats.tif", floats.getvalue()): "save the image with 8 bits",
        folder / "none.png": "no such file",
    }


@pytest.mark.usefixtures("trained_study")
def test_a_bad_file_gets_one_line_and_the_other_images_their_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = bad_files(tmp_path)
    good = saved_test_images(tmp_path / "good")[:2]
    assert predict([str(good[0]), *map(str, faults), str(good[1])], "tiny-0") is False
    output, errors = capsys.readouterr()
    assert [line.split(": ")[0] for line in output.splitlines()] == [str(path) for path in good]
    said = errors.splitlines()[1:]  # the first names the model
    assert len(said) == len(faults)
    for line, (path, text) in zip(said, faults.items(), strict=True):
        assert line.startswith(f"versus: {path}: ")
        assert text in line
        assert "0x" not in line, "no addresses in memory"


def test_what_may_not_be_read_is_named(nobody_folder: Path) -> None:
    path = trees.put(nobody_folder / "secret.png", b"")
    inner = trees.put(nobody_folder / "photos" / "secret" / "1.png", b"").parent
    path.chmod(0)
    inner.chmod(0)
    with pytest.raises(StageError, match=r"secret\.png: cannot be read: Permission denied$"):
        answers.read(path, answers.Packed(8, 1, "crop"))
    with pytest.raises(StageError, match=r"secret/1\.png: cannot be read: Permission denied$"):
        answers.files(str(inner / "1.png"))
    with pytest.raises(StageError, match=r"photos: the folder secret cannot be read: Permission denied"):
        answers.files(str(inner.parent))
    inner.chmod(0o700)


@pytest.mark.usefixtures("trained_study")
def test_a_device_gets_one_line_and_a_folders_other_files_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (good,) = saved_test_images(tmp_path / "good", 1)
    trees.put(tmp_path / "good" / "notes.txt", b"")
    assert predict(["/dev/zero", str(tmp_path / "good")], "tiny-0") is False
    output, errors = capsys.readouterr()
    assert output.startswith(f"{good}: ")
    assert "versus: /dev/zero: cannot be read: a pipe or a device, not a file" in errors
    assert f"versus: {tmp_path / 'good'}: passed over files that are not named as images: 1 .txt" in errors


@pytest.mark.usefixtures("trained_study")
def test_an_answer_names_the_likeliest_classes_with_their_probabilities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved_test_images(tmp_path / "images")[7]
    assert predict([str(path)], "tiny-0", top=2) is True
    line = capsys.readouterr().out.strip()
    share, order = evaluated("tiny-0")[7].double().softmax(0).sort(descending=True)
    assert line == f"{path}: {order[0]} {share[0]:.1%}, {order[1]} {share[1]:.1%}"


@pytest.mark.usefixtures("trained_study")
def test_json_is_one_document_with_answers_and_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved_test_images(tmp_path / "images")[0]
    assert predict([str(path), "none.png"], "tiny-0", top=3, as_json=True) is False
    document = json.loads(capsys.readouterr().out)
    (answer,) = document["images"]
    assert document["model"] == "tiny-0"
    assert answer["image"] == str(path)
    assert len(answer["top"]) == 3
    assert answer["top"][0] == {"class": answer["class"], "probability": answer["probability"]}
    assert document["errors"] == [{"image": "none.png", "error": "none.png: no such file"}]


@pytest.mark.usefixtures("trained_study")
def test_a_csv_has_every_probability_and_no_answer_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    paths = saved_test_images(folder)[:3]
    for path in sorted(folder.iterdir())[3:]:
        path.unlink()
    assert predict([str(folder)], "tiny-0", table=tmp_path / "new/answers.csv") is True
    assert capsys.readouterr().out == f"{tmp_path / 'new/answers.csv'}: 3 images\n"
    rows = pd.read_csv(tmp_path / "new/answers.csv", dtype={"class": str})
    shares = evaluated("tiny-0")[:3].double().softmax(1).numpy()
    assert rows["image"].tolist() == [str(path) for path in paths]
    assert rows["class"].tolist() == [str(label) for label in shares.argmax(1)]
    assert rows[[f"p({label})" for label in range(10)]].to_numpy() == pytest.approx(shares, abs=1e-5)
    assert rows["probability"].to_numpy() == pytest.approx(shares.max(1), abs=1e-5)
    with pytest.raises(StageError, match="is a folder"):
        predict([str(folder)], "tiny-0", table=folder)
    assert len(list(folder.iterdir())) == 3


@pytest.mark.usefixtures("trained_study")
def test_a_csv_has_names_that_are_no_text_as_they_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file called in Latin-1 is an image as any other; its name alone cannot be written as UTF-8."""
    folder = tmp_path / "images"
    good, *others = saved_test_images(folder)
    for path in others:
        path.unlink()
    good.rename(os.fsdecode(os.fsencode(folder) + b"/bl\xfc.png"))
    trees.put(Path(os.fsdecode(os.fsencode(folder) + b"/no image \xfc.png")), b"text")
    assert predict([f"{folder}/*"], "tiny-0", table=tmp_path / "answers.csv") is False
    rows = pd.read_csv(tmp_path / "answers.csv")
    assert rows["image"].tolist() == [rf"{folder}/bl\udcfc.png", rf"{folder}/no image \udcfc.png"]
    capsys.readouterr()
    assert predict([f"{folder}/*"], "tiny-0") is False
    assert capsys.readouterr().out.startswith(rows["image"][0])


# Which model


@pytest.mark.parametrize(
    ("asked", "chosen", "why"),
    [
        ("", "cnn-1", "the highest of 4 trained models"),
        ("vit", "vit-0", "the highest of 2 replicates of vit"),
        ("vit-1", "vit-1", "validation macro-F1 0.6000"),
    ],
)
def test_the_model_is_chosen_by_validation_scores_whatever_the_test_scores_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, chosen: str, why: str
) -> None:
    monkeypatch.chdir(small_study.scores(tmp_path, small_study.SCORES))
    entry, said = catalogue.choose(asked)
    assert entry.name == chosen
    assert said.startswith(f"{chosen} of ")
    assert said.endswith(why)


def test_of_equals_the_first_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_study.scores(tmp_path, {"cnn-0": (0.5, 0.1), "cnn-1": (0.5, 0.9), "vit-0": (0.5, 0.9)}))
    assert catalogue.choose()[0].name == "cnn-0"


def test_a_model_without_a_validation_score_is_taken_when_asked_for_or_where_no_other_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that was trained on the validation images too; its test score does not count."""
    monkeypatch.chdir(small_study.scores(tmp_path, {"cnn-0": (None, 0.99), "cnn-1": (None, 0.98), "vit-0": (0.2, 0.1)}))
    assert catalogue.choose()[0].name == "vit-0"
    entry, why = catalogue.choose("cnn")
    assert (entry.name, why.partition(", ")[2]) == (
        "cnn-0",
        "trained on the validation images too: no validation score",
    )
    models.run(Namespace(json=False))
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in table[2:5]] == [
        ["cnn-0", "-", "0.9900"],
        ["cnn-1", "-", "0.9800"],
        ["vit-0", "*", "0.2000"],
    ]
    shutil.rmtree("models/vit-0")
    assert catalogue.choose()[0].name == "cnn-0"
    models.run(Namespace(json=False))
    assert (
        "* no validation score, and the first of those whose weights are here: what `versus predict` takes"
        in capsys.readouterr().out
    )


def test_a_better_model_whose_weights_are_elsewhere_is_named_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small_study.scores(tmp_path, small_study.SCORES))
    assert "not here" not in catalogue.choose()[1]
    Path("models/cnn-1/weights.safetensors").unlink()
    better = "cnn-1 has 0.9000, but its weights are not here: `dvc checkout models/cnn-1` (`dvc pull models/cnn-1`"
    for asked, taken in (("", "vit-0"), ("cnn", "cnn-0")):
        entry, why = catalogue.choose(asked)
        assert entry.name == taken
        assert f"\n{better}" in why
    assert "the highest of 3 trained models whose weights are here\n" in catalogue.choose()[1]
    assert "not here" not in catalogue.choose("vit")[1]
    models.run(Namespace(json=False))
    assert "* the highest validation macro-F1 of those whose weights are here: what `versus" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["{", "[]", "null", "{}", '{"run": [], "selected": {}}', '{"run": {}}'])
@pytest.mark.parametrize("file", ["reports/evaluations/cnn-0.json", "models/cnn-0/run.json"])
def test_a_damaged_account_of_a_training_is_named(
    file: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_study.scores(tmp_path, small_study.SCORES))
    Path(file).write_text(content)
    with pytest.raises(StageError, match=rf"{file}: damaged; run `dvc repro` to train"):
        models.run(Namespace(json=False))


@pytest.mark.parametrize("asked", ["vit-7", "vti", "vit-", "-"])
def test_an_unknown_model_is_refused_with_the_choices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.chdir(small_study.scores(tmp_path, small_study.SCORES))
    with pytest.raises(StageError) as fault:
        catalogue.choose(asked)
    assert str(fault.value) == (
        f"no model '{asked}' in params.yaml; choose from cnn, vit, or one of its replicates (0, 1) as in cnn-0"
    )


@pytest.mark.parametrize("asked", ["", "cnn", "cnn-1"])
def test_where_nothing_is_trained_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """Also where git brought the scores and nobody has fetched the weights yet."""
    monkeypatch.chdir(small_study.scores(tmp_path, small_study.SCORES, weights=False))
    with pytest.raises(StageError, match=r"run `dvc repro` to train, or `dvc checkout` \(`dvc pull` from a remote\)"):
        catalogue.choose(asked)


def test_models_that_params_yaml_no_longer_names_are_not_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_study.scores(tmp_path, {"old-0": (0.99, 0.99)})
    monkeypatch.chdir(small_study.scores(tmp_path, small_study.SCORES))
    assert Path("models/old-0").is_dir()
    assert catalogue.choose()[0].name == "cnn-1"


def test_test_scores_of_weights_trained_before_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_study.scores(tmp_path, {"cnn-0": (0.5, 0.6)}))
    diary = Path("models/cnn-0/run.json")
    diary.write_text(diary.read_text().replace('"now"', '"later"'))
    assert catalogue.choose("cnn-0")[0].test is None


# Whether data and weights are those of the training


@pytest.fixture
def copied(trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the study to spoil."""
    copy = Path(shutil.copytree(trained_folder, tmp_path / "copy"))
    monkeypatch.chdir(copy)
    return copy


def test_without_the_trainings_data_the_remedy_is_named(copied: Path) -> None:
    shutil.rmtree(copied / "data")
    with pytest.raises(StageError, match=r"run `dvc repro split`, or `dvc checkout data/fit`"):
        predict(["any.png"], "tiny-0")


def test_data_that_the_model_was_not_trained_on_is_refused(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images may be packed otherwise, and the answers would silently be others."""
    trees.recorded(monkeypatch)
    small_study.write(copied, {"split.seed": 1})
    split.main()
    with pytest.raises(StageError, match="tiny-0 was trained on other images than data/fit holds"):
        predict(["any.png"], "tiny-0")


def test_images_take_the_form_that_the_training_saw_whatever_params_yaml_says_by_now(copied: Path) -> None:
    small_study.write(copied, {"dataset.resize": "squash"})
    assert load("tiny-0")[2].resize == "crop"


@pytest.mark.parametrize("content", [b"", b"no weights"])
def test_damaged_weights_are_refused_with_the_remedy(copied: Path, content: bytes) -> None:
    (copied / "models/tiny-0/weights.safetensors").write_bytes(content)
    with pytest.raises(StageError, match=r"models/tiny-0: damaged.*`dvc checkout --force models/tiny-0`"):
        predict(["any.png"], "tiny-0")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null"])
@pytest.mark.parametrize("file", ["info.json", "val_images.npy"])
def test_damaged_data_is_refused_with_the_remedy(copied: Path, file: str, content: bytes) -> None:
    (copied / "data/fit/0" / file).write_bytes(content)
    with pytest.raises(StageError, match=r"data/fit: damaged; run `dvc checkout --force data/fit` or `dvc repro -f"):
        predict(["any.png"], "tiny-0")


@pytest.mark.usefixtures("trained_study")
@pytest.mark.parametrize("place", ["/dev/null", "file", "file/below", "/proc/why"])
def test_a_place_for_pictures_that_is_no_folder_is_refused_before_any_answer(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    folder = Path(place) if place.startswith("/") else tmp_path / place
    with pytest.raises(StageError, match=rf"--explain: {folder}: cannot be written into \(.*; give a folder"):
        predict(["any.png"], "tiny-0", explain=folder)
    assert capsys.readouterr().err == ""
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.usefixtures("trained_study")
@pytest.mark.parametrize(("name", "method"), [("tiny-0", "Grad-CAM"), ("vit-0", "attention rollout")])
def test_an_explained_answer_leaves_a_picture_of_each_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, method: str
) -> None:
    """Coloured where something speaks for the class, and the image's own grey elsewhere; equal names do not collide."""
    pixels = np.load("data/test/0/images.npy")[:2, :, :, 0]
    for folder, image in zip(("one", "two"), pixels, strict=True):
        (tmp_path / folder).mkdir()
        Image.fromarray(image).save(tmp_path / folder / "digit.png")
    found = tmp_path / "why"
    assert predict([str(tmp_path / "one"), str(tmp_path / "two")], name, explain=found) is True
    assert method in capsys.readouterr().err
    assert sorted(path.name for path in found.iterdir()) == ["digit-2.png", "digit.png"]
    for path, image in zip(("digit.png", "digit-2.png"), pixels, strict=True):
        shown = np.asarray(Image.open(found / path), dtype=float)
        assert shown.shape == (224, 224, 3)
        grey = np.isclose(shown.max(2), shown.min(2), atol=1)
        assert 0 < grey.mean() < 1
        plain = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC), dtype=float)
        assert np.abs(shown[grey][:, 0] - plain[grey]).max() <= 3
