"""What holds the repository together: stages name their code, studies share one pipeline, texts keep to the rules."""

import ast
import functools
import graphlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.base import code
from pipeline.base.places import PIPELINE
from tests import conftest, repo

ROOT = Path(__file__).parents[1]
STUDIES = repo.studies()
TABLE = "reports/tables/comparison.md"
# A floor imports from those before it, never from one after it.
FLOORS = (
    "base",
    "params",
    "records",
    "scoring",
    "images",
    "datasets",
    "networks",
    "inference",
    "training",
    "trained",
    "tracking",
    "report",
    "launch",
    "stages",
    "anywhere",
    "drafting",
    "commands",
    "cli",
)

LONGEST = 40  # lines of a function


def stages() -> dict[str, dict]:
    return YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def modules() -> dict[str, Path]:
    """Dotted name below `pipeline` -> file; a package by its own name."""
    paths = (path.relative_to(code.PACKAGE) for path in code.PACKAGE.rglob("*.py"))
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): code.PACKAGE / path for path in paths}


@functools.cache
def imports(name: str) -> frozenset[str]:
    """Modules of the package that one imports, late imports too."""
    known = modules()
    found = code.imported_names(known[name].read_bytes())
    parents = {each.rpartition(".")[0] for each in found if each in known}
    return frozenset({each if each in known else each.rpartition(".")[0] for each in found} - parents - {""})


def test_every_stage_depends_on_its_code() -> None:
    """test_code says what that is; check and source run whatever their code is."""
    named = {name: [dep for dep in stage["deps"] if dep.startswith("data/code/")] for name, stage in stages().items()}
    module = {name: {"finalist": "trial", "teacher": "train"}.get(name, name) for name in stages()}
    assert named == {name: [] if name in ("check", "source") else [f"data/code/{module[name]}"] for name in stages()}


def test_dvc_takes_every_stage_from_its_run_cache_but_those_that_bring_results_to_git() -> None:
    """It does so for a stage all of whose outputs are cached, or metrics, or plots."""
    outs = {name: [out for out in stage.get("outs", []) if isinstance(out, dict)] for name, stage in stages().items()}
    kept = {name for name, found in outs.items() for out in found if next(iter(out.values())).get("cache") is False}
    assert kept == {"source", "predictions", "report"}


def test_a_room_imports_from_the_floors_below_it_alone() -> None:
    room = {name: name.split(".")[0] for name in modules()}
    assert set(room.values()) - {"__init__"} == set(FLOORS)
    upwards = [
        f"{name} imports {other}"
        for name in modules()
        for other in imports(name)
        if other in room and FLOORS.index(room[other]) > FLOORS.index(room[name])
    ]
    assert upwards == []


def test_a_function_can_be_read_in_one_sitting() -> None:
    long = {
        f"{name}.{function.name}"
        for name, path in modules().items()
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
        and function.end_lineno is not None
        and function.end_lineno - function.lineno >= LONGEST
    }
    assert long == set()


def test_a_name_that_begins_with_an_underscore_is_its_modules_own() -> None:
    pattern = re.compile(r"^\s*from pipeline\S* import \(?[^)\n]*\b_[a-z]\w*", re.MULTILINE)
    assert [line for path in modules().values() for line in pattern.findall(path.read_text(encoding="utf-8"))] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: imports(name) & set(modules()) - {name} for name in modules()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("study", STUDIES[1:], ids=lambda path: path.name)
def test_a_study_is_a_dvc_project_of_its_own_that_shares_the_roots_cache(study: Path) -> None:
    """So a study that was never run, or that is broken, is in no other's way."""
    shared = (study / ".dvc/config").read_text().replace("    dir = ../../../.dvc/cache\n", "")
    assert shared == (ROOT / ".dvc/config").read_text()


def test_train_reads_no_test_images() -> None:
    assert not [dep for dep in stages()["train"]["deps"] if "data/test" in dep or "data/raw" in dep]


@pytest.mark.parametrize("study", STUDIES[1:], ids=lambda path: path.name)
def test_a_study_has_the_pipeline_of_the_root(study: Path) -> None:
    """Its code by a link; what DVC reads by copies (`versus schema`), for in a commit DVC follows no link."""
    assert (study / "pipeline").resolve() == (ROOT / "pipeline").resolve()
    assert not Path(os.readlink(study / "pipeline")).is_absolute()
    for name in PIPELINE:
        assert not (study / name).is_symlink(), name
        assert (study / name).read_bytes() == (ROOT / name).read_bytes(), f"{name}: run `versus schema`"


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_git_tracks_nothing_that_dvc_writes(study: Path) -> None:
    """DVC refuses to run a stage whose output git tracks, in every clone."""
    folder = (study / "data").relative_to(ROOT)
    assert {name for name in repo.committed() if Path(name).is_relative_to(folder)} <= {
        (folder / room / ".gitignore").as_posix()
        for room in ("", "finalists", "logits", "predictions", "teachers", "trials")
    }


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_a_study_has_every_setting_that_its_stages_depend_on(study: Path) -> None:
    """DVC refuses to run a stage that depends on a setting which params.yaml lacks, default or not."""
    yaml = YAML(typ="safe")
    settings = yaml.load((study / "params.yaml").read_text())
    for name, stage in yaml.load((study / "dvc.yaml").read_text())["stages"].items():
        for key in stage.get("params", []):
            found = settings
            for part in key.partition(".${")[0].split("."):
                assert part in found, f"{name}: {key}"
                found = found[part]


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_an_experiment_leaves_the_text_of_params_yaml_as_it_is(study: Path, tmp_path: Path) -> None:
    """DVC writes params.yaml anew for an experiment: ours are as it writes them, so a diff shows the change alone."""
    from dvc.utils.serialize import modify_yaml

    copy = Path(shutil.copy(study / "params.yaml", tmp_path))
    with modify_yaml(str(copy)):
        pass
    assert copy.read_text() == (study / "params.yaml").read_text()


def test_only_tracking_imports_mlflow() -> None:
    pattern = re.compile(r"^\s*(import|from) mlflow", re.MULTILINE)
    found = {path.parent.name for path in (ROOT / "pipeline").rglob("*.py") if pattern.search(path.read_text())}
    assert found == {"tracking"}


@pytest.mark.parametrize("stage", ["check", "fetch", "split", "report"])
def test_stages_without_networks_import_no_torch(stage: str) -> None:
    code = f"import sys, pipeline.stages.{stage}; sys.exit(bool({{'torch', 'timm', 'mlflow'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_running_them_imports_no_torch_either(tmp_path: Path) -> None:
    """What their work and their logging import late counts too; of check, tests/inference/test_rehearse.py."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    code = (
        "import sys\nfrom pipeline.stages import fetch, split\nfor stage in (fetch, split): stage.main()\n"
        "sys.exit(str({'torch', 'timm'} & set(sys.modules)) if {'torch', 'timm'} & set(sys.modules) else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_logged_model_needs_no_more_than_its_requirements_say() -> None:
    """`pipeline.trained.serving` loads where neither DVC nor what only tracking needs is installed."""
    from pipeline.tracking.champion import SERVING

    blocked = ("dvc", "filelock", "mlflow", "psutil", "pydantic", "ruamel", "sklearn", "matplotlib", "tqdm")
    assert not set(blocked) & set(SERVING)
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import pipeline.trained.serving"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_constraints_pin_every_dependency_by_version_alone() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in pins)
    named = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    assert {re.sub(r"[-_.]+", "-", re.split(r"[<>=\[]", name)[0]).lower() for name in listed} <= named


@pytest.mark.parametrize("table", sorted(name for name in repo.committed() if name.endswith(TABLE)))
def test_a_readme_shows_the_committed_results(table: str, tmp_path: Path) -> None:
    """Its table is the report's own: nobody types a result."""
    page = (table.removesuffix(TABLE) or "studies/") + "README.md"
    committed = repo.export(tmp_path, table, page)
    assert (committed / table).read_text().strip() in (committed / page).read_text()


def test_the_files_that_go_first_are_there() -> None:
    assert set(conftest.SLOWEST) <= {path.stem for path in ROOT.glob("tests/**/*.py")}


def test_tests_look_at_the_results_that_are_committed() -> None:
    """`repo.export` and `repo.studies`: what somebody ran in the working tree, or copied there, is of no account."""
    own = re.compile(r"""ROO[T]\b[^\n]*(\breports/|\breports"|dvc\.lock|/data/|/models/|glob\("studies)""")
    found = [f"{path.name}: {line}" for path in ROOT.glob("tests/**/*.py") for line in own.findall(path.read_text())]
    assert found == []


def test_a_section_of_the_report_is_a_module_and_a_template_in_the_list() -> None:
    from pipeline.report.sections import NAMES

    folder = ROOT / "pipeline/report/sections"
    for suffix in (".py", ".html"):
        assert sorted(NAMES) == sorted(path.stem for path in folder.glob(f"[!_]*{suffix}"))
