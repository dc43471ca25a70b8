"""A pack's `__main__.py`: lays the package out beside the pack, and calls it."""

import hashlib
import importlib.util
import sys
import time
import zipfile
from pathlib import Path

NEEDED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "numpy": "numpy",
    "pandas": "pandas",
    "scikit-learn": "sklearn",
    "safetensors": "safetensors",
    "Pillow": "PIL",
}


def start() -> None:
    started, pack = time.time(), Path(sys.argv[0]).resolve()
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit(f"versus: Python 3.11 or newer is needed, got {sys.version.split()[0]}")
    missing = [name for name, module in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        sys.exit(f"versus: not installed here: {', '.join(missing)}; python -m pip install {' '.join(missing)}")
    folder = Path.cwd() / f"{pack.stem}.run"
    lay_out(pack, folder)
    sys.path.insert(0, str(folder / "package"))
    sys.dont_write_bytecode = True
    from pipeline.anywhere.app import main

    main(pack, folder, started)


def lay_out(pack: Path, folder: Path) -> None:
    """Write the package to `folder`, which is this pack's alone."""
    with zipfile.ZipFile(pack) as archive:
        name, mark = hashlib.sha256(archive.read("pack.json")).hexdigest(), folder / "pack"
        if folder.exists() and (not mark.exists() or mark.read_text() != name):
            sys.exit(f"versus: {folder} is not of this pack; move it away, or start in another folder")
        folder.mkdir(exist_ok=True)
        mark.write_text(name)
        for entry in archive.namelist():
            if entry.startswith("package/"):
                archive.extract(entry, folder)


if __name__ == "__main__":
    start()
