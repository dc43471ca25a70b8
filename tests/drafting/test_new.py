"""`versus new`: settings that fit images and machine, with a reason for each, in a study that runs; or one line."""

import contextlib
import functools
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from dvc.utils.serialize import modify_yaml
from ruamel.yaml import YAML

from pipeline.base import git
from pipeline.base.errors import StageError
from pipeline.base.places import PIPELINE
from pipeline.commands.new import new
from pipeline.drafting import choice, fit, folder, plan
from pipeline.drafting.choice import Choice
from pipeline.drafting.plan import Drafting, Machine, Protocol
from pipeline.drafting.survey import Survey, look
from pipeline.params.faults import parse
from pipeline.params.read import load_params
from pipeline.training import timing
from pipeline.training.timing import Estimate
from tests import repo, trees

ROOT = Path(__file__).parents[2]
CPU, GPU = Machine("cpu", "a processor"), Machine("cuda", "a GPU")
NAMES = ("Vögel im Garten", "Schiffe")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout to write studies in, and the current folder; weights are not asked for."""
    root = tmp_path / "versus"
    for name in (".git", ".dvc", "studies"):
        (root / name).mkdir(parents=True)
    (root / ".dvc/config").write_text((ROOT / ".dvc/config").read_text())
    for name in PIPELINE:
        shutil.copy(ROOT / name, root)
    (root / folder.LINK).symlink_to(ROOT / folder.LINK)
    monkeypatch.chdir(root)
    monkeypatch.setattr(fit, "lacking", lambda names: names[0])
    return root


def images(place: Path, counts: Mapping[str, int], sides: tuple[int, ...] = (24,), channels: int = 3) -> Path:
    """`<class>/<n>.png`, whose sizes take turns."""
    rng = np.random.default_rng(0)
    for label, (name, count) in enumerate(counts.items()):
        for number in range(count):
            side = sides[number % len(sides)]
            pixels = trees.striped(label, side, side + 4, channels, rng)
            trees.put(place / name / f"{number}.png", trees.encoded(pixels))
    return place


def surveyed(n: int = 300, side: int = 100, classes: tuple[str, ...] = ("a cat", "a dog"), ratio: float = 1) -> Survey:
    train = (int(n * 0.64 * ratio / (1 + ratio)), int(n * 0.64 / (1 + ratio)))
    rest = (max(1, n // 10), max(1, n // 10))
    return Survey(classes, {"": n}, {"train": train, "val": rest, "test": rest}, (side, side, side), 1.0, False, n)


# The images


def test_images_of_any_kind_are_counted_measured_and_divided_as_the_stages_would(tmp_path: Path) -> None:
    place = images(tmp_path / "own", dict.fromkeys(NAMES, 20), (20, 30, 40))
    found = look(str(place))
    assert found.classes == tuple(sorted(NAMES))
    assert found.words == "40 images of 2 classes, 20 to 40 (median 30) pixels, colour"
    assert {split: sum(each) for split, each in found.counts.items()} == {"train": 25, "val": 7, "test": 8}
    assert found.drawn == ("val", "test")
    assert look(str(trees.archived(place))) == found
    assert sum(look(str(place), 0.5, 0.25).counts["train"]) == 15, "another study's shares, whose protocol is taken"
    grey = look(str(images(tmp_path / "grey", {"a": 10, "b": 10}, channels=1)))
    assert (grey.grey, grey.words.endswith("grey")) == (True, True)


def test_splits_that_the_folders_name_are_kept(tmp_path: Path) -> None:
    for split, n in (("train", 20), ("test", 5)):
        images(tmp_path / split, {"a": n, "b": n})
    found = look(str(tmp_path))
    assert (sum(found.counts["test"]), found.drawn) == (10, ("val",))
    section = plan.split(found)
    assert "come as test/" in section["test_fraction"].why  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({"one": 20}, "one class found, two needed"),
        ({"a": 2, "b": 1}, "5 or more are needed; add images of it, or leave the class out"),
        ({}, "no images"),
        ({"a": 10, "b": 10, "": 1}, "lies in no class's folder"),
    ],
)
def test_what_makes_no_study_is_one_line_and_leaves_no_folder(
    checkout: Path, tmp_path: Path, counts: dict[str, int], line: str
) -> None:
    place = tmp_path / "own"
    place.mkdir()
    images(place, counts)
    with pytest.raises(StageError, match=re.escape(line)) as caught:
        new("mine", str(place))
    assert "\n" not in str(caught.value)
    assert not list((checkout / "studies").iterdir())


def test_all_images_that_cannot_be_read_are_named_before_anything_is_written(checkout: Path, tmp_path: Path) -> None:
    """Wherever they lie among more images than sizes need."""
    place = images(tmp_path / "own", {"a": 400, "b": 400}, (4,))
    for number in (*range(100, 112), 399):
        (place / f"a/{number}.png").write_text("no image")
    with pytest.raises(StageError, match=r"^13 of 800 images are refused:\n") as caught:
        new("mine", str(place))
    lines = str(caught.value).splitlines()
    assert [bool(re.search(rf"a/{n}\.png: unreadable", lines[1 + n - 100])) for n in range(100, 112)] == [True] * 12
    assert lines[13:] == ["  and 1 more"]
    assert not list((checkout / "studies").iterdir())


@pytest.mark.parametrize("name", ["", "..", "a/b", "my study", "-x", "x" * 101])
@pytest.mark.usefixtures("checkout")
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(StageError, match="no name of a study"):
        folder.place(name)


@pytest.mark.usefixtures("checkout")
def test_the_name_of_the_default_study_is_taken() -> None:
    """Both would share runs, a registered model and its champion, and a launch would end the other's."""
    with pytest.raises(StageError, match="digits is the default study's name"):
        folder.place("digits")


@pytest.mark.usefixtures("checkout")
def test_a_study_that_is_there_is_not_touched() -> None:
    Path("studies/mine").mkdir()
    with pytest.raises(StageError, match="studies/mine is there already"):
        folder.place("mine")


def test_sources_are_named_so_that_other_checkouts_find_them(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(checkout.parent / "home"))
    study = checkout / "studies/mine"
    named = {
        "https://x.org/a.zip": "https://x.org/a.zip",
        "own": "../../own",
        "~/own": "~/own",
        "/data/own": "/data/own",
    }
    assert {given: folder.source_seen_from(study, given) for given in named} == named


# The settings


@pytest.mark.parametrize("machine", [CPU, GPU], ids=lambda machine: machine.device)
@pytest.mark.parametrize("lacking", ["", "resnet18"])
@pytest.mark.parametrize(("n", "side"), [(60, 20), (450, 150), (60_000, 32), (60_000, 500)])
def test_every_draft_is_in_order_and_dvc_leaves_its_text_as_it_is(
    tmp_path: Path, machine: Machine, lacking: str, n: int, side: int
) -> None:
    given = Drafting("~/x", surveyed(n, side, ratio=3), machine, lacking=lacking)
    draft = plan.draft(given)
    content = choice.values(draft)
    for stage in YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"].values():
        for key in stage.get("params", []):  # DVC runs no stage that depends on one which params.yaml lacks
            functools.reduce(lambda found, part: found[part], key.partition(".${")[0].split("."), content)
    settings = parse(content)
    assert settings.dataset.image_size <= min(224, max(16, side if lacking else 2 * side))
    assert settings.dataset.image_size <= (224 if machine is GPU else 128 if not lacking else 64)
    assert all(model.pretrained is not bool(lacking) for model in settings.models.values())
    path = tmp_path / "params.yaml"
    path.write_text(choice.text(draft, plan.heading(given)))
    with modify_yaml(str(path)):
        pass
    assert path.read_text() == choice.text(draft, plan.heading(given))
    assert load_params(path) == settings


def test_networks_of_every_size_can_be_built() -> None:
    for n, side in ((60, 16), (450, 48), (450, 150)):
        fit.in_order(plan.draft(Drafting("~/x", surveyed(n, side), CPU, lacking="resnet18")))


def test_what_the_images_are_decides_and_says_why() -> None:
    even = plan.draft(Drafting("~/x", surveyed(450), CPU, lacking="resnet18"))
    uneven = plan.draft(Drafting("~/x", surveyed(450, ratio=4), CPU, lacking="resnet18"))
    assert [choice.values(draft)["train"]["sampler"] for draft in (even, uneven)] == ["shuffle", "weighted"]
    assert [choice.values(draft)["augment"]["minority"] for draft in (even, uneven)] == ["light", "strong"]
    assert "4.0 times" in uneven["train"]["sampler"].why  # type: ignore[index,union-attr]
    for classes in (("hand left", "hand right"), ("0", "1"), ("a", "b")):
        section = plan.augment(surveyed(classes=classes))
        assert section["flip"] == Choice(False, "a mirror image may be of another class, by their names")


def test_networks_are_named_after_timms_and_each_is_named_once() -> None:
    asked = Drafting("~/x", surveyed(), CPU, ("vit_tiny_patch16_224.augreg_in21k", "hybrid"), lacking="x")
    assert list(plan.models(asked)) == ["vit_tiny_patch16_224_augreg_in21k", "hybrid"]
    with pytest.raises(StageError, match="name each network once"):
        plan.models(Drafting("~/x", surveyed(), CPU, ("resnet18", "resnet18")))
    with pytest.raises(StageError, match="--models: timm has no 'resnet19'; did you mean"):
        fit.lacking([("timm", "resnet19")])


def test_weights_of_another_studys_networks_are_looked_for_where_their_family_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """AlexNet is torchvision's; timm has none."""
    study = fit.protocol_of(ROOT / "studies/cifar10_transfer")
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(fit.networks, "require_published", lambda *network: asked.append(network))
    assert fit.lacking(plan.backbones((), study, CPU)) == ""
    assert ("torchvision", "alexnet") in asked
    assert ("timm", "resnet50.a1_in1k") in asked


def test_models_that_are_asked_for_leave_another_studys_search_and_teachers_to_it() -> None:
    content = YAML(typ="safe").load(trees.ROOT / "studies/digits_tuned/params.yaml") | {"teachers": {"cnn": {}}}
    given = Drafting("~/x", surveyed(), CPU, ("hybrid",), Protocol("digits_tuned", content), lacking="x")
    found = plan.like(given, Protocol("digits_tuned", content))
    assert found["tune"] == plan.LEFT["tune"]
    assert "teachers" not in found


def test_another_studys_protocol_is_taken_and_none_of_its_images_and_results() -> None:
    content = YAML(typ="safe").load((ROOT / "studies/rafdb/params.yaml").read_text())
    given = Drafting("~/x", surveyed(side=100), CPU, protocol=Protocol("rafdb", content), lacking="resnet18")
    found = choice.values(plan.draft(given))
    assert found["train"] == content["train"]
    assert found["augment"] == content["augment"]
    assert (found["published"], found["dataset"]["name"], found["dataset"]["source"]) == ([], "folder", "~/x")
    assert found["dataset"]["image_size"] == 96  # of 224
    assert {name: model["backbone"] for name, model in found["models"].items()} == {
        name: model["backbone"] for name, model in content["models"].items()
    }
    assert not any(model["pretrained"] for model in found["models"].values())
    parse(found)
    text = choice.text(plan.draft(given), plan.heading(given))
    assert "RAF-DB" not in text
    assert "Qubtan" not in text


@pytest.mark.parametrize(("seconds", "epochs"), [(1.0, 100), (20.0, 75), (1000.0, 20)])
def test_a_slow_machine_gets_fewer_epochs_but_enough_to_learn(seconds: float, epochs: int) -> None:
    """Of 100 epochs for 288 images, 100, 400 and 20,000 seconds altogether, where 300 are to be spent."""
    given = Drafting("~/x", surveyed(450), CPU, lacking="resnet18")
    cost = Estimate("cnn", "cpu", 1.0, None, None, 1.0, 100, 9, 20 * seconds, 1, 0, 0.0)
    draft, (found,) = fit.shortened(plan.draft(given), [cost], given)
    assert found.epochs == choice.values(draft)["train"]["epochs"] == epochs
    assert found.total == pytest.approx(20 * seconds * epochs / 100)


# The study


def test_a_study_of_own_images_is_whole_prepared_and_timed(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What DVC would run is called here; `make walk` runs it all."""

    def prepare(_: Path) -> None:
        from pipeline.stages import check, fetch, split

        for stage in (check, fetch, split):
            stage.main()

    trees.recorded(monkeypatch)
    monkeypatch.setattr(folder, "prepare", prepare)
    monkeypatch.setattr(timing, "BUDGET", 0.0)
    own = images(tmp_path / "own images", {"Vögel": 20, "Schiffe & Boote": 20}, (16, 18))
    new("mine", str(own), ("cnn", "vit"))
    study = checkout / "studies/mine"
    assert (study / folder.LINK).resolve() == (ROOT / folder.LINK).resolve()
    for name in PIPELINE:
        assert (study / name).read_bytes() == (ROOT / name).read_bytes()
    assert (study / ".dvc/config").read_text() == (ROOT / "studies/rafdb/.dvc/config").read_text()
    assert not list(study.glob("README*"))
    settings = load_params(study / "params.yaml")
    assert list(settings.models) == ["cnn", "vit"]
    assert settings.dataset.source == own.as_posix()
    printed = capsys.readouterr().out
    assert re.search(r"^cnn +cpu .*^vit +cpu .*mine: about .* of training", printed, re.MULTILINE | re.DOTALL)
    assert printed.rstrip().splitlines()[-2:] == [
        "  cd studies/mine",
        "  versus launch        # trains, and writes reports/report.html",
    ]
    assert "of training here" in (study / "params.yaml").read_text()


@pytest.mark.parametrize("well", [True, False])
def test_nothing_of_a_new_study_is_staged_and_what_was_staged_before_stays(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, well: bool
) -> None:
    """DVC stages some of its files by itself, whether its stages go well or not."""

    def staging(study: Path, *_: str) -> bool:
        (study / "dvc.lock").touch()
        repo.call(study, "git", "add", "dvc.lock")
        return well

    monkeypatch.setattr(git, "dvc", staging)
    repo.call(checkout, "git", "init", "--quiet")
    (checkout / "notes").touch()
    repo.call(checkout, "git", "add", "notes")
    folder.write(study := folder.place("mine"), "")
    with contextlib.nullcontext() if well else pytest.raises(StageError, match="its images are refused"):
        folder.prepare(study)
    assert (study / "dvc.lock").exists()
    assert repo.call(checkout, "git", "diff", "--cached", "--name-only").split() == ["notes"]
