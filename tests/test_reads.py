"""No stage reads a setting or a file of the study that dvc.yaml does not name: DVC would take old results for new."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests import small_study, trees

SECTIONS = ("dataset", "split", "augment", "train", "evaluate", "corruptions", "launch")
MODELS = {name: small_study.MODELS[name] for name in ("tiny", "vit")}
NOTED: list[set[str]] = []  # of files, by an audit hook, which cannot be taken away again


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if NOTED and event == "open" and isinstance(arguments[0], str | os.PathLike):
        path, _, flags = arguments
        if not flags & (os.O_WRONLY | os.O_RDWR) and os.path.isfile(path):
            NOTED[-1].add(os.path.abspath(path))


class Names(dict):  # type: ignore[type-arg]
    """Models by name, which notes that somebody asks which there are."""

    read: set[str]

    def __iter__(self) -> Iterator[str]:
        self.read.add("models")
        return super().__iter__()

    def items(self) -> Any:
        self.read.add("models")
        return super().items()


@contextlib.contextmanager
def noting() -> Iterator[tuple[set[str], set[str]]]:
    """Dotted keys of params.yaml and paths of files that are read within the block."""
    from pipeline.params.read import load_params
    from pipeline.params.settings import Frozen
    from pipeline.params.study import Params

    settings: set[str] = set()
    files: set[str] = set()
    load, plain = load_params, Frozen.__getattribute__
    owners: dict[int, str] = {}  # part of the loaded params.yaml -> its dotted key

    def noting_load() -> Params:
        owners.clear()
        found = load()
        fields = found.__dict__
        owners.update({id(fields[name]): name for name in SECTIONS} | {id(found): ""})
        owners.update({id(model): f"models.{name}" for name, model in found.models.items()})
        fields["models"] = names = Names(found.models)
        names.read = settings
        return found

    def noting_attribute(self: Any, name: str) -> Any:
        if (owner := owners.get(id(self))) is not None:
            if name == "model_dump":
                settings.add(owner)
            elif name in type(self).model_fields and (owner or name not in (*SECTIONS, "models")):
                settings.add(owner if owner.startswith("models.") else f"{owner}.{name}".lstrip("."))
        return plain(self, name)

    with pytest.MonkeyPatch.context() as patch:
        for module in [each for name, each in sys.modules.items() if name.startswith("pipeline.")]:
            if getattr(module, "load_params", None) is load:
                patch.setattr(module, "load_params", noting_load)
        patch.setattr(Frozen, "__getattribute__", noting_attribute, raising=False)
        NOTED.append(files)
        try:
            yield settings, files
        finally:
            NOTED.pop()


Read = dict[str, tuple[set[str], set[str]]]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """What each stage read, of settings and of files, in a study that all of them went through."""
    from pipeline.stages import (
        check,
        doctor,
        explain,
        fetch,
        labels,
        latency,
        predictions,
        preview,
        report,
        source,
        split,
    )
    from pipeline.stages.corrupt import corrupt
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.train import train
    from pipeline.tracking import runs

    folder = tmp_path_factory.mktemp("study")
    images = trees.class_tree(folder / "images", {"": {"cat": 20, "dog": 30}}, (16, 16))
    settings = {"dataset.name": "folder", "dataset.source": "images", "replicates": [0], "train.epochs": 1}
    settings["dataset.attributes"] = "known.csv"
    trees.put(folder / "known.csv", b"image,light\n" + b"".join(b"cat/%04d.png,day\n" % n for n in range(20)))
    settings["corruptions"] = {"replicates": [0], "severities": [5]}
    small_study.write(folder, {**settings, "published": []}, MODELS)
    stages: dict[str, Callable[[], None]] = {
        **{each.__name__.split(".")[-1]: each.main for each in (check, source, fetch, split, doctor, preview, latency)},
        **{f"train@{name}-0": lambda name=name: train(name, 0) for name in MODELS},
        **{f"evaluate@{name}-0": lambda name=name: evaluate(f"{name}-0") for name in MODELS},
        **{f"corrupt@{name}-0": lambda name=name: corrupt(f"{name}-0") for name in MODELS},
        **{each.__name__.split(".")[-1]: each.main for each in (predictions, labels, explain, report)},
    }
    sys.addaudithook(_note)
    found: Read = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for opened in ("data_run", "training_run", "evaluation_run", "report_run"):
            patch.setattr(runs, opened, lambda *_: contextlib.nullcontext(small_study.Untracked()))
        for name, stage in stages.items():
            with noting() as (keys, files):
                stage()
            own = {os.path.relpath(file, folder) for file in files if Path(file).is_relative_to(folder)}
            state = {file for file in own if ".part" in file or file.split("/")[0] == ".versus"}
            found[name] = keys, own - state
    assert images.is_dir()
    return found


def declared(stage: str) -> dict[str, Any]:
    """The stage as dvc.yaml has it, for one model and replicate if it is of a matrix."""
    stages = YAML(typ="safe").load((trees.ROOT / "dvc.yaml").read_text())["stages"]
    name, _, item = stage.partition("@")
    model, _, replicate = item.partition("-")
    names = {"${item.model}": model, "${item.replicate}": replicate, "${replicates[0]}": "0"}

    def filled(entry: Any) -> str:
        text = entry if isinstance(entry, str) else next(iter(entry))
        for key, value in names.items():
            text = text.replace(key, value)
        return text

    return {
        kind: [filled(entry) for entry in stages[name].get(kind, [])]
        for kind in ("deps", "params", "outs", "metrics", "plots")
    }


def within(path: str, places: list[str], between: str) -> bool:
    return any(path == place or path.startswith(f"{place}{between}") for place in places)


HARMLESS = {  # settings without which a stage leaves the same
    "fetch": {"dataset.attributes"},  # of which source.json says which table it names, if any
    "split": {"dataset.source"},  # MLflow is told where images came from
    "train@tiny-0": {"dataset.source", "tune"},  # what was chosen is a file
    "doctor": {"replicates"},  # of the first, whose images dvc.yaml names
    "preview": {"replicates"},
    "latency": {"replicates", "train", "tune"},  # a margin, which changes the classifiers' time by too little
    # Whether evaluations are of these, which change when they do; the margin of verdicts is in data/study.
    "report": {"augment", "train", "verdict"},
}
SPOKEN_FOR = {  # files of which something else says what they hold
    "fetch": ["images", "known.csv"],  # the stage source looks at them every time
    "explain": ["models"],  # evaluations have the SHA-256 of the weights
    "labels": ["models"],
}
STAGES = (
    *("fetch", "split", "doctor", "preview", "latency", "train@tiny-0"),
    *("evaluate@vit-0", "corrupt@vit-0", "predictions", "labels", "explain", "report"),
)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_setting_that_it_reads(read: Read, stage: str) -> None:
    missing = {key for key in read[stage][0] if not within(key, declared(stage)["params"], ".")}
    assert missing == HARMLESS.get(stage, set())


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_file_that_it_reads(read: Read, stage: str) -> None:
    names = declared(stage)
    places = [*names["deps"], *names["outs"], *names["metrics"], *names["plots"], "params.yaml"]
    places += SPOKEN_FOR.get(stage, [])
    assert sorted(file for file in read[stage][1] if not within(file, places, "/")) == []


def test_the_stages_do_read_what_is_looked_for(read: Read) -> None:
    """So that the tests above cannot pass by seeing nothing."""
    assert {"dataset.name", "dataset.source"} <= read["fetch"][0]
    assert {"train", "models.tiny"} <= read["train@tiny-0"][0]
    assert "models.vit" not in read["train@tiny-0"][0]
    assert "data/fit/0/train_images.npy" in read["train@tiny-0"][1]
    assert "images/cat/0001.png" in read["fetch"][1]
    assert "reports/source.json" in read["fetch"][1]
