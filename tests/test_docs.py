"""README and docs: what they show works. `make walk` runs every command as it is written; here the quick ones run."""

import ast
import contextlib
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline import cli
from pipeline.params import registry, schema
from pipeline.params.read import load_params
from pipeline.report import sections
from tests import repo, trees, walk

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "CONTRIBUTING.md", ROOT / "studies/README.md"]
LONG = (
    "ui",
    "export",
    "ablation",
    "experiments",
    "launch",
    "new",
    "pack",
    "page",
    "prune",
    "summary",
    "unpack",
    "verify",
    "cross",
)  # not run here


def commands(page: Path) -> list[list[str]]:
    """The commands of a page's bash blocks as words, without settings of variables."""
    found = []
    for line in walk.commands(page):
        words = shlex.split(line)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words:
            found.append(words)
    return found


EVERY = [(page.name, words) for page in PAGES for words in commands(page)]


def test_there_are_commands_to_look_at() -> None:
    assert len(EVERY) > 30
    assert {"README.md", "index.md", "mlflow.md"} <= {name for name, _ in EVERY}


def test_every_page_with_commands_is_walked() -> None:
    assert {page.relative_to(ROOT).as_posix() for page in PAGES if commands(page)} == set(walk.PAGES)


@pytest.mark.parametrize("start", [*walk.ELSEWHERE, *walk.INSTEAD])
def test_what_the_walk_runs_otherwise_is_still_on_a_page(start: str) -> None:
    assert any(line.startswith(start) for page in walk.PAGES for line in walk.commands(ROOT / page))


def test_the_walk_of_a_page_stops_at_the_first_command_that_fails(tmp_path: Path) -> None:
    page = "page.md"
    for number, (command, fails) in enumerate([("true", False), ("false", True), ("false | cat", True)]):
        clone = tmp_path / str(number) / "clone"
        clone.mkdir(parents=True)
        block = f"{command}  # with a remark\ntouch \\\n  reached\n"
        (clone / page).write_text(f"```bash\n{block}```\n\n```yaml\nno: command\n```\n")
        with pytest.raises(AssertionError, match=page) if fails else contextlib.nullcontext():
            walk.follow(page, clone)
        assert (clone / "reached").exists() is not fails


@pytest.mark.parametrize("words", [words for _, words in EVERY if words[0] == "dvc"], ids=" ".join)
def test_dvc_takes_every_command_as_it_is_written(words: list[str]) -> None:
    from dvc.cli import parse_args

    parse_args(words[1:])


@pytest.mark.parametrize("words", [words for _, words in EVERY if words[0] == "make"], ids=" ".join)
def test_make_has_the_target(words: list[str]) -> None:
    assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_versus_command_runs_on_a_trained_study(
    trained_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With images where the pages say there are; `cnn` is called `tiny` here."""
    from pipeline.training import timing

    monkeypatch.setattr(timing, "BUDGET", 0.0)
    for name in ("FILE", "PAGE", "DATA"):
        path = getattr(schema, name)
        trees.put(tmp_path / path.relative_to(ROOT), path.read_bytes())
        monkeypatch.setattr(schema, name, tmp_path / path.relative_to(ROOT))
    work = tmp_path / "work"
    work.mkdir()
    (work / "data").mkdir()  # `versus check` leaves its mark there
    for name in ("models", "data/fit", "data/test", "reports", "params.yaml"):
        (work / name).symlink_to(trained_study / name)
    for name in ("photo.jpg", "photos/a.png", "more/b.png"):
        (work / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(work / name)
    monkeypatch.chdir(work)
    ran = []
    for _, words in EVERY:
        line = " ".join(words)
        if words[0] == "versus" and not words[1].startswith(LONG):
            renamed = [re.sub(r"^cnn(?=$|-)", "tiny", word).replace("tiny-2", "tiny-1") for word in words[1:]]
            with contextlib.suppress(SystemExit):
                cli.main(renamed)
            printed = capsys.readouterr()
            assert "versus: " not in printed.err, f"{line}: {printed.err}"
            assert printed.out
            ran.append(words[1])
    assert {"models", "predict", "estimate", "check", "schema"} <= set(ran)


@pytest.mark.parametrize(
    "page",
    [*PAGES, *sorted(study / "README.md" for study in repo.studies()[1:])],
    ids=lambda page: page.parent.name + "/" + page.name,
)
def test_settings_that_pages_change_are_in_params_yaml_or_are_added_to_it(page: Path) -> None:
    """DVC refuses `-S train.x=1` where params.yaml has no such key, and takes `-S ++train.x=1`."""
    folder = page.parent if page.parent.parent.name == "studies" else ROOT
    settings = YAML(typ="safe").load((folder / "params.yaml").read_text()) if (folder / "params.yaml").exists() else {}
    for added, key in re.findall(r"-S\s+'?(\+*)([a-z]\w*(?:\.\w+)*)=", page.read_text(encoding="utf-8")):
        *parents, last = key.split(".")
        place: Any = settings
        for name in parents:
            place = place.get(name, {})
        assert added or last in place, f"{key}: write -S ++{key}="


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    """Those to results lead to what is committed: a rerun that failed has removed them."""
    committed = {str(parent) for name in repo.committed() for parent in (Path(name), *Path(name).parents)}
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        path = Path(os.path.normpath(page.parent / target))
        assert path.exists() or str(path.relative_to(ROOT)) in committed, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_pages_show_of_params_yaml_is_valid(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    for block in walk.blocks(page, "yaml"):
        shown = YAML(typ="safe").load(block)
        content = {**base}
        for key, value in shown.items():
            if key in ("launch", "teachers"):
                content[key] = value
            elif key in base and isinstance(base[key], dict):
                content[key] = {**base[key], **value}
            elif key in base:
                content[key] = value
            else:
                content["models"] = {**base["models"], key: value}
        with (tmp_path / "params.yaml").open("w") as file:
            YAML().dump(content, file)
        load_params()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "extending.md"], ids=lambda page: page.name)
def test_python_that_pages_show_names_what_there_is(page: Path) -> None:
    """Extending's is run in tests/test_extending.py."""
    for block in walk.blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), block


def test_the_reference_is_that_of_the_typed_parameters() -> None:
    assert schema.PAGE.read_text(encoding="utf-8") == schema.reference(schema.json_schema()), "run `versus schema`"
    for key in ("models.<name>`, family `hybrid", "`label_smoothing`", "`adamw`, `sgd`"):
        assert key in schema.PAGE.read_text(encoding="utf-8")


def test_the_tables_of_data_sets_are_what_the_data_sets_say() -> None:
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    assert schema.with_tables(text) == text, "run `versus schema`"
    for name in registry.DATASETS:
        about = registry.load("datasets", name).ABOUT
        assert f"| `{name}` | {about.images} |" in text
        assert f" | {about.licence or 'yours to say'} | {'yes' if about.shareable else 'no'} |" in text


@pytest.mark.skipif(
    importlib.util.find_spec("material") is None, reason="mkdocs-material is not here: pip install -e '.[docs]'"
)
def test_the_site_builds_without_a_warning_and_can_be_searched(tmp_path: Path) -> None:
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    repo.make("docs", folder=tmp_path)
    found = json.loads((tmp_path / "site/search/search_index.json").read_text(encoding="utf-8"))
    pages = {entry["location"].partition("#")[0] for entry in found["docs"]}
    assert pages == {path.with_suffix(".html").name for path in (ROOT / "docs").glob("*.md")}
    for page in (tmp_path / "site").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]* src=.?https?:|<link[^>]* href=.?https?:", text), page.name


def test_every_section_of_a_report_is_explained() -> None:
    """And its pictures are small: none is of the data set."""
    text = (ROOT / "docs/reading.md").read_text(encoding="utf-8")
    for name in sections.NAMES:
        code = (ROOT / f"pipeline/report/sections/{name}.py").read_text(encoding="utf-8")
        (title,) = set(re.findall(r'return Section\(\s*"([^"]+)"', code))
        assert title.lower() in text.lower(), name
    for picture in (ROOT / "docs/pictures").iterdir():
        assert picture.stat().st_size < 60_000, picture.name
        assert f"pictures/{picture.name}" in text


def code_cells(notebook: Path) -> list[str]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs")], "clear the outputs"
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.filterwarnings("ignore")  # of seaborn and of a backend that shows nothing
def test_the_notebook_runs_on_the_committed_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells in their order, in one namespace, as a kernel would."""
    committed = repo.export(tmp_path, "params.yaml", "reports", "notebooks")
    path = ROOT / "notebooks/study.ipynb"
    cells = code_cells(path)
    monkeypatch.chdir(committed / "notebooks")
    with mpl.rc_context({"backend": "agg"}), contextlib.redirect_stdout(io.StringIO()):
        names: dict = {}
        for cell in cells:
            exec(cell, names)
    metrics = json.loads((committed / "reports/metrics.json").read_text())["models"]
    means = names["scores"].groupby("model")["macro_f1"].mean()
    assert means.to_dict() == pytest.approx({name: model["macro_f1"]["mean"] for name, model in metrics.items()})
