"""Which code a stage's result rests on, found from imports, as digests that comments and docstrings do not change.

The stage `source` writes data/code/<stage> for every module below stages/: a line for each module that it can come to
import, with the SHA-256 of what that does. dvc.yaml names these files, so that a stage runs again when a statement that
it may reach changes, and only then; a new module is covered once something imports it.
"""

import ast
import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.base.files import write_json, written_whole
from pipeline.base.places import state_folder

PACKAGE = Path(__file__).resolve().parents[1]
CODE = Path("data/code")
# What changes no result: these write and fail, params only refuses (its values are parameters of DVC's), tracking logs,
# resume gives back what a killed training had.
NEUTRAL = (
    *("base.code", "base.errors", "base.files", "base.git", "base.handover", "base.places", "base.process"),
    *("params", "tracking", "training.resume"),
)
# Folders whose modules are loaded by name: what imports one of them may load any other.
BY_NAME = ("datasets", "images.augment", "networks", "report.sections", "training.losses", "training.optim")
# Files that are no modules, and which module reads them.
READ_BY = {
    "images.resample": ("images/resample.c",),
    "report.ablation": ("report/ablation.html",),
    "report.cards": ("report/card.md",),
    "training.fused": ("training/fused.cpp",),
    "report.page": ("report/templates/*", "report/sections/*.html"),
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def write(folder: Path = CODE, package: Path = PACKAGE) -> None:
    """Bring the file of each stage up to date in `folder`; one that stays as it is is not touched."""
    code = Code(package)
    stages = sorted(name.removeprefix("stages.") for name in code.modules if name.startswith("stages."))
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in stages:
            path.unlink()
    for name in stages:
        path, text = folder / name, code.described(name)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.unlink(missing_ok=True)  # it may be a link into DVC's cache
            path.write_text(text, encoding="utf-8")
    code.remember()


def described(stage: str) -> str:
    """The code of one stage, as `write` has it."""
    return Code(PACKAGE).described(stage)


class Code:
    """The modules of a package by their dotted names below it: `training.step`; a folder's own by the folder's.

    What a file's bytes come to is remembered in the checkout's `.versus`, for parsing all modules takes half a second.
    """

    def __init__(self, package: Path) -> None:
        self.package = package
        paths = sorted(path for path in package.rglob("*.py"))
        self.modules = {_dotted(path.relative_to(package)): path for path in paths}
        self.memory = state_folder() / "code.json"
        self.known: dict[str, Any] = _read(self.memory)
        self.seen: dict[str, Any] = {}

    def described(self, stage: str) -> str:
        """A line for each file that can change what a stage leaves: its digest, and its path below the package."""
        needed = self.imported(f"stages.{stage}")
        paths = {self.modules[name] for name in needed}
        paths |= {path for name in needed for pattern in READ_BY.get(name, ()) for path in self.package.glob(pattern)}
        lines = {path.relative_to(self.package).as_posix(): self.facts(path)["digest"] for path in paths}
        nothing = digest("__init__.py", b"")
        return "".join(f"{found}  {place}\n" for place, found in sorted(lines.items()) if found != nothing)

    def imported(self, name: str) -> set[str]:
        """A module and all that it can come to import, but for what changes no result."""
        found: set[str] = set()
        todo = [name]
        while todo:
            name = todo.pop()
            if name in found or any(f"{name}.".startswith(f"{part}.") for part in NEUTRAL):
                continue
            found.add(name)
            todo += self.imports(name)
            todo += [other for other in self.modules if other.rpartition(".")[0] in BY_NAME and _together(name, other)]
        return found

    def imports(self, name: str) -> list[str]:
        """The modules that one imports, late imports too, and the packages that they lie in."""
        named = self.facts(self.modules[name])["imports"]
        parts = [each.split(".") for each in named]
        above = {".".join(each[:count]) for each in parts for count in range(1, len(each) + 1)}
        return sorted(above & set(self.modules))

    def facts(self, path: Path) -> dict[str, Any]:
        """What a file does, as a digest, and what of the project it may import."""
        content = path.read_bytes()
        key = f"{hashlib.sha256(content).hexdigest()}{path.suffix}"
        if key not in self.seen:
            self.seen[key] = self.known.get(key) or {
                "digest": digest(path.name, content),
                "imports": imported_names(content) if path.suffix == ".py" else [],
            }
        return self.seen[key]

    def remember(self) -> None:
        if self.seen != self.known:
            with contextlib.suppress(OSError), written_whole(self.memory) as partial:  # a checkout may be read-only
                write_json(partial, self.seen)


def digest(name: str, content: bytes) -> str:
    """SHA-256 of a module's statements, or of another file's bytes."""
    return hashlib.sha256(statements(content) if name.endswith(".py") else content).hexdigest()


def statements(source: bytes) -> bytes:
    """A module's statements in a form that comments, docstrings, layout and Python's version do not change."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return json.dumps(_form(tree), separators=(",", ":")).encode()


def imported_names(source: bytes) -> list[str]:
    """Dotted names below `pipeline` that a module's import statements may mean, of modules or of what is in them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
            base = node.module.removeprefix("pipeline").lstrip(".")
            found |= {base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("pipeline.") for alias in node.names if alias.name.startswith("pipeline.")
            }
    return sorted(found - {""})


def _form(part: object) -> object:
    """A node of the parsed code as lists and text; fields that are empty are left out, for later Pythons add some."""
    if isinstance(part, ast.AST):
        fields = [[name, _form(value)] for name, value in ast.iter_fields(part) if value not in (None, [])]
        return [type(part).__name__, *fields]
    if isinstance(part, list):
        return [_form(each) for each in part]
    return repr(part)


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _together(name: str, other: str) -> bool:
    """Whether two modules lie in one folder, or one is the folder's own."""
    return other.rpartition(".")[0] in (name, name.rpartition(".")[0])


def _read(memory: Path) -> dict[str, Any]:
    try:
        found = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
