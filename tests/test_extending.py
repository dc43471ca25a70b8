"""docs/extending.md as it is written: its files and lines put into a copy of the repository, its commands run there,
what it adds trained, and the tests run that following it could break.
"""

import re
import sys
from pathlib import Path

import pytest

from tests import repo, walk

PAGE = Path(__file__).parents[1] / "docs/extending.md"
COULD_BREAK = {  # tests of lists, texts and choices, beside those that the page adds
    "tests/extended.py": "",
    "tests/training/losses/test_poly.py": "",
    "tests/params/test_registry.py": "",
    "tests/test_layout.py": "not import_no_torch and not imports_no_torch and not logged_model",
    "tests/params/test_settings.py": "",
    "tests/params/test_schema.py": "",
    "tests/test_docs.py": "tables or reference",
    "tests/test_hostile.py": "choose",
    "tests/report/test_cards.py": "",
    "tests/datasets/test_source.py": "",
    "tests/test_cli.py": "help and not imports",
    "tests/training/optim/test_schedule.py": "",
}


def steps(page: str) -> list[tuple[str, str, str]]:
    """(path, language or diff, content) of every block that belongs into a file: the last that is named above it."""
    found = []
    for block in re.finditer(r"^```(\w+)\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        if block[1] in ("python", "html", "diff"):
            path = re.findall(r"`([\w/.]+\.(?:py|html))`", page[: block.start()])[-1]
            found.append((path, block[1], block[2]))
    return found


def edited(text: str, diff: str) -> str:
    """A text with a diff's lines taken away and added; where they go is there once."""
    lines = diff.splitlines(keepends=True)
    before, after = ("".join(line[1:] or "\n" for line in lines if line[0] not in sign) for sign in ("+", "-"))
    assert text.count(before) == 1, f"{text.count(before)} times in the file:\n{before}"
    return text.replace(before, after)


def follow(folder: Path) -> None:
    for path, kind, content in steps(PAGE.read_text(encoding="utf-8")):
        file = folder / path
        assert file.exists() == (kind == "diff"), path
        file.write_text(edited(file.read_text(), content) if kind == "diff" else content)
    here = {"PYTHONPATH": str(folder)}
    for command in walk.commands(PAGE):
        if command.startswith("versus "):
            repo.call(folder, sys.executable, "-m", "pipeline.cli", *command.split()[1:], **here)
        else:
            assert command == "make test"


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = repo.copy(tmp_path_factory.mktemp("copy"))
    follow(folder)
    return folder


def test_what_it_adds_works_and_the_suite_stays_green(followed: Path) -> None:
    kept = [name for name in COULD_BREAK if not COULD_BREAK[name]]
    chosen = " or ".join(f"({Path(name).stem} and {words})" for name, words in COULD_BREAK.items() if words)
    chosen = " or ".join([*(Path(name).stem for name in kept), chosen])
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *COULD_BREAK]
    said = repo.call(followed, sys.executable, *command, PYTHONPATH=str(followed), OMP_NUM_THREADS="1")
    assert re.search(r"^\d+ passed", said, re.MULTILINE), said


def test_what_it_adds_passes_the_linter(followed: Path) -> None:
    files = sorted({path for path, kind, _ in steps(PAGE.read_text(encoding="utf-8")) if kind != "html"})
    repo.call(followed, "ruff", "format", "--check", *files)
    repo.call(followed, "ruff", "check", *files)


def test_a_data_set_is_one_file_and_one_line_and_so_are_a_loss_and_a_technique() -> None:
    page = PAGE.read_text(encoding="utf-8")
    added = [(path, kind) for path, kind, _ in steps(page)]
    lines = [content for path, kind, content in steps(page) if path == "pipeline/params/registry.py"]
    assert all(re.sub(r"(?m)^ .*\n", "", content).count("\n") == 1 for content in lines)
    assert {path for path, kind in added if kind == "diff"} == {
        "pipeline/commands/__init__.py",
        "pipeline/params/registry.py",
        "pipeline/params/settings.py",
        "pipeline/report/sections/__init__.py",
        "pipeline/training/optim/schedule.py",
    }


def test_a_diff_that_fits_nowhere_or_twice_is_refused() -> None:
    assert edited("a\nb\n", " a\n+c\n b\n") == "a\nc\nb\n"
    assert edited("a\nb\n", "-a\n+c\n") == "c\nb\n"
    for text in ("b\n", "a\na\n"):
        with pytest.raises(AssertionError, match="times in the file"):
            edited(text, " a\n+c\n")
