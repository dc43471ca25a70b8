"""dvc.yaml's lists of code: each stage depends on every module that can change its result, found from its imports.

The root's dvc.yaml is every study's; only `root` differs and, with folds, which of them a stage reads. `versus schema`
writes all of them.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.stage import whole

ROOT = Path(__file__).parent.parent
# Modules that change no result: params and registry only refuse (values are DVC's params), resume gives back what a
# killed training had, stage writes and fails, tracking logs, source and content find what fetch depends on by itself.
NEUTRAL = ("content", "params", "registry", "resume", "source", "stage", "tracking")
BY_NAME = ("augment", "datasets", "losses", "networks", "optim")  # who needs one of a folder may load any other by name
FOLDS = {  # stage -> the fold it reads: a training its own, what looks at one the first
    "train": "${item.replicate}",
    "evaluate": "${item.replicate}",
    "doctor": "0",
    "preview": "0",
    "latency": "0",
}


def write() -> None:
    """Write the root's dvc.yaml and every study's."""
    text = listed((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    for path, wanted in [(ROOT, text), *((study, for_study(text, study)) for study in studies())]:
        if (path / "dvc.yaml").read_text(encoding="utf-8") != wanted:
            with whole(path / "dvc.yaml") as partial:
                partial.write_text(wanted, encoding="utf-8")


def studies() -> list[Path]:
    """The folders of studies that are projects of DVC's, the root apart."""
    return sorted(path.parent for path in ROOT.glob("studies/*/dvc.yaml"))


def listed(text: str) -> str:
    """dvc.yaml with the code that each stage needs, in place of what it names."""
    return "".join(_listed(stage) for stage in _stages(text))


def _listed(stage: str) -> str:
    name = stage.split(":")[0].strip()
    kept = re.sub(r"(?m)^      - \$\{root\}/pipeline/.*\n", "", stage)
    if kept == stage:
        return stage
    lines = "".join(f"      - ${{root}}/{path}\n" for path in needed(name))
    return kept.replace("    deps:\n", f"    deps:\n{lines}", 1)


def for_study(text: str, study: Path) -> str:
    """The root's dvc.yaml as a study has it."""
    text = text.replace("  - root: .\n", "  - root: ../..\n")
    settings = YAML(typ="safe").load((study / "params.yaml").read_text(encoding="utf-8"))
    return with_folds(text) if settings["split"].get("folds") else text


def with_folds(text: str) -> str:
    """dvc.yaml for cross-validation."""
    found = []
    for stage in _stages(text):
        fold = FOLDS.get(stage.split(":")[0].strip())
        found.append(re.sub(r"(?m)^      - (data/fit|data/test)\b", rf"      - \1/{fold}", stage) if fold else stage)
    return "".join(found)


def _stages(text: str) -> list[str]:
    return re.split(r"(?m)^(?=  \w+:$)", text)


def needed(stage: str) -> list[str]:
    """The files, from the root, that can change what a stage leaves."""
    paths = {_source(name) for name in imported(stage)}
    if stage == "check":  # all that it does is to refuse
        paths |= {_source(name) for name in ("params", "registry", "optim.schedule")}
    if stage == "report":  # made of templates, read by name; one is a command's
        paths |= {path for path in ROOT.glob("pipeline/templates/**/*") if path.is_file()}
        paths.remove(ROOT / "pipeline/templates/ablation.html")
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


def imported(module: str) -> set[str]:
    """Modules that one imports, as dotted names below `pipeline`: itself, its imports' imports, what they may load."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name not in seen and name not in NEUTRAL:
            seen.add(name)
            todo += _imports(_source(name))
            folder = name.split(".")[0]
            if folder in BY_NAME:
                others = (ROOT / "pipeline" / folder).glob("*.py")
                todo += [f"{folder}.{path.stem}" for path in others if path.stem != "__init__"]
    return seen


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
            base = node.module.removeprefix("pipeline").lstrip(".")
            names = [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)]
            yield from (name for name in names if name and _source(name).is_file())


def _source(name: str) -> Path:
    path = ROOT / "pipeline" / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
