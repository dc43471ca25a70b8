"""The record of every look at test images: which trained network was scored on them, when, from which commit.

A look is one network scored on one set of test images; the same network again tells nothing new and is no second look,
unless it is scored in another of the KINDS.
`.versus/looks.jsonl` of the user's own checkout gets a line at every evaluation, in an experiment's copy or a clone of
`versus launch` too; report writes a study's own into its reports/looks.jsonl, for git, which joins the lines of two
branches (.gitattributes). Nothing is ever taken out.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from pipeline.base.errors import StageError
from pipeline.base.files import written_whole
from pipeline.base.places import checkout, state_folder
from pipeline.params.defaults import without_defaults
from pipeline.params.settings import FAMILIES, OF_THE_MACHINE, Augment, Train, Weights
from pipeline.params.study import Params
from pipeline.records.dataset import Dataset

COMMITTED = Path("reports/looks.jsonl")
DIGITS = 16  # of a SHA-256 that are kept
Kind = Literal["evaluation", "corruptions", "epochs", "probe"]
KINDS: dict[Kind, str] = {  # how the test images were scored
    "evaluation": "as they are",
    "corruptions": "corrupted",
    "epochs": "after every epoch",
    "probe": "by a probe",
}


@dataclass(frozen=True, order=True)
class Look:
    """One trained network, scored on test images for the first time."""

    when: str  # ISO 8601, UTC
    images: str  # SHA-256 of the test images, to DIGITS digits as all of these
    weights: str
    settings: str  # of what determined the training, but for its images and its seed
    trained_on: str  # training and validation images
    study: str
    model: str
    replicate: int
    commit: str = ""  # of the code that scored it; empty where that is not known
    experiment: str = ""  # DVC's
    registered: str = ""  # the registration that was committed by then
    kind: Kind = "evaluation"

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from another look."""
        return (self.images, self.weights, self.kind)

    def line(self) -> str:
        """It as JSON; an evaluation, as all were in earlier versions, names no kind."""
        content = dataclasses.asdict(self)
        if self.kind == "evaluation":
            del content["kind"]
        return json.dumps(content, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Earlier:
    """The looks before those that a report shows, and those of other settings since."""

    shown: Sequence[Look]
    looks: Sequence[Look]
    since: Sequence[Look] = ()

    @property
    def settings(self) -> int:
        """How many settings they were of."""
        return different(self.looks)

    @property
    def other_settings(self) -> int:
        """How many of these are not reported."""
        return different([*self.looks, *self.shown]) - different(self.shown)


def short(digest: str) -> str:
    return digest[:DIGITS]


def of_data_set(name: str) -> str:
    """What stands for the test images of a data set where they were scored as they come, not as split packs them."""
    return short(hashlib.sha256(f"test images of {name}".encode()).hexdigest())


def settings_digest(config: Mapping[str, Any]) -> str:
    """What determined a training, as an evaluation has it, but for images, machine and seed.

    What is as it is by default counts no more than what a version did not know yet.
    """
    train = {key: value for key, value in config["train"].items() if key not in OF_THE_MACHINE}
    model = FAMILIES.get(config["model"].get("family"), BaseModel)
    decided = {
        "train": without_defaults(Train, train),
        "augment": without_defaults(Augment, config["augment"]),
        "model": without_defaults(model, config["model"]),
        "image_size": config["dataset"].get("image_size"),
    }
    return short(hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest())


def asked(study: Params, name: str, sha256: str = "") -> str:
    """The `settings_digest` that evaluations of model `name` will have by params.yaml, where no trials choose.

    `sha256` is that of the file of weights that it starts from, where it is named by its path.
    """
    model, network = study.models[name], study.network(name)
    network["train_fraction"] = model.train_fraction
    if isinstance(model.pretrained, Weights):
        network["pretrained"] = f"{Path(model.pretrained.path).name} ({model.pretrained.sha256[:12]})"
    elif isinstance(model.pretrained, str):
        network["pretrained"] = f"{Path(model.pretrained).name} ({sha256[:12]})"
    return settings_digest(
        {
            "dataset": {"image_size": study.dataset.image_size},
            "augment": study.model_augment(name).model_dump(),
            "train": study.model_train(name).plain(),
            "model": network,
        }
    )


def different(looks: Iterable[Look]) -> int:
    """How many settings looks are of; one model's replicates are one, also where each has images of its own.

    The same settings on other training images are others: so many as one replicate was trained on.
    """
    found: dict[str, dict[int, set[str]]] = {}
    for look in looks:
        found.setdefault(look.settings, {}).setdefault(look.replicate, set()).add(look.trained_on)
    return sum(max(map(len, replicates.values())) for replicates in found.values())


def trained(looks: Iterable[Look]) -> set[str]:
    """The trained networks that looks are of, each once, by their weights; what is probed is not trained yet."""
    return {look.weights for look in looks if look.kind != "probe"}


def kinds(looks: Iterable[Look]) -> str:
    """(9 as they are, 2 corrupted): how many were of each kind; empty where all are evaluations."""
    counts = Counter(look.kind for look in looks)
    told = ", ".join(f"{counts[kind]:,} {words}" for kind, words in KINDS.items() if counts[kind])
    return f" ({told})" if counts.keys() - {"evaluation"} else ""


# reading and writing


def record() -> Path:
    """Where every evaluation of this checkout leaves a line."""
    return state_folder() / "looks.jsonl"


def note(looks: Sequence[Look]) -> None:
    """Append to the record, in one write, so that processes beside each other leave whole lines."""
    path = record()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write("".join(look.line() for look in looks).encode())


def known() -> list[Look]:
    """All that this checkout knows: its record, and what the studies in it have in git; the first look comes first."""
    root = checkout() or Path.cwd()
    paths = [record(), COMMITTED, root / COMMITTED, *sorted(root.glob(f"studies/*/{COMMITTED}"))]
    return merged(look for path in paths for look in read(path))


def at(data: Dataset) -> list[Look]:
    """All that this checkout knows of the test images of a study, and of those of its data set as they come."""
    images = {of_data_set(data.dataset), *map(short, data.test_digests)}
    return [look for look in known() if look.images in images]


def read(path: Path) -> list[Look]:
    """The looks of a file, in its order; none where there is no such file."""
    if not path.exists():
        return []
    try:
        return [Look(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError, TypeError):
        raise StageError(
            f"{path}: not readable as a line of JSON for each look at test images; bring the lines back that are"
            f" damaged (`git checkout -- {COMMITTED}`), or take these alone out"
        ) from None


def merged(looks: Iterable[Look]) -> list[Look]:
    """Each look once, as it was first known, in the order of time."""
    first: dict[tuple[str, str, str], Look] = {}
    for look in sorted(looks):
        first.setdefault(look.key, look)
    return list(first.values())


def keep(study: str) -> None:
    """Add a study's looks to those that git keeps, of which none is taken out; without any, there is no file."""
    found = merged([*read(COMMITTED), *(look for look in read(record()) if look.study == study)])
    if found:
        with written_whole(COMMITTED) as partial:
            partial.write_text("".join(look.line() for look in found), encoding="utf-8")


def earlier(looks: Sequence[Look], weights: Iterable[str], data_set: str = "") -> Earlier | None:
    """The looks at the same test images before the last of those that are shown (SHA-256 of their weights), and since.

    `data_set` is the name of the one that they are of, whose images `versus cross` scores as they come. None where the
    record does not know all of these: it began later.
    """
    wanted = {short(each) for each in weights}
    shown = [look for look in looks if look.weights in wanted and look.kind == "evaluation"]
    if not shown or {look.weights for look in shown} != wanted:
        return None
    images, last = {of_data_set(data_set), *(look.images for look in shown)}, max(look.when for look in shown)
    others = [look for look in looks if look.images in images and look.weights not in wanted]
    before = [look for look in others if look.when < last]
    return Earlier(shown, before, since(others, {look.settings for look in shown}, last))


def since(looks: Iterable[Look], settings: Collection[str], last: str) -> list[Look]:
    """Those of other settings from the time `last` on: who returned to earlier settings may have chosen by them."""
    return [look for look in looks if look.settings not in settings and look.when >= last]
