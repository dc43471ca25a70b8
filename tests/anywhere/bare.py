"""A Python in which little is installed: what a pack says that it needs, and what that brings."""

import importlib.metadata
import subprocess
import venv
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

from pipeline.anywhere.start import NEEDED

LACKING = ("dvc", "matplotlib", "mlflow", "psutil", "pyarrow", "pydantic", "ruamel", "seaborn")


def python(folder: Path) -> Path:
    """The Python of a new virtual environment, whose packages are links to this one's."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for distribution in required(NEEDED).values():
        for name in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            if not (site / name).exists():  # of a namespace, the first that has it brings all
                (site / name).symlink_to(distribution.locate_file(name))
    found = folder / "bin/python"
    looked = f"import importlib.util; print([name for name in {LACKING} if importlib.util.find_spec(name)])"
    assert subprocess.check_output([found, "-c", looked], env={}, text=True) == "[]\n"
    return found


def required(names: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """The distributions of these names and those that they require, by name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    asked, seen = [Requirement(name) for name in names], set()
    while asked:
        wanted = asked.pop()
        if (key := (wanted.name, frozenset(wanted.extras))) in seen:
            continue
        seen.add(key)
        found[wanted.name] = distribution = importlib.metadata.distribution(wanted.name)
        extras = [{"extra": extra} for extra in ("", *wanted.extras)]
        requires = map(Requirement, distribution.requires or ())
        asked += [each for each in requires if each.marker is None or any(map(each.marker.evaluate, extras))]
    return found
