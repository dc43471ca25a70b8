"""Where the files of a data set are looked for, and what is said if they are not there."""

from pathlib import Path

import pytest

from pipeline import datasets
from pipeline.base.errors import StageError
from pipeline.datasets import fer2013, folder, mnist, rafdb
from pipeline.datasets.source import local, open_source
from pipeline.params import registry
from tests.trees import archived, put, rafdb_folders


@pytest.fixture(autouse=True)
def _away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VERSUS_DATASETS", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)


@pytest.mark.parametrize(("name", "module"), [("rafdb", rafdb), ("fer2013", fer2013)])
def test_data_without_an_open_download_say_where_to_ask_and_where_to_put_them(name: str, module: object) -> None:
    about = module.ABOUT  # type: ignore[attr-defined]
    with pytest.raises(StageError, match="no open download") as error:
        open_source(name, about, "")
    assert about.homepage in str(error.value)
    assert "dataset.source" in str(error.value)
    assert "\n" not in str(error.value)


def test_folder_needs_a_source() -> None:
    with pytest.raises(StageError, match=r"dataset\.source"):
        open_source("folder", folder.ABOUT, "")


def test_source_that_is_not_there_is_named() -> None:
    with pytest.raises(StageError, match="nowhere: not found"):
        local("nowhere")


def test_source_that_may_not_be_looked_at_or_is_no_path_is_one_line(
    nobody_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(nobody_folder)
    locked = nobody_folder / "locked"
    (locked / "images").mkdir(parents=True)
    locked.chmod(0)
    with pytest.raises(StageError, match="locked/images: cannot be read: Permission denied"):
        local(str(locked / "images"))
    locked.chmod(0o700)
    with pytest.raises(StageError, match="cannot be read: File name too long"):
        local("x" * 5000)
    with pytest.raises(StageError, match="~nobody-of-this-name/images: not found"):
        local("~nobody-of-this-name/images")


def test_relative_source_starts_at_the_study_and_tilde_is_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "study").mkdir()
    monkeypatch.chdir(tmp_path / "study")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local("../images").samefile(tmp_path / "images")
    assert local("~/images").samefile(tmp_path / "images")


@pytest.mark.parametrize("place", [".dvc/tmp/exps/copy", ".versus/verify/root/rerun"])
def test_queued_experiment_and_rerun_find_what_git_ignores_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "mine").mkdir()
    copy = tmp_path / place
    (copy / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert local("mine").samefile(tmp_path / "mine")


def test_provided_archive_stands_in_for_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archived(rafdb_folders(tmp_path / "archives" / "rafdb", train=1, test=1, side=8))
    monkeypatch.setenv("VERSUS_DATASETS", str(tmp_path / "archives"))
    with datasets.opened("rafdb", "") as (_, collection):
        assert len(collection.images) == 14
    monkeypatch.setenv("VERSUS_DATASETS", "archives")
    with pytest.raises(StageError, match="not absolute"):
        open_source("rafdb", rafdb.ABOUT, "")


def test_source_with_another_data_set_says_what_was_expected(tmp_path: Path) -> None:
    put(tmp_path / "cats" / "tabby" / "1.png", b"")
    with (
        pytest.raises(StageError, match=r"expected train-images-idx3-ubyte\.gz"),
        open_source("mnist", mnist.ABOUT, "cats") as tree,
    ):
        mnist.read(tree)


@pytest.mark.parametrize("name", registry.DATASETS)
def test_every_data_set_says_what_is_to_be_known_of_it(name: str) -> None:
    about = registry.load("datasets", name).ABOUT
    assert about.images
    assert about.origin
    assert about.caveats.endswith(".")
    assert about.embedded or about.official or (about.request and about.layouts)


def test_every_module_with_a_data_set_is_in_the_registry() -> None:
    files = Path(datasets.__file__).parent.glob("*.py")
    assert {path.stem for path in files if "\nABOUT = " in path.read_text(encoding="utf-8")} == set(registry.DATASETS)
