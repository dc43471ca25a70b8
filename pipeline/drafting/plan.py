"""Which settings of a study fit the images and the machine, and why each: a draft, for its owner to change.

What is chosen here was chosen by what is common, not by measuring which choice scores best; no test image is looked at.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.base.errors import StageError
from pipeline.drafting.choice import Choice, Section, taken
from pipeline.drafting.survey import TEST_FRACTION, VAL_FRACTION, Survey

FAMILIES = ("cnn", "vit", "hybrid")  # that are compared where nobody names networks
SIDES = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224)  # pixels that networks are commonly given
ON_CPU, ON_CPU_MANY, ON_CPU_PRETRAINED = 64, 32, 128  # pixels a side that a CPU trains on in reasonable time
MANY = 20_000  # training images, from which on a CPU is given smaller ones, and a GPU whole networks
SEEN = 50_000  # images that a network from scratch is shown; those of the default study see as many
FEWEST_SEEN, SEEN_PRETRAINED = 6_000, 10_000
EPOCHS, EPOCHS_PRETRAINED = (15, 100), (5, 20)  # at least and at most
UNEVEN = 1.5  # the largest class, as a multiple of the smallest, from which on training weighs classes
OBLONG = 1.5  # longer side, as a multiple of the shorter, from which on a square at the centre leaves out too much
SIDED = {"left", "right", "links", "rechts", "gauche", "droite"}  # in a class's name: a mirror image is of another


@dataclass(frozen=True)
class Machine:
    device: str  # cpu, cuda, mps
    words: str

    @property
    def cpu(self) -> bool:
        return self.device == "cpu"


@dataclass(frozen=True)
class Protocol:
    """Another study, whose settings are taken over."""

    name: str  # as it was called
    content: Mapping[str, Any]  # its params.yaml, which is in order


@dataclass(frozen=True)
class Drafting:
    """What a draft is made from."""

    source: str  # as params.yaml is to have it
    survey: Survey
    machine: Machine
    asked: tuple[str, ...] = ()  # networks by their name in timm, or FAMILIES; none: these
    protocol: "Protocol | None" = None  # of another study
    lacking: str = ""  # a backbone whose ImageNet weights cannot be had: then no network starts from such

    @property
    def pretrained(self) -> bool:
        """Whether the networks start from ImageNet weights: all do, or none, so that none has the advantage."""
        return not self.lacking

    @property
    def start(self) -> Choice:
        """`pretrained` of every network."""
        scratch = f"from scratch: the ImageNet weights of {self.lacking} cannot be had here"
        return Choice(self.pretrained, "ImageNet weights" if self.pretrained else scratch)

    @property
    def small(self) -> bool:
        """Whether networks that nobody named are small ones: whole ones from scratch want a GPU and many images."""
        return not self.pretrained and (self.machine.cpu or self.survey.training < MANY)

    @property
    def side(self) -> int:
        """The pixels a side that networks see: what the machine bears, and the images hold."""
        most = SIDES[-1]
        if self.machine.cpu:
            many = self.survey.training > MANY
            most = ON_CPU_PRETRAINED if self.pretrained else ON_CPU_MANY if many else ON_CPU
        held = self.survey.sides[1] * (2 if self.pretrained else 1)  # ImageNet's networks know larger things
        return max(side for side in SIDES if side <= max(SIDES[0], min(most, held)))


def draft(given: Drafting) -> dict[str, Choice | Section]:
    """All settings of a new study."""
    if given.protocol is not None:
        return like(given, given.protocol)
    return {
        "dataset": dataset(given),
        "split": split(given.survey),
        "replicates": Choice([0, 1, 2], "seeds: each model is trained so many times, for intervals"),
        "augment": augment(given.survey),
        "train": train(given),
        "models": models(given),
        **LEFT,
    }


def heading(given: Drafting) -> str:
    """What stands above the settings."""
    whence = f" after {given.protocol.name}" if given.protocol else ""
    return (
        "yaml-language-server: $schema=../../params.schema.json\n"
        f"Drafted by `versus new`{whence} for {given.survey.words},\n"
        f"on {given.machine.words}. Every key and its choices: docs/params.md; is all in order: `versus check`."
    )


LEFT: Section = {
    "tune": {
        "trials": Choice([], "such as [0, 1, 2, 3]: as many settings tried for every model (docs/tuning.md)"),
        "models": Choice({}),
        "finalists": Choice([]),
    },
    "evaluate": {
        "onnx": Choice(False, "true: time each model in ONNX Runtime, too"),
        "inflation": Choice(False),
    },
    "corruptions": {
        "replicates": Choice([], "such as [0, 1, 2]: scored on corrupted test images, too (docs/corruptions.md)"),
    },
    "published": Choice([], "numbers of a paper that is repeated (docs/studies.md)"),
}


def like(given: Drafting, other: Protocol) -> dict[str, Choice | Section]:
    """The protocol and networks of another study for these images: its data set and published numbers stay there."""
    theirs = other.content["dataset"]
    side = theirs["image_size"]
    fit = max(each for each in (*SIDES, side) if each <= max(SIDES[0], min(side, given.survey.sides[1])))
    found: dict[str, Choice | Section] = {**taken(other.content), "published": LEFT["published"]}
    found["dataset"] = {
        **dataset(given),
        "image_size": Choice(fit, f"of {other.name}" if fit == side else f"{other.name} has {side}, the images do not"),
        "normalise": Choice(theirs["normalise"], f"of {other.name}"),
    }
    if given.asked:
        found.pop("teachers", None)  # as what is searched, of models that are not here
        return found | {"tune": LEFT["tune"], "models": models(given)}
    found["models"] = {
        key: {**taken(model), **({"pretrained": given.start} if model.get("pretrained") is True else {})}
        for key, model in other.content["models"].items()
    }
    return found


# sections


def dataset(given: Drafting) -> Section:
    survey = given.survey
    fits = f"of images with {survey.sides[1]:,} on the shorter one"
    fits += ", for a CPU" if given.machine.cpu and given.side < survey.sides[1] else ""
    squash = survey.aspect >= OBLONG
    oblong = f"one side is {survey.aspect:.1f} times the other"
    statistics = "imagenet" if given.pretrained else "dataset"
    return {
        "name": Choice("folder"),
        "source": Choice(given.source, survey.words),
        "image_size": Choice(given.side, f"pixels a side, {fits}"),
        "resize": Choice(
            "squash" if squash else "crop", f"{oblong}: crop keeps its centre, squash all" if squash else "to a square"
        ),
        "imbalance": Choice(1, "as the images are; 5: thinned until the largest class has five times the smallest"),
        "train_fraction": Choice(1.0, "all of the training images"),
        "normalise": Choice(statistics, "as the weights were trained" if given.pretrained else "from scratch"),
    }


def split(survey: Survey) -> Section:
    def share(part: str, of: str) -> str:
        n = sum(survey.counts[part])
        return f"{n:,} images, drawn from {of}" if part in survey.drawn else f"not used: {n:,} come as {part}/"

    return {
        "seed": Choice(0),
        "val_fraction": Choice(VAL_FRACTION, f"{share('val', 'the rest')}: epochs and settings are chosen on them"),
        "test_fraction": Choice(TEST_FRACTION, f"{share('test', 'all')}: the report scores on them, nothing else does"),
        "duplicates": Choice("drop", "training images whose pixels a test image has too are left out"),
    }


def augment(survey: Survey) -> Section:
    uneven = survey.imbalance >= UNEVEN
    mirrored = _mirrored_alike(survey.classes)
    turned = "a mirror image is of the same class; false where it is not (text, left and right)"
    return {
        "strength": Choice(1.0, "scales all that follows; 0 trains on the images as they are"),
        "flip": Choice(mirrored, turned if mirrored else "a mirror image may be of another class, by their names"),
        "minority": Choice(
            "strong" if uneven else "light",
            "classes with fewer images are changed more" if uneven else "classes are about as large: all alike",
        ),
        "light": Choice({"crop": 0.2, "aspect": 0.1, "rotate": 0, "jitter": 0.2, "erase": 0.0}),
        "strong": Choice({"crop": 0.4, "aspect": 0.2, "rotate": 15, "jitter": 0.4, "erase": 0.5}),
    }


def train(given: Drafting) -> Section:
    n, wanted = given.survey.training, epochs(given)
    uneven = given.survey.imbalance >= UNEVEN
    largest = f"the largest class has {given.survey.imbalance:.1f} times the training images of the smallest"
    return {
        "device": Choice("auto", f"{given.machine.device} here"),
        "precision": precision(given.machine),
        "epochs": Choice(wanted, f"{wanted * n:,} images a training, {n:,} an epoch"),
        "batch_size": Choice(128 if n > MANY else 64 if n > 2000 else 32, f"{n:,} training images"),
        "optimizer": Choice("adamw"),
        "lr": Choice(0.0003 if given.pretrained else 0.001, "with ImageNet weights" if given.pretrained else ""),
        "weight_decay": Choice(0.05 if given.pretrained else 0.0001),
        "schedule": Choice("cosine"),
        "warmup_epochs": warmup(wanted),
        "clip_norm": Choice(1.0, "largest norm of the gradient"),
        "sampler": Choice("weighted" if uneven else "shuffle", largest if uneven else "classes are about as large"),
        "loss": Choice("cross_entropy"),
        "class_weights": Choice("none", "the sampler weighs already" if uneven else ""),
        "label_smoothing": Choice(0.0),
        "select": Choice("best", "the epoch with the highest validation macro-F1"),
    }


def precision(machine: Machine) -> Choice:
    if machine.cpu:
        return Choice("fp32", "exact; auto takes bf16 where the processor computes it, for larger networks")
    return Choice("auto", "bf16 or fp16 with gradient scaling, as the GPU can")


def warmup(epochs: int) -> Choice:
    return Choice(min(5, epochs // 10))


def epochs(given: Drafting) -> int:
    """How many a training should have, whatever the machine."""
    low, high = EPOCHS_PRETRAINED if given.pretrained else EPOCHS
    seen = SEEN_PRETRAINED if given.pretrained else SEEN
    return min(high, max(low, seen // given.survey.training))


def fewest_epochs(given: Drafting) -> int:
    """Below which a training has not learnt what it can, however slow the machine."""
    low, seen = (EPOCHS_PRETRAINED[0], 0) if given.pretrained else (EPOCHS[0], FEWEST_SEEN)
    return max(low, seen // given.survey.training)


def _mirrored_alike(classes: Sequence[str]) -> bool:
    """Whether a mirror image keeps its class, by all that the classes' names tell: no digits, letters or sides."""
    words = {word for name in classes for word in re.findall(r"[^\W\d_]+", name.casefold())}
    return not words & SIDED and not all(len(name) == 1 or name.isdecimal() for name in classes)


# models


def models(given: Drafting) -> Section:
    """The networks to compare; raises StageError where two names would be one model's."""
    found: dict[str, Section] = {}
    for asked in given.asked or FAMILIES:
        name = re.sub(r"\W+", "_", asked, flags=re.ASCII).strip("_")
        if name.casefold() in (each.casefold() for each in found):
            raise StageError(f"--models: {asked} would be a second model called {name}; name each network once")
        family = OWN.get(asked)
        found[name] = family(given) if family else _timm(asked, "", given)
    return found


def backbones(asked: Sequence[str], protocol: Protocol | None, machine: Machine) -> list[tuple[str, str]]:
    """Family and backbone of the networks that may start from ImageNet weights."""
    if protocol is not None and not asked:
        models = protocol.content["models"].values()
        return list(
            dict.fromkeys((each["family"], each["backbone"]) for each in models if each.get("pretrained") is True)
        )
    published = {"cnn": "resnet18", "vit": _vit_name(machine), "hybrid": "resnet18"}
    return list(dict.fromkeys(("timm", published.get(name, name)) for name in asked or FAMILIES))


def _vit_name(machine: Machine) -> str:
    return "vit_tiny_patch16_224" if machine.cpu else "vit_small_patch16_224"


SMALL_RESNET = {"channels": [16, 32, 64, 128]}


def _cnn(given: Drafting) -> Section:
    if given.small:
        return _timm("resnet18", "a quarter of its channels, for small images", given, SMALL_RESNET, dropout=0.2)
    return _timm("resnet18", "a convolutional network", given, dropout=0.2)


def _vit(given: Drafting) -> Section:
    if given.small:
        args = {"patch_size": max(2, given.side // 8), "embed_dim": 96, "depth": 4, "num_heads": 3}
        return _timm("vit_small_patch16_224", "a small one: 8 x 8 patches", given, args)
    return _timm(_vit_name(given.machine), "a vision transformer", given)


def _hybrid(given: Drafting) -> Section:
    """A CNN's feature map as the tokens of a transformer; from a level that leaves some tokens of these images."""
    sizes = {"dim": 96, "depth": 2, "heads": 3} if given.small else {"dim": 256, "depth": 4, "heads": 8}
    level = 1 if given.side < 32 else 2 if given.side < 96 else 3
    tokens = -(-given.side // 2 ** (level + 1))
    return {
        "family": Choice("hybrid"),
        "backbone": Choice("resnet18", "a transformer on the feature map of a convolutional network"),
        "pretrained": given.start,
        "feature_level": Choice(level, f"{tokens} x {tokens} tokens of {given.side} pixels"),
        "token_grid": Choice(None),
        **{key: Choice(size) for key, size in sizes.items()},
        "mlp_ratio": Choice(4.0),
        "pool": Choice("attention", "attention, mean, max, class_token"),
        "dropout": Choice(0.1),
        "drop_path": Choice(0.0),
        "args": Choice(SMALL_RESNET if given.small else {}),
        "augment": Choice({}),
        "train": Choice({}),
    }


OWN: dict[str, Callable[[Drafting], Section]] = {"cnn": _cnn, "vit": _vit, "hybrid": _hybrid}


def _timm(
    backbone: str, why: str, given: Drafting, args: Mapping[str, Any] | None = None, dropout: float = 0.0
) -> Section:
    return {
        "family": Choice("timm"),
        "backbone": Choice(backbone, why),
        "pretrained": given.start,
        "dropout": Choice(dropout),
        "drop_path": Choice(0.0),
        "args": Choice(dict(args or {}), "passed to timm.create_model"),
        "augment": Choice({}, "what `augment` and `train` are to be for this model alone"),
        "train": Choice({}),
    }
