"""What a command is told to write appears whole, and nothing that lay there before goes with it."""

import os
from pathlib import Path

import pytest

from pipeline.base.errors import StageError
from pipeline.base.files import empty, writable_file, written_whole
from tests import trees


def test_a_file_takes_the_place_of_a_file_and_a_folder_of_a_folder_but_no_file_that_of_a_folder(tmp_path: Path) -> None:
    thesis = trees.put(tmp_path / "paper/thesis.tex", b"years")
    with (
        pytest.raises(StageError, match="paper: a folder, and a file is to be written"),
        written_whole(tmp_path / "paper") as partial,
    ):
        partial.write_text("table")
    assert [path.name for path in tmp_path.rglob("*")] == ["paper", "thesis.tex"]
    assert thesis.read_bytes() == b"years"
    with written_whole(tmp_path / "paper") as partial:  # as a stage makes its outputs anew
        partial.mkdir()
    assert not thesis.exists()


@pytest.mark.parametrize("place", ["/dev/null", "/dev/stdout", "/proc/self/fd/1", "folder", ".", "..", "pipe"])
def test_a_name_that_is_no_place_for_a_file_is_refused(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename over /dev/stdout, as root may do it, would leave a file there for every other process."""
    (tmp_path / "here/folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    os.mkfifo("pipe")
    with pytest.raises(StageError, match=r"^--csv: .* (is a folder|is neither a file nor a free name); give a file's"):
        writable_file(Path(place), "--csv")


def test_a_file_new_or_old_is_accepted_and_its_folder_made(tmp_path: Path) -> None:
    writable_file(tmp_path / "new/answers.csv", "--csv")
    assert (tmp_path / "new").is_dir()
    writable_file(trees.put(tmp_path / "old.csv", b"old"), "--csv")
    assert (tmp_path / "old.csv").read_bytes() == b"old"


def test_a_folder_that_holds_anything_is_refused_where_old_would_stand_among_new(tmp_path: Path) -> None:
    empty(tmp_path / "why", "--explain")
    trees.put(tmp_path / "why/photo.png", b"of another model")
    with pytest.raises(StageError, match=r"--explain: .*why is not empty, .*; give a new folder"):
        empty(tmp_path / "why", "--explain")
