"""What fetch reads is known by its content: no study is given another's images, and what has changed is noticed."""

import functools
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.base import places
from pipeline.base.errors import StageError
from pipeline.datasets import content
from pipeline.stages import fetch, source
from tests import repo, trees

Look = Callable[..., dict[str, Any]]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Run the stage in a checkout's only study; gives what it records of the source."""
    monkeypatch.delenv("VERSUS_DATASETS", raising=False)
    (tmp_path / "checkout/.git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "checkout")

    def looked(name: str = "folder", where: Path | str = "images", **settings: Any) -> dict[str, Any]:
        trees.study(Path.cwd(), {"dataset.name": name, "dataset.source": str(where), **settings})
        source.main()
        return json.loads(source.RECORD.read_text())

    return looked


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose content is read."""
    read: list[str] = []
    original = content._sha256
    monkeypatch.setattr(content, "_sha256", lambda file: read.append(Path(file).name) or original(file))
    return read


def images(folder: Path, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    return trees.class_tree(folder, {"": dict.fromkeys(classes, 6)}, suffix="bmp")  # a byte is a pixel


def other_byte(path: Path) -> None:
    """Another file of the same size, as old as the one before."""
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


KINDS: dict[str, Callable[[Path], tuple[str, Path, Path]]] = {  # data set, source, one of the files that are read
    "folder": lambda root: ("folder", images(root / "x"), root / "x/dog/0003.bmp"),
    "zip": lambda root: ("folder", trees.archived(images(root / "x")), root / "x.zip"),
    "tar": lambda root: ("folder", trees.archived(images(root / "x"), "gztar"), root / "x.tar.gz"),
    "list of labels": lambda root: (
        "rafdb",
        trees.rafdb_official(root / "x", 1, 1, 8),
        root / "x/basic/EmoLabel/list_patition_label.txt",
    ),
    "names of subjects": lambda root: ("jaffe", trees.jaffe(root / "x", side=8), root / "x/KA.AN1.1.tiff"),
    "table": lambda root: ("fer2013", trees.fer2013_csv(root / "x.csv", 1, 1, 1), root / "x.csv"),
    "votes beside a table": lambda root: (
        "fer2013",
        trees.fer2013_csv(root / "x/fer2013.csv", 1, 1, 1).parent,
        trees.ferplus(root / "x/fer2013new.csv", 1, 1, 1),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_byte_of_the_source_makes_it_another(tmp_path: Path, look: Look, kind: str) -> None:
    name, place, file = KINDS[kind](tmp_path)
    before = look(name, place)
    assert look(name, place) == before
    other_byte(file)
    assert look(name, place)["sha256"] != before["sha256"]


@pytest.mark.parametrize(
    "change", ["renamed", "added", "removed", "moved to another class", "empty class", "folder renamed"]
)
def test_so_do_its_files_names_and_the_name_that_it_gives_to_the_data_set(
    tmp_path: Path, look: Look, change: str
) -> None:
    link = tmp_path / "checkout/images"
    link.symlink_to(images(tmp_path / "x"))
    before = look()
    file = tmp_path / "x/cat/0001.bmp"
    if change == "added":
        shutil.copy(file, file.with_name("0009.bmp"))
    elif change == "removed":
        file.unlink()
    elif change == "empty class":
        (tmp_path / "x/owl").mkdir()
    elif change == "folder renamed":
        (tmp_path / "x").rename(tmp_path / "y")
        link.unlink()
        link.symlink_to(tmp_path / "y")
    else:
        file.rename(file.with_name("0009.bmp") if change == "renamed" else tmp_path / "x/dog/0009.bmp")
    assert look()["sha256"] != before["sha256"]


def test_it_is_the_same_on_another_machine_and_names_nothing_of_this_one(tmp_path: Path, look: Look) -> None:
    images(tmp_path / "checkout/images")
    before = look()
    (tmp_path / "checkout").rename(tmp_path / "elsewhere")
    os.chdir(tmp_path / "elsewhere")
    for file in Path("images").rglob("*.bmp"):
        os.utime(file, (1, 1))
    assert look() == before
    assert before == {"dataset": "folder", "source": "images", "sha256": before["sha256"]}
    assert str(tmp_path) not in source.RECORD.read_text()


def test_the_table_of_attributes_is_looked_at_likewise(
    tmp_path: Path, look: Look, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images(tmp_path / "checkout/images")
    before = look()
    named = {"dataset.attributes": "known.csv"}
    with pytest.raises(StageError, match=r"^dataset\.attributes: 'known\.csv': not found; give a CSV file"):
        look(**named)
    os.mkfifo("known.csv")
    with pytest.raises(StageError, match=r"^dataset\.attributes: 'known\.csv': not a file; give a CSV file"):
        look(**named)
    Path("known.csv").unlink()
    table = trees.put(Path("known.csv"), b"image,light\ncat/0001.bmp,day\n")
    found = look(**named)
    assert found == {**before, "attributes": "known.csv", "attributes_sha256": found["attributes_sha256"]}
    other_byte(table)
    assert look(**named)["attributes_sha256"] != found["attributes_sha256"]
    trees.recorded(monkeypatch)
    table.write_bytes(b"image,light\ncat/0001.bmp,day\n")
    with pytest.raises(StageError, match=r"^folder: known\.csv is not what reports/source\.json says"):
        fetch.main()
    again = look(**named)
    table.unlink()
    assert look(**named) == again
    assert "known.csv is not on this machine; what was read before stands" in capsys.readouterr().out
    assert look() == before


def test_files_are_read_again_only_after_a_change(
    tmp_path: Path, look: Look, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images(tmp_path / "checkout/images")
    monkeypatch.setattr(content, "SETTLED", 3600.0)  # seconds
    look()
    look()
    assert len(read) == 2 * 12, "a change right after the first look could leave the files' times as they are"
    monkeypatch.setattr(content, "SETTLED", -1.0)
    look()
    assert len(read) == 3 * 12
    look()
    assert len(read) == 3 * 12
    other_byte(tmp_path / "checkout/images/cat/0002.bmp")
    look()
    assert len(read) == 4 * 12


def test_a_pipe_and_a_broken_link_beside_the_images_are_in_nobodys_way(tmp_path: Path, look: Look) -> None:
    folder = images(tmp_path / "checkout/images")
    os.mkfifo(folder / "cat/pipe")
    (folder / "cat/nowhere").symlink_to("nothing")
    assert look()["sha256"]


def test_official_files_stand_for_their_checksums_and_are_not_downloaded(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.datasets.download._transfer", lambda *_: pytest.fail("a download"))
    found = {name: look(name, "")["sha256"] for name in ("digits", "mnist", "cifar10", "caltech256")}
    assert len(set(found.values())) == 4
    assert look("mnist", "")["sha256"] == found["mnist"]


def test_a_provided_archive_is_its_bytes(tmp_path: Path, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    official = look("cifar10", "")["sha256"]
    archive = trees.put(tmp_path / "archives/cifar10.zip", b"one")
    monkeypatch.setenv("VERSUS_DATASETS", str(tmp_path / "archives"))
    first = look("cifar10", "")["sha256"]
    archive.write_bytes(b"two")
    assert len({official, first, look("cifar10", "")["sha256"]}) == 3


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a folder, and the requests that came."""
    requests: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            requests.append(self.path)

    (tmp_path / "served").mkdir()
    handler = functools.partial(Handler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
        server.shutdown()
        thread.join()


def test_a_url_is_downloaded_once_and_known_by_its_bytes(
    tmp_path: Path, look: Look, served: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.archived(images(tmp_path / "served/x"))
    address, requests = served
    first = look("folder", f"{address}/x.zip")
    assert look("folder", f"{address}/x.zip") == first
    trees.recorded(monkeypatch)
    fetch.main()
    assert requests == ["/x.zip"]
    shutil.rmtree(".versus/downloads")
    assert look("folder", f"{address}/x.zip") == first, "data/raw is here: nothing is downloaded"
    assert requests == ["/x.zip"]
    shutil.rmtree("data/raw")
    assert look("folder", f"{address}/x.zip") == first
    assert requests == ["/x.zip"] * 2


# What is not on this machine


def test_where_the_source_is_away_what_was_read_stands(
    tmp_path: Path, look: Look, capsys: pytest.CaptureFixture[str]
) -> None:
    images(tmp_path / "checkout/images")
    before = look()
    shutil.rmtree(tmp_path / "checkout/images")
    capsys.readouterr()
    assert look() == before
    line, _ = capsys.readouterr().out.splitlines()
    assert line == "source: images is not on this machine; what was read before stands (reports/source.json)"
    with pytest.raises(StageError, match="images: not found"):
        fetch.main()
    with pytest.raises(StageError, match="other: not found"):
        look("folder", "other")
    with pytest.raises(StageError, match="rafdb: RAF-DB has no open download"):
        look("rafdb", "")


def test_images_of_a_provided_archive_stand_until_the_official_ones_are_to_be_read(
    tmp_path: Path, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.put(tmp_path / "archives/cifar10.zip", b"a copy in JPEG")
    monkeypatch.setenv("VERSUS_DATASETS", str(tmp_path / "archives"))
    copy = look("cifar10", "")
    monkeypatch.delenv("VERSUS_DATASETS")
    Path("data/raw").mkdir()
    assert look("cifar10", "") == copy
    Path("data/raw").rmdir()
    assert look("cifar10", "")["sha256"] == source.published("cifar10")


def test_fetch_does_not_take_what_has_changed_since(
    tmp_path: Path, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.recorded(monkeypatch)
    folder = images(tmp_path / "checkout/images")
    look()
    fetch.main()
    before = (places.RAW / "info.json").read_text()
    other_byte(folder / "cat/0000.bmp")
    with pytest.raises(StageError, match=r"folder: images is not what reports/source\.json says: .*`dvc repro` again"):
        fetch.main()
    assert (places.RAW / "info.json").read_text() == before


# Files of weights


def weights() -> dict[str, str]:
    return {path.name: path.read_text() for path in source.WEIGHTS.iterdir()}


def test_each_model_has_a_file_that_changes_with_the_weights_it_starts_from(tmp_path: Path, look: Look) -> None:
    file = trees.put(tmp_path / "w.safetensors", b"0123")
    look("digits", "", **{"models.cnn.pretrained": str(file), "models.vit.pretrained": True})
    before = weights()
    assert before["vit"] == before["hybrid"] == "none\n"
    assert before["cnn"].endswith(f"  {file}\n")
    other_byte(file)
    look("digits", "", **{"models.cnn.pretrained": str(file), "models.vit.pretrained": True})
    assert weights() != before
    assert {**weights(), "cnn": ""} == {**before, "cnn": ""}
    there = weights()
    file.unlink()
    look("digits", "", **{"models.cnn.pretrained": str(file)})
    assert weights() == there, "not on this machine: what was read of it stands"
    look("digits", "", **{"models.cnn.pretrained": "other"})
    assert weights()["cnn"] == "missing  other\n"


# Through DVC


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with two studies, each with other images in a folder that both call the same."""
    checkout = repo.copy(tmp_path_factory.mktemp("sources") / "checkout")
    for name, classes in (("r1", ("cat", "dog")), ("r2", ("apple", "pear", "plum"))):
        study = checkout / "studies" / name
        shutil.copytree(checkout / "studies/rafdb/.dvc", study / ".dvc")
        shutil.copy(checkout / "studies/rafdb/dvc.yaml", study)
        trees.study(study, {"dataset.name": "folder", "dataset.source": "images"})
        images(study / "images", classes=classes)
        trees.put(study / ".gitignore", b"/images\n")
        repo.call(study, "dvc", "repro", "split")
    repo.commit(checkout)
    return checkout / "studies"


def data(study: Path) -> dict[str, Any]:
    return json.loads((study / "reports/data.json").read_text())


def test_two_studies_of_one_source_text_have_each_their_own_images(studies: Path) -> None:
    found = {name: [each["class"] for each in data(studies / name)["classes"]] for name in ("r1", "r2")}
    assert found == {"r1": ["cat", "dog"], "r2": ["apple", "pear", "plum"]}
    assert {(studies / name / "data/study").read_text() for name in found} == {"r1\n", "r2\n"}


def test_a_byte_of_the_same_size_is_noticed_and_nothing_runs_without_one(studies: Path) -> None:
    before = data(studies / "r1")["digests"]
    other_byte(studies / "r1/images/cat/0001.bmp")
    assert repo.ran(repo.call(studies / "r1", "dvc", "repro", "split")) == ["fetch", "split"]
    assert data(studies / "r1")["digests"] != before
    assert repo.ran(repo.call(studies / "r1", "dvc", "repro", "split")) == []


def test_a_clone_without_the_source_goes_on_from_what_the_cache_has(studies: Path, tmp_path: Path) -> None:
    repo.call(tmp_path, "git", "clone", "--quiet", str(studies.parent), "clone")
    study = tmp_path / "clone/studies/r2"
    repo.call(study, "dvc", "cache", "dir", "--local", str(studies.parent / ".dvc/cache"))
    repo.call(study, "dvc", "checkout", "--allow-missing")
    output = repo.call(study, "dvc", "repro", "split")
    assert repo.ran(output) == []
    assert "source: images is not on this machine; what was read before stands" in output


def test_a_pipeline_that_is_not_the_roots_is_refused(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study has copies of it, which an update of the checkout leaves as they were."""
    look("digits", "")
    study = Path("studies/mine")
    study.mkdir(parents=True)
    for name in places.PIPELINE:
        Path(name).write_text("new\n")
        (study / name).write_text("new\n")
    shutil.copy("params.yaml", study)
    monkeypatch.chdir(study)
    source.main()
    Path("dvc.yaml").write_text("old\n")
    with pytest.raises(StageError, match=r"dvc.yaml is not the root's: `cp ../../dvc.yaml .` takes that"):
        source.main()
