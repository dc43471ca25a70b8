"""Digests of the code: what stages depend on."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.base import code
from pipeline.report.sections import NAMES
from tests import trees

MODULES = sorted(code.PACKAGE.rglob("*.py"))
SOURCE = '''"""What it is for."""
RATE = 0.1  # per step


def double(value: float) -> float:
    """Twice the value."""
    return 2 * value
'''


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("What it is for", "Something else"),
        ("Twice the value", "The value, twice"),
        ("  # per step", ""),
        ("\n\n\ndef", "\n\n\n# a comment\n\n\ndef"),
        ('    """Twice the value."""\n', ""),
        ("2 * value", "(2 * value)"),
    ],
)
def test_a_comment_a_docstring_and_the_layout_change_nothing(before: str, after: str) -> None:
    assert before in SOURCE
    changed = SOURCE.replace(before, after)
    assert code.digest("a.py", SOURCE.encode()) == code.digest("a.py", changed.encode())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0.1", "0.10001"),
        ("2 *", "3 *"),
        ("2 *", "2 +"),
        ("2 *", "2.0 *"),
        ("value: float)", "value: int)"),
        ("value: float)", "value: float = 1)"),
        ("RATE", "SPEED"),
        ("    return", "    'Twice.'\n    return"),
        ("return 2 * value", "value"),
    ],
)
def test_a_statement_does(before: str, after: str) -> None:
    assert before in SOURCE
    changed = SOURCE.replace(before, after)
    assert code.digest("a.py", SOURCE.encode()) != code.digest("a.py", changed.encode())


@pytest.mark.filterwarnings("ignore:.*missing 1 required positional:DeprecationWarning")  # Python 3.13: `None` has none
@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(code.PACKAGE).as_posix())
def test_no_statement_escapes(path: Path) -> None:
    """What is digested of a module is enough to write its parsed code anew, docstrings and empty fields apart."""
    source = path.read_bytes()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, code.DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body.pop(0)
        for name, value in list(ast.iter_fields(node)):
            if value in (None, []):
                delattr(node, name)
    assert ast.dump(rebuilt(json.loads(code.statements(source)))) == ast.dump(tree)


def rebuilt(form: Any) -> Any:
    """The parsed code that a form stands for."""
    if isinstance(form, str):
        return ... if form == "Ellipsis" else ast.literal_eval(form)
    if form and isinstance(form[0], str) and hasattr(ast, form[0]):
        return getattr(ast, form[0])(**{name: rebuilt(value) for name, value in form[1:]})
    return [rebuilt(each) for each in form]


def test_no_module_reads_a_docstring() -> None:
    """Or a docstring would change what a stage does."""
    assert [path.name for path in MODULES if "__doc__" in path.read_text() and path.name != "code.py"] == []


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a few modules in a checkout that remembers nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VERSUS_HOME", str(tmp_path))
    package = tmp_path / "package"
    for name, text in {
        "base/files.py": "",
        "stages/train.py": "from pipeline.base import files\nfrom pipeline.training import fit\n",
        "stages/report.py": "def main():\n    from pipeline.report.page import render\n",
        "training/__init__.py": "",
        "training/fit.py": "from pipeline.training.losses.focal import focal_loss\nEPOCHS = 1\n",
        "training/losses/__init__.py": "",
        "training/losses/focal.py": "GAMMA = 2\n",
        "training/losses/dice.py": "SMOOTH = 1\n",
        "report/page.py": "render = 1\n",
        "report/templates/page.html": "<p>",
        "images/form.py": "SIDE = 8\n",
    }.items():
        trees.put(package / name, text.encode())
    return package


def places(text: str) -> list[str]:
    return [line.split("  ")[1] for line in text.splitlines()]


def test_a_stage_rests_on_what_it_can_come_to_import(package: Path) -> None:
    """By name too; not on what changes no result, such as base."""
    found = code.Code(package)
    assert places(found.described("train")) == [
        "stages/train.py",
        "training/fit.py",
        "training/losses/dice.py",
        "training/losses/focal.py",
    ]
    assert places(found.described("report")) == ["report/page.py", "report/templates/page.html", "stages/report.py"]


def test_what_is_remembered_is_what_would_be_found(package: Path) -> None:
    folder = package.parent / "data/code"
    code.write(folder, package)
    first, memory = (folder / "train").read_text(), package.parent / ".versus/code.json"
    assert memory.exists()
    assert code.Code(package).described("train") == first
    memory.write_text("[]")
    assert code.Code(package).described("train") == first


def test_only_what_changed_is_written_anew(package: Path) -> None:
    folder = package.parent / "data/code"
    code.write(folder, package)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert set(times) == {"train", "report"}

    cached = package.parent / "cached"
    cached.hardlink_to(folder / "train")  # as DVC links an output to its cache
    before = cached.read_text()
    (package / "training/losses/dice.py").write_text("SMOOTH = 2\n")
    (package / "report/page.py").write_text("render = 1  # a page\n")
    code.write(folder, package)
    assert (folder / "train").read_text() != before
    assert cached.read_text() == before
    assert (folder / "report").stat().st_mtime_ns == times["report"]

    (package / "stages/report.py").unlink()
    code.write(folder, package)
    assert [path.name for path in folder.iterdir()] == ["train"]


@pytest.mark.parametrize(
    ("stage", "some", "none"),
    [
        ("fetch", ["stages/fetch", "datasets/jaffe", "datasets/tree"], ["params/settings", "registry", "stages/split"]),
        ("split", ["stages/split", "images/subset"], ["base/files", "tracking/runs", "networks/tiny"]),
        (
            "train",
            ["training/fit", "training/losses/focal", "training/optim/sgd", "networks/tiny", "images/augment/policy"],
            ["report/page", "stages/evaluate", "training/resume"],
        ),
        ("evaluate", ["inference/forward", "networks/hybrid"], ["training/fit", "images/augment/cutout"]),
        ("latency", ["networks/tiny"], ["training/fit", "images/augment/cutout"]),
        (
            "report",
            ["report/page", "report/sections/cost", "scoring/pairs"],
            ["images/form", "report/ablation", "stages/evaluate"],
        ),
    ],
)
def test_our_stages_rest_on_what_can_change_their_result(stage: str, some: list[str], none: list[str]) -> None:
    """An augmentation retrains, but evaluates and times nothing anew."""
    found = places(code.described(stage))
    assert {f"{name}.py" for name in some} <= set(found)
    assert not {f"{name}.py" for name in none} & set(found)


def test_the_report_rests_on_its_sections_and_templates() -> None:
    """Sections are loaded by name; the template of `versus ablation` is none of them."""
    found = set(places(code.described("report")))
    package = code.PACKAGE / "report"
    texts = {
        path.relative_to(code.PACKAGE).as_posix() for path in package.rglob("*") if path.suffix not in (".py", ".pyc")
    }
    assert {name for name in found if not name.endswith(".py")} == {
        name for name in texts if Path(code.PACKAGE / name).is_file() and name != "report/ablation.html"
    }
    assert {f"report/sections/{name}.py" for name in NAMES} <= found
