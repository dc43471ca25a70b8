"""source: what decides a result and lies where DVC cannot see it.

Files outside the study can be no dependencies of DVC's that hold on another machine, so that this stage looks at them
at every `dvc repro`. It leaves what other stages depend on instead: `reports/source.json`, which git keeps, of the
images that fetch is to read, in data/weights a file for each model, of the weights that it starts from, in data/code a
file for each stage, of the code that it rests on, and in data/study the name that the report gives, the margin of its
verdicts, which params.yaml need not have, what the study registered, and how often other settings looked at its test
images since. What is asked of corrupted images lies in
reports/corruptions/panel.json, so that the folder is always there. Where something is not on this machine, what
was read before stands.
"""

import filecmp
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import datasets
from pipeline.base import code
from pipeline.base.errors import StageError
from pipeline.base.files import write_json, written_whole
from pipeline.base.places import PIPELINE, RAW, REPORT, find, study
from pipeline.base.process import run
from pipeline.datasets import content
from pipeline.datasets import source as sources
from pipeline.params.read import load_params
from pipeline.params.study import Params
from pipeline.records import corruptions, looks, registration
from pipeline.records.dataset import Dataset
from pipeline.records.looks import Look

RECORD, WEIGHTS, STUDY = Path("reports/source.json"), Path("data/weights"), Path("data/study")
OWN = "source"  # of dataset.attributes: those that the data set comes with


def main() -> None:
    refuse_another_pipeline(Path.cwd())
    settings = load_params()
    name, source = settings.dataset.name, settings.dataset.source
    record = {"dataset": name, "source": source, "sha256": settled(name, source), **tabled(settings.dataset.attributes)}
    if record != recorded():
        with written_whole(RECORD) as partial:
            write_json(partial, record)
    lines = {model: weights(model, each.pretrained) for model, each in settings.models.items()}
    if lines != weights_recorded():
        with written_whole(WEIGHTS) as partial:
            partial.mkdir()
            for model, line in lines.items():
                (partial / model).write_text(line, encoding="utf-8")
    code.write()
    with written_whole(STUDY) as partial:
        partial.write_text(shown(settings), encoding="utf-8")
    with written_whole(corruptions.PANEL) as partial:
        wanted = settings.corruptions
        corruptions.Panel(list(wanted.replicates), list(wanted.severities), wanted.seed).write(partial)
    print(f"source: {name} {source or 'from its official source'}, SHA-256 {record['sha256'][:12]}")


def refuse_another_pipeline(folder: Path) -> None:
    """Raise StageError where a study's copy of the pipeline is not the root's, as after an update of the checkout."""
    root = folder.parents[1] if folder.parent.name == "studies" else folder
    for name in PIPELINE:
        theirs, own = root / name, folder / name
        if theirs.exists() and own.exists() and not filecmp.cmp(theirs, own, shallow=False):
            raise StageError(
                f"{name} is not the root's: `cp ../../{name} .` takes that; stages of one's own belong into the root's,"
                " and `versus schema` into every study (docs/extending.md)"
            )


def shown(settings: Params) -> str:
    """What the report alone rests on: the study's name, and a margin and a registration where there are."""
    margin, registered = settings.verdict.margin, registration.present()
    looked = looked_since(settings)
    lines = [study(), *([f"margin {margin}"] * bool(margin)), *([f"registration {registered}"] * bool(registered))]
    lines += [f"since {len(looked)} looks by {looks.different(looked)} settings"] * bool(looked)
    return "".join(f"{line}\n" for line in lines)


def looked_since(settings: Params) -> list[Look]:
    """Looks of other settings at the test images since those of params.yaml were last scored, which the report tells.

    Without them here, a study that returns to earlier settings, after an experiment, would be given its old report. Of
    a model that trials tune it is not known what they chose; looks of other studies are no clone's, whose report is the
    same.
    """
    try:
        every = looks.at(Dataset.read(REPORT)) if REPORT.exists() else []
    except StageError:
        return []  # split makes it anew, or report says what is wrong with it
    digests = weights_recorded()
    tuned = {name for name in settings.models if settings.tuned(name)}
    asked = {looks.asked(settings, name, digests.get(name, "")) for name in settings.models.keys() - tuned}
    own = [look for look in every if look.study == study() and look.model not in tuned]
    shown = [look.when for look in own if look.settings in asked and look.kind == "evaluation"]
    return looks.since(own, asked, max(shown)) if shown else []


def settled(name: str, source: str) -> str:
    """SHA-256 of what fetch is to read; where that is not on this machine, of what it read before.

    What can be downloaded, is, unless its images are here already. Raises StageError where nothing is to be had.
    """
    if found := present(name, source):
        return found
    about, known = datasets.about(name), recorded()
    public = not source and bool(about.official)
    if (known.get("dataset"), known.get("source")) == (name, source) and (
        RAW.exists() or not (public or sources.is_url(source))
    ):
        where = source or "the archive that it was read from"
        print(f"source: {where} is not on this machine; what was read before stands ({RECORD})")
        return str(known["sha256"])
    if public:
        return published(name)
    return content.digest(sources.given(name, about, source))


def tabled(path: str) -> Mapping[str, str]:
    """What is recorded of the table of attributes, if one is named; what was read before, where it is not here."""
    if not path:
        return {}
    if path == OWN:
        return {"attributes": path}
    known = recorded()
    if find(path) is None and known.get("attributes") == path:
        print(f"source: {path} is not on this machine; what was read before stands ({RECORD})")
        return {key: str(known[key]) for key in ("attributes", "attributes_sha256")}
    return {"attributes": path, "attributes_sha256": content.digest(the_table(path))}


def the_table(path: str) -> Path:
    """The table of attributes that params.yaml names; raises StageError where it is not there, or no file."""
    if (found := find(path)) and found.is_file():  # a pipe may have no end
        return found
    fault = "not a file" if found else "not found"
    raise StageError(f"dataset.attributes: {path!r}: {fault}; give a CSV file that exists, or leave it out")


def present(name: str, source: str) -> str | None:
    """SHA-256 of what fetch would read as things are on this machine; None if it would have to download or to fail."""
    if datasets.about(name).embedded:
        return published(name)
    path = sources.on_hand(name, source)
    if path is not None:
        return content.digest(path)
    return published(name) if not source and sources.downloaded(name, datasets.about(name)) else None


def published(name: str) -> str:
    """What stands for the official files: their checksums, which fetch compares; of a library's images, their name."""
    files = [(file.filename, file.sha256 or file.md5) for file in datasets.about(name).official]
    return hashlib.sha256(json.dumps([name, files]).encode()).hexdigest()


def recorded() -> Mapping[str, Any]:
    """What this stage found last; empty if it has not run."""
    try:
        found = json.loads(RECORD.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("sha256"), str) else {}


def confirm(name: str, source: str, table: str) -> None:
    """Raise StageError unless the source is as this stage found it, on whose word DVC reuses what fetch leaves.

    So must the table of attributes be, where one is named.
    """
    if not (known := recorded()):
        return
    found = {"sha256": present(name, source), **tabled(table)}
    changed = next((key for key, value in found.items() if known.get(key) != value), None)
    if changed:
        place = table if changed != "sha256" else source or "the official source"
        raise StageError(
            f"{name}: {place} is not what {RECORD} says: its files have changed since the stage source looked at them,"
            " or are others on this machine; run `dvc repro` again"
        )


def weights(model: str, pretrained: object) -> str:
    """A line on the file that a model starts from: its path as given, and its SHA-256."""
    if not isinstance(pretrained, str):
        return "none\n"  # or {path, sha256}: params.yaml names it
    if path := find(pretrained):
        return f"{content.digest(path)}  {pretrained}\n"
    before = weights_recorded().get(model, "")
    return before if before.endswith(f"  {pretrained}\n") else f"missing  {pretrained}\n"


def weights_recorded() -> dict[str, str]:
    """The lines of the models when this stage ran last."""
    return {path.name: path.read_text(encoding="utf-8") for path in WEIGHTS.glob("*")} if WEIGHTS.is_dir() else {}


if __name__ == "__main__":
    run(main)
