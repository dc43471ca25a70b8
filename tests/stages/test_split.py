"""split keeps official splits, draws the others stratified, thins training images only, and packs what it keeps."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import StageError
from pipeline.base.files import linked
from pipeline.datasets import pack, partition, resize
from pipeline.images.subset import subset
from pipeline.stages import fetch, split
from tests.trees import (
    class_tree,
    encoded,
    fer2013_folders,
    put,
    rafdb_folders,
    rafdb_official,
    recorded,
    striped,
    study,
)

PAPER = {
    "Surprise": 944,
    "Fear": 211,
    "Disgust": 549,
    "Happiness": 2640,
    "Sadness": 1482,
    "Anger": 542,
    "Neutral": 1778,
}


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.delenv("VERSUS_DATASETS", raising=False)
    return recorded(monkeypatch)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run fetch and split in a study of its own; gives the study's folder."""
    runs = iter(range(100))

    def run(name: str, source: Path | str = "", **settings: object) -> Path:
        keys = {key.replace("__", "."): value for key, value in settings.items()}
        folder = study(
            tmp_path / f"study{next(runs)}",
            {"dataset.name": name, "dataset.source": str(source), "dataset.imbalance": 1, **keys},
        )
        monkeypatch.chdir(folder)
        fetch.main()
        split.main()
        return folder

    return run


def attributes(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "reports/data.json").read_text()).get("attributes", [])


def test_what_is_known_of_test_images_is_left_for_git_and_changes_no_image(tmp_path: Path, prepared: Any) -> None:
    """In the order of data/test, and nothing where nothing is known."""
    tree = class_tree(tmp_path / "t", {"": {"cat": 20, "dog": 20}})
    plain = prepared("folder", tree)
    table = put(tmp_path / "known.csv", b"image,light\n" + b"".join(b"cat/%04d.png,day\n" % n for n in range(20)))
    told = prepared("folder", tree, dataset__attributes=str(table))
    assert not (plain / "data/raw/attributes.csv").exists()
    assert attributes(plain) == []
    labels = [row["label"] for row in manifest(told / "data/test/0")]
    letters = "".join("a" if label == "cat" else "-" for label in labels)
    assert attributes(told) == [{"name": "light", "levels": ["day"], "images": letters}]
    for place in ("data/fit/0", "data/test/0"):
        assert contents(told / place) == contents(plain / place)
    for settings in ({"split__vary": "split"}, {"split__folds": 3}):
        assert attributes(prepared("folder", tree, dataset__attributes=str(table), **settings)) == []


def test_what_annotators_saw_in_faces_is_known_of_test_images_alone(tmp_path: Path, prepared: Any) -> None:
    tree = rafdb_official(tmp_path / "official", train=5, test=2, side=12)
    assert attributes(prepared("rafdb", tree)) == [], "nobody asked"
    folder = prepared("rafdb", tree, dataset__attributes="source")
    assert [(each["name"], len(each["images"])) for each in attributes(folder)] == [
        *(("gender", 14), ("race", 14), ("age", 14))
    ]
    assert [each["levels"] for each in attributes(folder)][2] == ["0-3", "4-19", "20-39", "40-69", "70+"]
    assert not any(np.unique(list(each["images"])).tolist().count("-") for each in attributes(folder))
    with pytest.raises(StageError, match=r"^dataset\.attributes: source: this source of .* says nothing of images but"):
        prepared("folder", class_tree(tmp_path / "t", {"": {"cat": 20, "dog": 20}}), dataset__attributes="source")


def manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


# which images


def test_paper_counts_and_minority_classes() -> None:
    """10,183 training images give 8,146 and 2,037; of 8,146 Fear, Disgust and Anger are the minority."""
    labels = np.repeat(np.arange(7), [1180, 264, 686, 3300, 1853, 677, 2223])
    train, val = partition.draw(np.arange(10_183), labels, list(PAPER), "val", 0.2, seed=0)
    assert (len(train), len(val)) == (8146, 2037)
    counts = np.array(list(PAPER.values()))
    assert np.bincount(labels[train]).tolist() == pytest.approx(counts, abs=1)
    assert partition.minority_classes(list(PAPER), counts) == ["Fear", "Disgust", "Anger"]


def test_classes_as_large_as_the_median_are_no_minority() -> None:
    assert partition.minority_classes(["a", "b", "c"], np.array([5, 5, 5])) == []


def test_every_image_is_in_one_split_and_each_class_in_proportion(prepared: Any) -> None:
    folder = prepared("digits")
    fit, test = manifest(folder / "data/fit/0"), manifest(folder / "data/test/0")
    names = [row["name"] for row in fit + test]
    assert len(names) == len(set(names)) == 1797
    sizes = {part: sum(row["split"] == part for row in fit) for part in ("train", "val")}
    assert (sizes["train"], sizes["val"], len(test)) == (1149, 288, 360)
    data = json.loads((folder / "reports/data.json").read_text())
    assert data["found"] == {**sizes, "test": 360}
    for row in data["classes"]:
        total = row["train"] + row["val"] + row["test"]
        assert row["test"] == pytest.approx(0.2 * total, abs=1)
        assert row["val"] == pytest.approx(0.2 * 0.8 * total, abs=1)


def test_one_more_replicate_leaves_the_others_images_as_they_were_and_takes_no_room(prepared: Any) -> None:
    fewer, more = prepared("digits", replicates=[0, 3]), prepared("digits", replicates=[0, 3, 7])
    for part in ("data/fit", "data/test"):
        assert {path.name for path in (more / part).iterdir()} == {"0", "3", "7"}
        for file in (more / part / "0").iterdir():
            assert (fewer / part / "3" / file.name).read_bytes() == file.read_bytes()
            assert len({(more / part / each / file.name).stat().st_ino for each in ("0", "3", "7")}) == 1
    assert (fewer / "reports/data.json").read_bytes() == (more / "reports/data.json").read_bytes()


@pytest.mark.parametrize(("vary", "draws"), [("validation", 0), ("split", 0), ("split", 2)])
def test_replicates_draw_images_anew_and_share_as_many_splits_as_asked(prepared: Any, vary: str, draws: int) -> None:
    numbers = [0, 1, 2, 5]
    settings = {"replicates": numbers, "split.vary": vary, "split.draws": draws, "dataset.train_fraction": 0.5}
    folder = prepared("digits", **{key.replace(".", "__"): value for key, value in settings.items()})
    fit = [contents(folder / f"data/fit/{each}")["train_images.npy"] for each in numbers]
    test = [contents(folder / f"data/test/{each}")["images.npy"] for each in numbers]
    alike = [number % draws for number in numbers] if draws else numbers
    assert [fit.index(each) for each in fit] == [alike.index(each) for each in alike]
    assert [test.index(each) for each in test] == (
        [0] * 4 if vary == "validation" else [fit.index(each) for each in fit]
    )
    data = json.loads((folder / "reports/data.json").read_text())
    assert data["vary"] == vary
    for row, number in zip(data["replicates"], numbers, strict=True):
        info = json.loads((folder / f"data/fit/{number}/info.json").read_text())
        assert row["replicate"] == number
        assert row["digests"]["fit"] == info["digest"]
        assert (row["train"], row["val"], row["test"]) == (pytest.approx(1149 / 2, abs=5), 288, 360)
        names = [each["name"] for each in manifest(folder / f"data/fit/{number}")]
        assert not {*names} & {each["name"] for each in manifest(folder / f"data/test/{number}")}
    again = prepared(
        "digits", **{key.replace(".", "__"): value for key, value in (settings | {"replicates": [5]}).items()}
    )
    assert contents(again / "data/fit/5") == contents(folder / "data/fit/5")


def test_official_validation_images_are_drawn_anew_with_the_training_images_as_many_as_before(
    tmp_path: Path, prepared: Any
) -> None:
    faces = fer2013_folders(tmp_path / "faces", train=4, val=2, test=3)
    folder = prepared("fer2013", faces, split__vary="validation", replicates=[0, 1])
    for replicate in (0, 1):
        rows = manifest(folder / f"data/fit/{replicate}")
        assert sum(row["split"] == "val" for row in rows) == 14
        assert {row["name"].split("_")[0] + row["split"] for row in rows} > {"Trainingval", "PublicTesttrain"}
    with pytest.raises(
        StageError, match=r"split.vary: split draws test images anew, .* official test split.*validation"
    ):
        prepared("fer2013", faces, split__vary="split")


def test_without_hard_links_replicates_have_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a/images.npy", b"pixels")
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    linked(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a/images.npy").write_bytes(b"others")
    assert (tmp_path / "b/images.npy").read_bytes() == b"pixels"


def test_official_splits_are_kept(tmp_path: Path, prepared: Any) -> None:
    folder = prepared("fer2013", fer2013_folders(tmp_path / "faces", train=4, val=2, test=3))
    usage = {row["name"].split("_")[0] + row["split"] for row in manifest(folder / "data/fit/0")}
    assert usage == {"Trainingtrain", "PublicTestval"}
    assert len(manifest(folder / "data/fit/0")) == 7 * 6
    assert [row["name"].split("_")[0] for row in manifest(folder / "data/test/0")] == ["PrivateTest"] * 21


def test_seed_decides_what_is_drawn_and_nothing_else_does(prepared: Any) -> None:
    first, again, other = prepared("digits"), prepared("digits"), prepared("digits", split__seed=1)
    for part in ("data/fit/0", "data/test/0"):
        assert contents(first / part) == contents(again / part) != contents(other / part)
    assert (first / "reports/data.json").read_bytes() == (again / "reports/data.json").read_bytes()


@pytest.mark.parametrize("counts", [{"emu": 1}, {"emu": 2, "fox": 2}])
def test_class_too_small_to_split_is_named_with_what_is_needed(
    tmp_path: Path, prepared: Any, counts: dict[str, int]
) -> None:
    tree = class_tree(tmp_path / "t", {"train": {"cat": 100, "dog": 100, **counts}, "test": {"cat": 1}}, size=(4, 4))
    with pytest.raises(StageError, match=r"class '(emu|fox)' has [12] images, too few .* for val.*: 5 or more"):
        prepared("folder", tree)
    assert [path.name for path in Path("data").iterdir()] == ["raw"]
    assert not Path("reports/data.json").exists()


def test_classes_that_outnumber_the_images_to_draw_are_refused(tmp_path: Path, prepared: Any) -> None:
    tree = class_tree(tmp_path / "t", {"": dict.fromkeys("abcdef", 2)})
    with pytest.raises(StageError, match="too few to draw 20% of them for test"):
        prepared("folder", tree)


# thinning


def test_tail_is_exponential_from_the_largest_class_to_its_share() -> None:
    assert partition.tail(np.full(3, 100), 100).tolist() == [100, 10, 1]
    balanced = partition.tail(np.full(10, 5000), 10)  # Cui et al.'s long-tailed CIFAR-10
    assert balanced.tolist() == [int(5000 * 0.1 ** (c / 9.0)) for c in range(9)] + [500]
    assert partition.tail(np.array([50, 100, 3]), 10).tolist() == [50, 31, 3]  # never more than there are
    assert partition.tail(np.array([10, 10, 10]), 1000).tolist() == [10, 1, 1]  # never none
    assert partition.tail(np.array([7, 9]), 1).tolist() == [7, 9]


def test_milder_imbalance_keeps_what_a_harsher_one_keeps() -> None:
    labels = np.repeat(np.arange(4), 60)
    rows = np.random.default_rng(0).permutation(240)[:200]
    kept = [set(partition.thin(rows, labels, imbalance, seed=3)) for imbalance in (1, 2, 10, 50)]
    assert kept[0] == set(rows)
    assert kept[0] > kept[1] > kept[2] > kept[3]
    assert kept[2] != set(partition.thin(rows, labels, 10, seed=4))


def test_only_training_images_are_thinned(prepared: Any) -> None:
    whole, thinned = prepared("digits"), prepared("digits", dataset__imbalance=10)
    assert contents(whole / "data/test/0") == contents(thinned / "data/test/0")
    for name in ("val_images.npy", "val_labels.npy"):
        assert (whole / "data/fit/0" / name).read_bytes() == (thinned / "data/fit/0" / name).read_bytes()
    train = [row["train"] for row in json.loads((thinned / "reports/data.json").read_text())["classes"]]
    assert max(train) / min(train) == pytest.approx(10, rel=0.1)
    assert len(np.load(thinned / "data/fit/0/train_labels.npy")) == sum(train)
    assert json.loads((thinned / "reports/data.json").read_text())["found"]["train"] == 1149


def test_a_fraction_is_stratified_and_what_a_smaller_one_keeps_a_larger_one_keeps_too() -> None:
    labels = np.repeat(np.arange(3), [200, 50, 2])
    kept = [subset(labels, fraction, seed=3) for fraction in (0.01, 0.1, 0.2, 1.0)]
    assert [np.bincount(labels[rows]).tolist() for rows in kept] == [[2, 1, 1], [20, 5, 1], [40, 10, 1], [200, 50, 2]]
    assert set(kept[0]) < set(kept[1]) < set(kept[2]) < set(kept[3])
    assert set(kept[1]) != set(subset(labels, 0.1, seed=4))


def test_a_fraction_of_the_training_images_leaves_validation_and_test_whole(prepared: Any) -> None:
    folders = [prepared("digits", dataset__imbalance=3, dataset__train_fraction=part) for part in (0.1, 0.2, 1.0)]
    for folder in folders[:2]:
        assert contents(folder / "data/test/0") == contents(folders[2] / "data/test/0")
        val = "val_images.npy"
        assert (folder / "data/fit/0" / val).read_bytes() == (folders[2] / "data/fit/0" / val).read_bytes()
    names = [{row["name"] for row in manifest(folder / "data/fit/0") if row["split"] == "train"} for folder in folders]
    assert names[0] < names[1] < names[2]
    tenth, whole = (
        [row["train"] for row in json.loads((folder / "reports/data.json").read_text())["classes"]]
        for folder in folders[::2]
    )
    assert tenth == [max(1, round(count / 10)) for count in whole]


# packing


def test_packed_images_are_those_of_the_manifest(prepared: Any) -> None:
    from sklearn.datasets import load_digits

    original = load_digits()
    folder = prepared("digits") / "data"
    rows = {part: [row for row in manifest(folder / "fit/0") if row["split"] == part] for part in ("train", "val")}
    rows["test"] = manifest(folder / "test/0")
    for part, path in (("train", "fit/0/train_"), ("val", "fit/0/val_"), ("test", "test/0/")):
        images, labels = np.load(folder / f"{path}images.npy"), np.load(folder / f"{path}labels.npy")
        assert images.shape == (len(rows[part]), 8, 8, 1)  # native size, though the networks see 32
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
        names = np.array([int(row["name"]) for row in rows[part]])
        np.testing.assert_array_equal(labels, original.target[names])
        np.testing.assert_allclose(images[..., 0] / 255 * 16, original.images[names], atol=0.04)
        assert [int(row["row"]) for row in rows[part]] == list(range(len(images)))


def test_larger_images_come_down_to_image_size(tmp_path: Path, prepared: Any) -> None:
    source = rafdb_folders(tmp_path / "raf", train=5, test=1, side=20)
    assert np.load(prepared("rafdb", source, dataset__image_size=12) / "data/fit/0/train_images.npy").shape == (
        28,
        12,
        12,
        3,
    )
    assert np.load(prepared("rafdb", source, dataset__image_size=20) / "data/test/0/images.npy").shape == (7, 20, 20, 3)
    assert np.load(prepared("rafdb", source, dataset__image_size=64) / "data/test/0/images.npy").shape == (7, 20, 20, 3)


def test_mixed_sizes_and_modes_become_one(tmp_path: Path, prepared: Any) -> None:
    tree = class_tree(tmp_path / "t", {"": {"cat": 9, "dog": 9}}, size=(10, 14), channels=1)
    assert np.load(prepared("folder", tree) / "data/fit/0/train_images.npy").shape[1:] == (32, 32, 1)
    for number in range(9):
        put(tree / "cat" / f"c{number}.png", encoded(striped(0, 40, 8, 3, np.random.default_rng(number))))
    assert np.load(prepared("folder", tree) / "data/fit/0/train_images.npy").shape[1:] == (32, 32, 3)


def test_crop_is_the_shorter_side_resized_and_the_centre_cut_out() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((20, 10), Image.Resampling.BILINEAR))[:, 5:15]
    np.testing.assert_array_equal(resize.fitted(image, 10, 3, "crop"), expected)
    upright = resize.fitted(image.transpose(1, 0, 2), 10, 3, "crop")
    np.testing.assert_array_equal(upright, expected.transpose(1, 0, 2))


def test_squash_keeps_everything() -> None:
    image = np.zeros((40, 80, 1), np.uint8)
    image[:, :8] = image[:, -8:] = 200
    squashed = resize.fitted(image, 10, 1, "squash")[5, :, 0]
    assert squashed[0] > 150
    assert squashed[-1] > 150
    assert squashed[5] == 0
    assert (resize.fitted(image, 10, 1, "crop") == 0).all()


def test_resizing_is_pillows_antialiased_bilinear() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    expected = Image.fromarray(image).resize((20, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resize.fitted(image, 20, 3, "crop"), np.asarray(expected))
    assert np.asarray(expected).std() < image.std() / 2  # averaged, not picked


# the statistics of the pixels


@pytest.mark.parametrize(("channels", "count"), [(1, 3), (3, 3), (1, 2500)])
def test_mean_and_deviation_are_numpys(channels: int, count: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 5, 5, channels), dtype=np.uint8)
    images[..., 0] //= 3
    found = pack.statistics(images)
    fractions = images.reshape(-1, channels) / 255
    assert found["mean"] == pytest.approx(fractions.mean(0), abs=1e-6)
    assert found["std"] == pytest.approx(fractions.std(0), abs=1e-6)


def test_the_statistics_of_images_all_alike() -> None:
    assert pack.statistics(np.full((4, 2, 2, 1), 51, np.uint8)) == {
        "mean": [0.2],
        "std": [0.0],
        "covariance": [[0.0]],
    }


def test_the_covariance_of_the_channels_is_numpys() -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, 4, 4, 3), dtype=np.uint8)
    wanted = np.cov(images.reshape(-1, 3).T / 255, bias=True)
    assert pack.statistics(images)["covariance"] == pytest.approx(wanted, abs=1e-8)


def test_statistics_are_those_of_the_training_images_alone(tmp_path: Path, prepared: Any) -> None:
    """The test images are white, and some training images are thinned out."""
    source = rafdb_folders(tmp_path / "raf", train=6, test=2, side=8)
    for path in (source / "test").rglob("*.jpg"):
        put(path, encoded(np.full((8, 8, 3), 255, np.uint8), "jpeg"))
    folder = prepared("rafdb", source, dataset__imbalance=3)
    found = json.loads((folder / "data/fit/0/info.json").read_text())["pixels"]
    train = np.load(folder / "data/fit/0/train_images.npy") / 255
    assert found["mean"] == pytest.approx(train.mean((0, 1, 2)), abs=1e-6)
    assert found["std"] == pytest.approx(train.std((0, 1, 2)), abs=1e-6)
    assert found["mean"] != pytest.approx(
        (np.load(folder / "data/fit/0/val_images.npy") / 255).mean((0, 1, 2)), abs=1e-4
    )


# the lock on the test images


def test_changed_test_image_leaves_data_fit_as_it_is(tmp_path: Path, prepared: Any) -> None:
    source = rafdb_folders(tmp_path / "raf", train=5, test=2, side=12)
    before = prepared("rafdb", source)
    put(source / "test" / "1" / "test_00001_aligned.jpg", encoded(np.zeros((30, 9, 3), np.uint8), "jpeg"))
    (source / "test" / "2" / "test_00002_aligned.jpg").unlink()
    after = prepared("rafdb", source)
    assert contents(before / "data/fit/0") == contents(after / "data/fit/0")
    assert contents(before / "data/test/0") != contents(after / "data/test/0")


def test_digests_follow_contents_not_names(tmp_path: Path, prepared: Any) -> None:
    tree = class_tree(tmp_path / "t", {"train": {"cat": 10, "dog": 10}, "test": {"cat": 2, "dog": 2}})
    digests = [json.loads((prepared("folder", tree) / "reports/data.json").read_text())["digests"]]
    (tree / "train" / "cat" / "0009.png").rename(tree / "train" / "cat" / "0099.png")
    digests.append(json.loads((prepared("folder", tree) / "reports/data.json").read_text())["digests"])
    put(tree / "train" / "cat" / "0099.png", encoded(np.zeros((16, 16, 3), np.uint8)))
    digests.append(json.loads((prepared("folder", tree) / "reports/data.json").read_text())["digests"])
    assert digests[0] == digests[1]
    assert digests[1]["fit"] != digests[2]["fit"]
    assert digests[1]["test"] == digests[2]["test"]


def test_info_says_what_training_needs(tmp_path: Path, prepared: Any) -> None:
    folder = prepared("rafdb", rafdb_folders(tmp_path / "raf", train=5, test=1, side=8), dataset__imbalance=4)
    info = json.loads((folder / "data/fit/0/info.json").read_text())
    assert info["classes"] == list(PAPER)
    assert (info["dataset"], info["title"], info["flip"]) == ("rafdb", "RAF-DB", True)
    assert info["variant"] == "35 of 12,271 images"
    assert list(info["train"].values()) == [4, 3, 2, 2, 1, 1, 1]
    assert info["val"] == dict.fromkeys(PAPER, 1)
    assert info["minority"] == ["Sadness", "Anger", "Neutral"]
    assert len(info["digest"]) == 64
    data = json.loads((folder / "reports/data.json").read_text())
    assert (data["variant"], data["imbalance"]) == ("42 of 15,339 images", 4)
    assert data["classes"][0] == {"class": "Surprise", "train": 4, "val": 1, "test": 1}
    assert data["published"] == {"train": 12_271, "test": 3_068}


def test_what_was_split_is_tracked(prepared: Any, logged: dict[str, Any]) -> None:
    folder = prepared("digits")
    assert logged["metrics"]["test_images"] == 360
    assert sum(logged["metrics"][f"train_images/{digit}"] for digit in range(10)) == 1149
    digests = json.loads((folder / "reports/data.json").read_text())["digests"]
    assert [entry[1] for entry in logged["datasets"][-2:]] == [digests["fit"], digests["test"]]
    assert logged["artifacts"] == ["reports/data.json"]


def test_split_without_fetch_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study(tmp_path, {}))
    with pytest.raises(StageError, match="run the stage fetch first"):
        split.main()
