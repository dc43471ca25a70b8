"""Starting: seconds until a stage reaches its work, against a Python that imports the same libraries and does no more.

What a stage must import is what the import statements of the project's modules name that it has loaded by then.
"""

import ast
import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.bench import Row, Worker, compare, few, seconds

ROOT = Path(__file__).parent.parent
WORK = {  # stage -> where its work begins, its arguments
    "check": ("pipeline.stages.check", "load_params", []),
    "fetch": ("pipeline.datasets", "opened", []),
    "split": ("pipeline.stages.split:Raw", "open", []),
    "report": ("pipeline.report.results", "read", []),
    "train": ("pipeline.training.fit", "Trainer", ["tiny", "0"]),
}
REACH = """
import importlib, json, os, pkgutil, sys
from pathlib import Path
stage, place, name, found, *sys.argv[1:] = sys.argv[1:]
module = importlib.import_module(f"pipeline.stages.{stage}")
def reached(*_, **__):
    if found:
        Path(found).write_text(json.dumps(list(sys.modules)))
    os._exit(0)
setattr(pkgutil.resolve_name(place), name, reached)
from pipeline.base.process import run
run(module.main)
"""


def prepare(folder: str) -> None:
    """A study of digits with one small network, fetched and split."""
    os.chdir(folder)
    settings = YAML(typ="safe").load(ROOT / "params.yaml")
    settings["models"] = {"tiny": {"family": "tiny", "layers": ["conv 8, pool, conv 16"]}}
    YAML().dump(settings, Path("params.yaml"))
    from pipeline.stages import fetch, split

    with contextlib.redirect_stdout(io.StringIO()):
        fetch.main()
        split.main()


def preparer() -> object:
    return prepare


def imports(loaded: set[str]) -> list[str]:
    """The import statements, for what others wrote, of the project's loaded modules: those that were executed by then.

    One inside a function counts if its module is loaded, without the names that it takes.
    """
    found: set[str] = set()
    for name in sorted(name for name in loaded if name.split(".")[0] == "pipeline"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {f"import {alias.name}" for alias in node.names if alias.name in loaded}
            elif isinstance(node, ast.ImportFrom) and node.module in loaded:
                found.add(ast.unparse(node) if node in tree.body else f"import {node.module}")
    return sorted(line for line in found if line.split()[1].split(".")[0] != "pipeline")


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "VERSUS_HOME": folder}
        with Worker(preparer, **environment) as worker:
            worker(folder)
        environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}

        def python(code: str, *arguments: str) -> float:
            command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
            return seconds(lambda: subprocess.run(command, cwd=folder, env=environment, check=True))

        for stage in few(WORK, WORK.keys() - {"report", "train"}):  # which take seconds each time
            place, name, arguments = WORK[stage]
            told = Path(folder) / "modules.json"
            python(REACH, stage, place, name, str(told), *arguments)
            needed = "\n".join(imports(set(json.loads(told.read_text(encoding="utf-8")))))
            yield compare(
                f"start of {stage} against its imports",
                "s",
                lambda call=(stage, place, name, "", *arguments): python(REACH, *call),
                lambda needed=needed: python(needed),
                "<= 1.2",
            )
