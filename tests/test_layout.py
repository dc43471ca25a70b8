"""What holds the repository together: stages name their code, studies share one pipeline, texts keep to the rules."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import dependencies
from tests import conftest, repo

ROOT = Path(__file__).parent.parent
STUDIES = repo.studies()
TABLE = "reports/tables/comparison.md"


def stages() -> dict[str, dict]:
    return YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def test_a_stage_depends_on_every_module_that_can_change_its_result() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    assert dependencies.listed(text) == text, "run `versus schema`"


@pytest.mark.parametrize(
    ("stage", "some", "none"),
    [
        ("check", ["check", "params", "registry", "rehearse", "networks/tiny"], ["engine", "losses/focal", "stage"]),
        ("fetch", ["fetch", "datasets/__init__", "datasets/jaffe", "datasets/tree"], ["params", "registry", "split"]),
        ("split", ["split", "subset"], ["datasets/jaffe", "stage", "tracking"]),
        ("train", ["engine", "losses/focal", "optim/sgd", "networks/tiny", "augment/policy"], ["report", "evaluate"]),
        ("evaluate", ["inference", "networks/hybrid"], ["engine", "losses/focal"]),
    ],
)
def test_what_a_stage_needs_is_found_from_its_imports_and_from_what_it_loads_by_name(
    stage: str, some: list[str], none: list[str]
) -> None:
    needed = dependencies.needed(stage)
    assert {f"pipeline/{name}.py" for name in some} <= set(needed)
    assert not {f"pipeline/{name}.py" for name in none} & set(needed)


def test_the_report_needs_its_templates() -> None:
    found = {path for path in dependencies.needed("report") if "templates/" in path}
    assert {"pipeline/templates/report.html", "pipeline/templates/sections/cost.html"} <= found
    assert "pipeline/templates/ablation.html" not in found


def test_stages_name_files_of_code_not_folders() -> None:
    """In a study, a folder outside the project would be hashed with its __pycache__, which differs in every clone."""
    code = [dep for stage in stages().values() for dep in stage["deps"] if "${root}/" in dep]
    assert code
    assert all(Path(dep).suffix in (".py", ".html", ".css", ".js") for dep in code)


def test_a_trainings_fingerprint_covers_the_code_that_train_depends_on() -> None:
    from pipeline import train

    covered = {str(path.relative_to(ROOT)) for path in train.sources()}
    declared = {dep.removeprefix("${root}/") for dep in stages()["train"]["deps"] if "${root}/" in dep}
    assert declared <= covered
    assert all(name.endswith("__init__.py") for name in covered - declared)


@pytest.mark.parametrize("study", STUDIES[1:], ids=lambda path: path.name)
def test_a_study_is_a_dvc_project_of_its_own_that_shares_the_roots_cache(study: Path) -> None:
    """So a study that was never run, or that is broken, is in no other's way."""
    shared = (study / ".dvc/config").read_text().replace("    dir = ../../../.dvc/cache\n", "")
    assert shared == (ROOT / ".dvc/config").read_text()


def test_train_reads_no_test_images() -> None:
    assert not [dep for dep in stages()["train"]["deps"] if "data/test" in dep or "data/raw" in dep]


@pytest.mark.parametrize("study", STUDIES[1:], ids=lambda path: path.name)
def test_a_study_has_the_pipeline_of_the_root(study: Path) -> None:
    wanted = dependencies.for_study((ROOT / "dvc.yaml").read_text(), study)
    assert (study / "dvc.yaml").read_text() == wanted, "run `versus schema`"


def test_with_folds_a_training_reads_its_own_and_nothing_else_differs() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    folded = YAML(typ="safe").load(dependencies.with_folds(text))["stages"]
    assert "data/fit/${item.replicate}" in folded["train"]["deps"]
    assert "data/test/0" in folded["latency"]["deps"]
    assert "data/fit" in folded["split"]["outs"]
    assert dependencies.with_folds(text).replace("/${item.replicate}\n", "\n").replace("/0\n", "\n") != text


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
    found = [path.name for path in (ROOT / "pipeline").rglob("*.py") if pattern.search(path.read_text())]
    assert found == ["tracking.py"]


@pytest.mark.parametrize("stage", ["check", "fetch", "split", "report"])
def test_stages_without_networks_import_no_torch(stage: str) -> None:
    code = f"import sys, pipeline.{stage}; sys.exit(bool({{'torch', 'timm', 'mlflow'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_running_them_imports_no_torch_either(tmp_path: Path) -> None:
    """What their work and their logging import late counts too; of check, tests/test_rehearse.py."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    code = (
        "import sys\nfrom pipeline import fetch, split\nfor stage in (fetch, split): stage.main()\n"
        "sys.exit(str({'torch', 'timm'} & set(sys.modules)) if {'torch', 'timm'} & set(sys.modules) else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_logged_model_needs_no_more_than_its_requirements_say() -> None:
    """`pipeline.serving` loads where neither DVC nor what only tracking needs is installed."""
    from pipeline.tracking import SERVING

    blocked = ("dvc", "filelock", "mlflow", "psutil", "pydantic", "ruamel", "sklearn", "matplotlib", "tqdm")
    assert not set(blocked) & set(SERVING)
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import pipeline.serving"
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
    page = table.removesuffix(TABLE) + "README.md"
    committed = repo.export(tmp_path, table, page)
    assert (committed / table).read_text().strip() in (committed / page).read_text()


def test_the_files_that_go_first_are_there() -> None:
    assert set(conftest.SLOWEST) <= {path.stem for path in ROOT.glob("tests/**/*.py")}


def test_tests_look_at_the_results_that_are_committed() -> None:
    """`repo.export` and `repo.studies`: what somebody ran in the working tree, or copied there, is of no account."""
    own = re.compile(r"""ROO[T]\b[^\n]*(\breports/|\breports"|dvc\.lock|/data/|/models/|glob\("studies)""")
    found = [f"{path.name}: {line}" for path in ROOT.glob("tests/**/*.py") for line in own.findall(path.read_text())]
    assert found == []


def test_every_section_of_the_report_is_a_template_and_the_other_way_round() -> None:
    from pipeline.page import SECTIONS

    files = {path.stem for path in ROOT.glob("pipeline/templates/sections/*.html")}
    assert set(SECTIONS) | {"looks"} == files  # looks is part of images
