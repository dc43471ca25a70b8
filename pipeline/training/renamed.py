"""A training that was done under another name: a model that was renamed in params.yaml is not trained again.

A model's name decides nothing of its training, but DVC has it in the names of stages and of what they leave, and the
training's fingerprint has it too. What an earlier name left is taken where its fingerprint is that of this training
but for the name: same settings, images, code, libraries and kind of device.
"""

import dataclasses
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.base.errors import StageError
from pipeline.base.files import write_json, written_whole
from pipeline.records.diary import Diary


@dataclasses.dataclass(frozen=True)
class Earlier:
    """What the same training left under another name."""

    folder: Path
    history: Path
    diary: Diary


def found(folders: Iterable[Path], replicate: int, key_of: Callable[[str], str]) -> Earlier | None:
    """What is in one of `folders`, such as models/cnn-0, if it is of this replicate and the same training.

    `key_of` gives the fingerprint that this training has under the name of another model.
    """
    for folder in folders:
        model, _, number = folder.name.rpartition("-")
        history = folder.parents[1] / f"reports/histories/{folder.name}.csv"
        if number != str(replicate) or not (folder / "weights.safetensors").exists() or not history.exists():
            continue
        try:
            diary = Diary.read(folder)
        except StageError:  # of an earlier version
            continue
        if diary.key == key_of(model):
            return Earlier(folder, history, diary)
    return None


def take(earlier: Earlier, folder: Path, history: Path, config: object, diary: Diary) -> None:
    """Copy what the earlier training left to where this one's belongs; its settings and its diary are this one's."""
    with written_whole(history) as partial:
        shutil.copyfile(earlier.history, partial)
    with written_whole(folder) as partial:
        partial.mkdir()
        for path in earlier.folder.iterdir():
            copied = shutil.copytree if path.is_dir() else shutil.copyfile  # not the rights: DVC protects its files
            copied(path, partial / path.name)
        write_json(partial / "config.json", config)
        diary.write(partial)
