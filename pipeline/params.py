"""params.yaml as typed, frozen values: the one place where configuration enters.

Unknown keys, wrong types and values out of range are refused here, with the choices named; below this module
functions take plain values.
"""

import datetime
import difflib
import importlib.util
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # or it looks for some in every installed package
import pydantic
from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import core_schema
from ruamel.yaml import YAML, YAMLError

from pipeline import registry
from pipeline.optim.schedule import SCHEDULES
from pipeline.stage import StageError, shown


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True, defer_build=True)


class OneOf:
    """One of some names, as if they were written as a Literal."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)

    def __get_pydantic_core_schema__(self, *_: Any) -> core_schema.CoreSchema:
        return core_schema.literal_schema(self.names)


DatasetName = Annotated[str, OneOf(registry.DATASETS)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Cost = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Epochs = Annotated[int, Field(gt=0, le=100_000)]
Pixels = Annotated[int, Field(ge=0, le=1024)]  # of a side
Size = Annotated[int, Field(gt=0, le=10_000)]  # of a part of a network
Folds = Annotated[int, Field(ge=0, le=1000)]
Switch = Annotated[bool, Field(examples=[False])]
Processes = Annotated[int, Field(gt=0, le=10_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
_LAYER = r"(pool|transition [1-9]\d{0,3}|(conv|dw) [1-9]\d{0,3}( skip)?)"
TinyLayers = Annotated[str, Field(pattern=f"^{_LAYER}(, {_LAYER})*$", max_length=10_000)]


class Dataset(Frozen):
    """Every key must be there, for DVC runs no stage that depends on a key which params.yaml lacks."""

    name: DatasetName
    source: Annotated[str, Field(examples=[""])]
    image_size: Annotated[int, Field(ge=8, le=1024)]
    resize: Annotated[Literal["crop", "squash"], Field(examples=["crop"])]
    imbalance: Annotated[float, Field(ge=1, examples=[1.0])]
    train_fraction: Annotated[Share, Field(examples=[1.0])]
    normalise: Annotated[Literal["imagenet", "dataset"], Field(examples=["imagenet"])]


class Split(Frozen):
    seed: Seed = 0
    val_fraction: Fraction = 0.2
    test_fraction: Fraction = 0.2
    duplicates: Literal["keep", "drop", "error"] = "keep"
    folds: Folds = 0  # of cross-validation: replicate r is tested on fold r; 0: one split
    folds_by: Literal["image", "subject"] = "image"  # subject: nobody is in training and test


class Pipeline(Frozen):
    """Largest changes of one augmentation pipeline, at `augment.strength` 1."""

    crop: Rate  # up to this share of the area is cut off
    aspect: Rate  # the crop's sides differ by up to this share
    shift: Rate = 0.0  # the image moves by up to this share of a side; its border is repeated
    rotate: Annotated[float, Field(ge=0, le=180)]  # degrees
    jitter: Rate  # brightness, contrast and saturation change by up to this factor
    erase: Probability  # that a rectangle is erased


class Augment(Frozen):
    strength: Annotated[float, Field(ge=0, le=2)] = 1.0
    flip: bool = True
    minority: Literal["strong", "light"] = "strong"
    cutout: Pixels = 0  # side in pixels of the square that is masked
    mixup: Annotated[float, Field(ge=0)] = 0.0  # alpha of the Beta distribution of the share; 0 mixes nothing
    policy: Literal["none", "cifar10"] = "none"  # AutoAugment's, learnt on that data set
    pca: Rate = 0.0  # PCA colour jitter: deviation of the share of each principal axis
    crop_size: Pixels = 0  # side in pixels of the square that a network sees; 0: the whole image
    crop_of: Pixels = 0  # side to which images are brought before; 0: dataset.image_size
    test_crops: Literal[1, 2, 5, 10] = 1  # 2: the centre, mirrored too; 5: and the corners; 10: all mirrored
    light: Pipeline
    strong: Pipeline


class Train(Frozen):
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    epochs: Epochs
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)]
    optimizer: Annotated[str, OneOf(registry.OPTIMIZERS)] = "adamw"
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Annotated[str, OneOf(SCHEDULES)] = "cosine"
    step_epochs: Epochs = 1  # of schedule step: the rate is multiplied by gamma after as many epochs
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1  # of schedule step
    warmup_epochs: Annotated[int, Field(ge=0, le=100_000)] = 0
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    sam: Annotated[float, Field(ge=0)] = 0.0
    sampler: Literal["weighted", "shuffle"] = "shuffle"
    loss: Annotated[str, OneOf(registry.LOSSES)] = "cross_entropy"
    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    class_weights: Literal["inverse", "none"] = "none"
    label_smoothing: Rate = 0.0
    margin: Literal["none", "a_softmax", "arcface"] = "none"  # an angular margin between the classes
    margin_m: Annotated[float, Field(ge=0)] = 4.0  # a_softmax: a factor of the angle, 1 to 4; arcface: radians
    margin_floor: Annotated[float, Field(ge=0)] = 5.0  # a_softmax: least weight of the angle without margin
    margin_scale: Annotated[float, Field(gt=0)] = 30.0  # arcface: length given to the features
    center_loss: Cost = 0.0  # weight of the centre loss, which is added
    select: Literal["best", "last", "average"] = "best"
    include_validation: bool = False  # train on the validation images too, once everything is chosen; not with best
    average: Literal["swa", "ema"] = "swa"
    average_start: Rate = 0.75
    ema_decay: Rate = 0.999
    tune: Literal["full", "head", "head_then_full"] = "full"  # what is trained; the rest is frozen, as in evaluation
    head_epochs: Epochs = 1  # of head_then_full: epochs with the backbone frozen
    full_lr_factor: Share = 0.1  # of head_then_full: of the learning rate, once everything is trained
    devices: Processes = 1  # processes that share each batch, a GPU each where there are GPUs
    targets: Literal["labels", "votes"] = "labels"  # votes: the shares of FER+'s annotators, where the source has them
    keep_epochs: bool = False  # keep the weights of every epoch, for evaluate.inflation
    deterministic: bool = False  # the same bits again on a GPU, at some cost; a CPU gives them anyway
    fast: bool = True  # memory laid out for the processor, fused optimiser; false: the plain forms
    compile: Literal["none", "default", "reduce-overhead"] = "none"  # torch.compile's mode; the second is CUDA graphs


class Weights(Frozen):
    """A file with the weights of a whole network of the same settings; the classes may be others."""

    path: str  # from the study's folder
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Model(Frozen):
    pretrained: bool | str | Weights = False
    dropout: Rate = 0.0
    blurpool: bool = False
    squeeze_excite: Probability = 0.0
    train_fraction: Share = 1.0  # of the training images that the study has; validation and test stay whole
    augment: dict[str, Any] = {}
    train: dict[str, Any] = {}


class _Backbone(_Model):
    backbone: str
    drop_path: Rate = 0.0
    args: dict[str, Any] = {}


class TinyModel(_Model):
    """A small CNN as a list of layers."""

    family: Literal["tiny"]
    layers: Annotated[
        tuple[TinyLayers, ...],
        Field(
            min_length=1,
            max_length=1000,
            strict=False,
            description="such as conv 8, dw 12, conv 12 skip, transition 8, pool",
        ),
    ]
    in_channels: Annotated[Literal[1, 3], Field(description="1: grey; 3: colour")] = 3
    bias: Annotated[bool, Field(description="of every convolution")] = False


class CbamResnetModel(_Model):
    """A ResNet of eight blocks of two 3x3 convolutions with CBAM in each."""

    family: Literal["cbam_resnet"]
    attention: Annotated[
        Literal["none", "channel_first", "spatial_first", "parallel"], Field(description="CBAM in every block")
    ] = "channel_first"
    width: Annotated[int, Field(ge=1, le=10_000, description="channels of the first blocks, doubled three times")] = 64
    reduction: Annotated[int, Field(ge=1, le=10_000, description="of the channels within CBAM's channel gate")] = 16
    in_channels: Annotated[Literal[1, 3], Field(description="1: grey; 3: colour")] = 3


class TimmModel(_Backbone):
    """Any timm backbone by name, pooled features, dropout and a linear head."""

    family: Literal["timm"]


class HybridModel(_Backbone):
    """A timm backbone's feature map as tokens of a transformer encoder."""

    family: Literal["hybrid"]
    feature_level: Annotated[int, Field(ge=0, le=100)] = 4
    token_grid: Size | None = None
    dim: Size = 256
    depth: Annotated[int, Field(gt=0, le=1000)] = 4
    heads: Size = 8
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    pool: Literal["attention", "mean", "max", "class_token"] = "attention"


WEIGHTS = "what loads weights goes through `pretrained` alone, for the report names it: true, a path or {path, sha256}"
OWN_PLACE = {  # keys of a backbone's `args` that are settled elsewhere, and where
    "num_classes": "the data set's classes say how many; leave it out",
    "pretrained": WEIGHTS,
    "device": "choose train.device",
    "dtype": "choose train.precision",
}
TIMM_ONLY = {
    "cache_dir": "the environment's HF_HUB_CACHE says where weights are kept; leave it out",
    "checkpoint_path": WEIGHTS,
    "features_only": "choose family: hybrid, which takes a backbone's features; leave it out",
    "img_size": "dataset.image_size and augment.crop_size say it; leave it out",
    "model_name": "the backbone's name is `backbone`",
    "out_indices": "choose family: hybrid and its feature_level; leave it out",
    "pretrained_cfg": WEIGHTS,
    "pretrained_cfg_overlay": WEIGHTS,
    "pretrained_filter_fn": WEIGHTS,
    "pretrained_model_args": WEIGHTS,
    "pretrained_strict": WEIGHTS,
}
RESERVED: dict[str, dict[str, str]] = {
    "timm": {**OWN_PLACE, **TIMM_ONLY, "drop_rate": "choose `dropout`", "drop_path_rate": "choose `drop_path`"},
    "hybrid": {**OWN_PLACE, **TIMM_ONLY},
    "torchvision": {**OWN_PLACE, "weights": WEIGHTS, "weights_backbone": WEIGHTS, "progress": "leave it out"},
}
OURS_OF_SLURM = {"array", "error", "job-name", "open-mode", "output", "wrap"}
ONNX = ("onnx", "onnxruntime", "onnxscript")  # packages
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # line feeds and tabs are in order
LARGEST, MOST_VALUES = 1_000_000, 1_000_000  # bytes of a params.yaml, values in it: more than the bytes can spell out
MOST_TRAININGS = 10_000  # of a study: each is a handful of stages, which DVC reads again and again


class AlexNetModel(_Model):
    """AlexNet as published: 62 million parameters, local response normalisation, from scratch."""

    family: Literal["alexnet"]
    dropout: Rate = 0.5


class TorchvisionModel(_Model):
    """Any torchvision classifier by name, such as its AlexNet, which has ImageNet weights."""

    family: Literal["torchvision"]
    backbone: str
    args: dict[str, Any] = {}  # passed to torchvision.models.get_model


AnyModel = TimmModel | HybridModel | TinyModel | CbamResnetModel | AlexNetModel | TorchvisionModel
FAMILIES: dict[str, type[_Model]] = {get_args(kind.__annotations__["family"])[0]: kind for kind in get_args(AnyModel)}
Model = Annotated[AnyModel, Field(discriminator="family")]


class PublishedRow(Frozen):
    """One row of a paper's table: numbers of a model, of one of its classes, or of an average over classes."""

    model: str | None = None  # where the table is not of one model

    accuracy: Probability | None = None
    macro_f1: Probability | None = None
    weighted_f1: Probability | None = None
    balanced_accuracy: Probability | None = None

    precision: Probability | None = None  # of a class or an average
    recall: Probability | None = None
    f1: Probability | None = None

    parameters: Cost | None = None
    flops: Cost | None = None  # of one image's forward pass, a multiplication and an addition counted apart
    weight_bytes: Cost | None = None
    cpu_seconds: Cost | None = None  # of a forward pass over all test images
    train_seconds: Cost | None = None

    @property
    def numbers(self) -> dict[str, float]:
        return self.model_dump(exclude={"model"}, exclude_none=True)


class Published(Frozen):
    """A table of a paper, as printed, and the data set that its numbers are for."""

    table: str
    dataset: DatasetName
    model: str | None = None
    rows: Annotated[dict[str, PublishedRow], Field(min_length=1)]


class Evaluate(Frozen):
    """What is measured beside the scores; nothing selects by it."""

    onnx: Switch  # time each model in ONNX Runtime too, and compare its classes with PyTorch's
    inflation: bool = False  # by how much the score would be higher, had the epoch been chosen on the test images


class Launch(Frozen):
    """What `versus launch` asks for; results do not depend on it."""

    workers: Processes | None = None  # trainings at a time; null: one for each GPU, else cores / 2, two at least
    retries: Annotated[int, Field(ge=0, le=1000)] = 2  # of a training that died
    slurm: dict[str, str | int] = {}  # options of sbatch: partition, gres, cpus-per-task, mem, time


class Params(Frozen):
    dataset: Dataset
    split: Split
    replicates: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=1000, strict=False)]
    augment: Augment
    train: Train
    models: Annotated[dict[str, Model], Field(min_length=1, max_length=1000)]
    published: Annotated[tuple[Published, ...], Field(strict=False, examples=[[]])]
    evaluate: Annotated[Evaluate, Field(examples=[{"onnx": False}])]
    launch: Launch = Launch()

    def model_train(self, name: str) -> Train:
        """The protocol as model `name` is trained: `train` with the model's own overrides."""
        return _validate(Train, {**self.train.model_dump(), **self.models[name].train}, f"models.{name}.train")

    def network(self, name: str) -> dict[str, Any]:
        """What the network of model `name` is built from; with a margin it has a classifier by angle."""
        found = self.models[name].model_dump(exclude={"augment", "train", "train_fraction"})
        train = self.model_train(name)
        if train.margin != "none":
            found["angular"] = train.margin_scale if train.margin == "arcface" else 0.0
        return found

    def model_augment(self, name: str) -> Augment:
        """The augmentation of model `name`: `augment` with the model's own overrides."""
        own = self.models[name].augment
        return _validate(Augment, {**self.augment.model_dump(), **own}, f"models.{name}.augment")


def require_onnx(what: str) -> None:
    """Raise StageError, with the command that installs them, if packages that write and run ONNX files are missing."""
    if missing := [name for name in ONNX if importlib.util.find_spec(name) is None]:
        raise StageError(f"{what} needs {', '.join(missing)}: python -m pip install -c constraints.txt -e '.[export]'")


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml; raises StageError with one line per fault."""
    try:
        if not path.is_dir() and not path.is_file() and path.exists():
            raise StageError(f"{path}: neither a file nor a link to one; put the study's settings there")
        if path.stat().st_size > LARGEST:
            raise StageError(f"{path}: larger than {LARGEST:,} bytes, which no params.yaml is")
        text = path.read_text(encoding="utf-8")
        _refuse_long_numbers(text, path)
        content = YAML(typ="safe", pure=True).load(text)
    except FileNotFoundError:
        raise StageError(f"{path}: not found; run from a study's folder, where dvc.yaml and params.yaml lie") from None
    except OSError as error:
        raise StageError(f"{path}: cannot be read: {error.strerror}") from None
    except StageError:
        raise
    except (YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        raise StageError(f"{path}: not readable as YAML: {reason}") from None
    except RecursionError:
        raise StageError(f"{path}: nested too deeply; no key of it is") from None
    except Exception as error:  # a date that is none, a tag on what is not of its kind: whatever the parser trips over
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise StageError(f"{path}: not readable as YAML: {reason}") from None
    _refuse_bomb(content, path)
    return parse(content)


def parse(content: object) -> Params:
    """Check the content of a params.yaml; raises StageError with one line per fault."""
    params = _validate(Params, content, "")
    faults = []
    if len(set(params.replicates)) != len(params.replicates):
        faults.append(f"params.yaml: replicates: {list(params.replicates)} names a seed twice; give each once")
    for name, model in params.models.items():
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,99}", name):
            faults.append(
                f"params.yaml: models.{shown(name)}: use letters, digits and underscores, a letter first, 100 at most"
            )
        if twin := next((other for other in params.models if other < name and other.lower() == name.lower()), ""):
            faults.append(
                f"params.yaml: models.{name}: differs from {twin} in case alone, which not every disk and data base"
                " tells apart; rename one"
            )
        if isinstance(model, HybridModel) and model.dim % model.heads:
            faults.append(f"params.yaml: models.{name}.heads: {model.heads} does not divide dim {model.dim}")
        faults += _argument_faults(name, model)
        try:
            faults += _crop_faults(params, name)
            train = params.model_train(name)
            faults += _tuning(name, model, train)
            if train.precision == "fp16" and train.device == "cpu":
                faults.append(f"params.yaml: models.{name}: train.precision: fp16 needs a GPU; choose bf16 or fp32")
            if train.warmup_epochs >= train.epochs:
                own = f"models.{name}." if {"warmup_epochs", "epochs"} & model.train.keys() else ""
                faults.append(
                    f"params.yaml: {own}train.warmup_epochs: {train.warmup_epochs} leaves none of {train.epochs} epochs"
                )
            wanted = {"a_softmax": "1, 2, 3 or 4", "arcface": "radians below 1.57, such as 0.5"}.get(train.margin, "")
            fits = train.margin_m in (1, 2, 3, 4) if train.margin == "a_softmax" else train.margin_m < 1.57
            if wanted and not fits:
                own = f"models.{name}." if {"margin", "margin_m"} & model.train.keys() else ""
                faults.append(
                    f"params.yaml: {own}train.margin_m: got {train.margin_m:g}; {train.margin} wants {wanted}"
                )
            if train.batch_size < 2 * train.devices:
                own = f"models.{name}." if {"batch_size", "devices"} & model.train.keys() else ""
                faults.append(
                    f"params.yaml: {own}train.batch_size: {train.batch_size} leaves a device fewer than two images of"
                    f" each batch; choose {2 * train.devices} or more for {train.devices} devices"
                )
            if train.include_validation:
                faults += _without_validation(name, train)
            if params.evaluate.inflation and not train.keep_epochs:
                faults.append("params.yaml: evaluate.inflation: needs the weights of all epochs; set train.keep_epochs")
            alone = {"tune": "full", "margin": "none", "center_loss": 0.0}
            partial = [key for key, plain in alone.items() if getattr(train, key) != plain]
            if train.compile != "none" and (partial or train.devices > 1):
                faults.append(
                    f"params.yaml: models.{name}: train.compile: {train.compile} is for networks that are trained"
                    " whole, in one process, without margin and centres; choose none"
                )
            if train.targets == "votes" and (train.margin != "none" or train.center_loss):
                faults.append(
                    f"params.yaml: models.{name}: train.targets: votes name no class for a margin or a centre; choose"
                    " train.margin: none and train.center_loss: 0"
                )
            faults += [
                f"params.yaml: models.{name}: train.{key}: {getattr(train, key)} is for one process; choose"
                f" {alone[key]}, or train.devices: 1"
                for key in partial
                if train.devices > 1
            ]
        except StageError as error:
            faults.append(str(error))
    trainings = len(params.models) * len(params.replicates)
    if trainings > MOST_TRAININGS:
        faults.append(
            f"params.yaml: replicates: {len(params.models):,} models x {len(params.replicates):,} replicates are"
            f" {trainings:,} trainings, more than the {MOST_TRAININGS:,} that one study can have"
        )
    faults += [f"params.yaml: launch.{line}" for line in slurm_faults(params.launch.slurm)]
    folds = params.split.folds
    if folds == 1:
        faults.append("params.yaml: split.folds: 1 leaves nothing to train on; choose 0 or at least 2")
    elif folds and max(params.replicates) >= folds:
        faults.append(
            f"params.yaml: replicates: {max(params.replicates)} is no fold; split.folds gives 0 to {folds - 1}"
        )
    if params.dataset.name == "folder" and not params.dataset.source:
        faults.append("params.yaml: dataset.source: the data set 'folder' needs a folder, an archive or a URL")
    for index, table in enumerate(params.published):
        for name, row in table.rows.items():
            where = f"params.yaml: published.{index}.rows.{name}"
            if not (row.model or table.model):
                faults.append(f"{where}.model: missing; give it for the row or for the table")
            if not row.numbers:
                faults.append(f"{where}: has no number; give one or more, such as accuracy: 0.9")
    if faults:
        raise StageError("\n".join(dict.fromkeys(faults)))
    return params


def _argument_faults(name: str, model: Any) -> list[str]:
    """What is wrong with a backbone's `args`: keys that have a place of their own, values that no report can hold."""
    faults = []
    for key, value in getattr(model, "args", {}).items():
        where = f"params.yaml: models.{name}.args.{key}"
        if key in RESERVED[model.family]:
            faults.append(f"{where}: {RESERVED[model.family][key]}")
        elif not _plain(value):
            faults.append(f"{where}: got {_shown(value)}; wanted numbers, text, true, false, null, or lists of them")
    return faults


def _plain(value: object, depth: int = 0) -> bool:
    """Whether a value is the same in JSON, which is where a trained network's settings are kept."""
    if isinstance(value, dict):
        return depth < 10 and all(isinstance(key, str) and _plain(each, depth + 1) for key, each in value.items())
    if isinstance(value, list):
        return depth < 10 and all(_plain(each, depth + 1) for each in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | str) or (isinstance(value, int) and abs(value) < 2**63)


def slurm_faults(options: Mapping[str, str | int]) -> list[str]:
    """What is wrong with options of sbatch: each becomes a line of the batch script, `#SBATCH --key=value`."""
    faults = []
    for key, value in options.items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", key):
            faults.append(f"slurm: got {_shown(key)}; wanted an option of sbatch without its dashes")
        elif key.replace("_", "-") in OURS_OF_SLURM:
            faults.append(f"slurm.{key}: `versus launch` sets it itself; leave it out")
        elif re.search(r"[\x00-\x1f\x7f]", str(value)[:10_000]) or len(str(value)) > 1000:
            faults.append(f"slurm.{key}: got {_shown(value)}; wanted one line of text or a number")
    return faults


def _crop_faults(params: Params, name: str) -> list[str]:
    augment = params.model_augment(name)
    whole = augment.crop_of or params.dataset.image_size
    own = f"models.{name}." if {"crop_size", "crop_of", "test_crops"} & params.models[name].augment.keys() else ""
    of = "augment.crop_of" if augment.crop_of else "dataset.image_size"
    if augment.crop_size > whole:
        return [f"params.yaml: {own}augment.crop_size: {augment.crop_size} is more than {of}, {whole}"]
    if augment.test_crops > 2 and not augment.crop_size:
        return [f"params.yaml: {own}augment.test_crops: {augment.test_crops} crops need augment.crop_size, which is 0"]
    return []


def _without_validation(name: str, train: Train) -> list[str]:
    """What is wrong with training on the validation images too: what still asks them, or wants their votes."""
    where = f"params.yaml: models.{name}: train.include_validation: true"
    faults = []
    if train.select == "best":
        faults.append(f"{where} leaves no images to choose an epoch on; choose train.select: last or average")
    if train.targets == "votes":
        faults.append(f"{where}: validation images keep no votes; choose train.targets: labels")
    return faults


def _tuning(name: str, model: Any, train: Train) -> list[str]:
    """What is wrong with training a part of a model."""
    where = f"params.yaml: models.{name}: train.tune: {train.tune}"
    if train.tune == "full":
        return []
    if isinstance(model, HybridModel):
        return [f"{where}: a hybrid's transformer starts from scratch, so that it is not for freezing; choose full"]
    faults = []
    if train.select == "average":
        faults.append(
            f"{where} keeps BatchNorm's statistics, which train.select: average computes anew; choose best or last"
        )
    if train.tune == "head_then_full" and train.head_epochs >= train.epochs:
        faults.append(f"{where}: train.head_epochs: {train.head_epochs} leaves none of {train.epochs} epochs")
    return faults


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return flat


def _refuse_bomb(content: object, path: Path) -> None:
    """Raise StageError for aliases that name each other into more values than memory has, or themselves, and for text
    that would steer a terminal or that no file can hold."""
    todo, seen = [content], 0
    while todo:
        value = todo.pop()
        todo += [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list | set) else ()
        if isinstance(value, str) and UNPRINTABLE.search(value):
            raise StageError(f"{path}: got {_shown(value)}, with a character that cannot be printed; leave it out")
        seen += 1
        if seen > MOST_VALUES:
            raise StageError(f"{path}: its aliases (&, *) stand for more than {MOST_VALUES:,} values; write them out")


def _refuse_long_numbers(text: str, path: Path) -> None:
    """Raise StageError for a number that Python itself refuses to read, with the line that it stands in."""
    if found := re.search(r"\d{1000,}|0x[0-9a-fA-F]{1000,}", text):
        line = text.count("\n", 0, found.start()) + 1
        raise StageError(f"{path}: line {line} has a number of {len(found[0]):,} digits; no setting has as many")


def _shown(value: object) -> str:
    """A value as Python writes it, in a line's length."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a whole number of about {value.bit_length() * 3 // 10} digits"
    if isinstance(value, datetime.date):
        return f"the date {value}"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


Kind = TypeVar("Kind", bound=BaseModel)


def _validate(kind: type[Kind], content: object, prefix: str) -> Kind:
    try:
        return kind.model_validate(content)
    except pydantic.ValidationError as error:
        lines: dict[str, str] = {}  # place -> what is wrong there
        for fault in error.errors():
            if (
                "pretrained" in fault["loc"]
                and fault["loc"][-1] in ("bool", "str")
                and isinstance(fault["input"], Mapping)
            ):
                continue  # it is a Weights: what is wrong with that is said
            where, line = _explain(kind, fault, prefix)
            if where in lines and " wanted " in line:  # neither this nor that member of a union
                lines[where] += " or " + line.partition(" wanted ")[2]
            elif fault["type"] != "too_short" or not any(place.startswith(f"{where}.") for place in lines):
                lines.setdefault(where, line)
        raise StageError("\n".join(f"params.yaml: {line}" for line in lines.values())) from None


WANTED = {
    "bool_type": "true or false",
    "dict_type": "keys and values",
    "invalid_key": "a key that is text",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_type": "keys and values",
    "string_pattern_mismatch": "layers such as conv 8, dw 12, conv 12 skip, transition 8, pool",
    "string_type": "text",
    "too_short": "one or more",
    "tuple_type": "a list",
}


def _explain(kind: type[BaseModel], fault: Mapping[str, Any], prefix: str) -> tuple[str, str]:
    """The place of a fault, and one line: where, what was found, what is wanted."""
    path, fields, field = _walk(kind, fault["loc"])
    where = ".".join([prefix] * bool(prefix) + path)
    got, context = fault["input"], fault.get("ctx", {})
    if fault["type"] == "extra_forbidden":
        close = difflib.get_close_matches(path[-1], fields, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        return where, f"{where}: unknown key; {hint}choose from {', '.join(fields)}"
    if fault["type"] == "missing":
        plain = f", such as {path[-1]}: {json.dumps(field.examples[0])}" if field and field.examples else ""
        return where, f"{where}: missing; it is needed{plain}"
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        found = got.get("family") if isinstance(got, Mapping) else got
        return where, f"{where}.family: got {_shown(found)}; choose from {', '.join(FAMILIES)}"
    if fault["type"] == "literal_error":
        choices = re.findall("'([^']*)'", context["expected"])
        return where, f"{where}: got {_shown(got)}; choose from {', '.join(choices)}"
    if path[-1:] == ["sha256"]:
        return where, f"{where}: got {_shown(got)}; wanted 64 hexadecimal digits, as sha256sum prints them"
    if fault["type"] == "too_long":
        return where, f"{where}: got {len(got):,} of them; wanted {context['max_length']:,} or fewer"
    wanted = WANTED.get(fault["type"]) or fault["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return where, f"{where or 'top level'}: got {_shown(got)}; wanted {wanted}"


def _walk(kind: Any, location: tuple[str | int, ...]) -> tuple[list[str], list[str], FieldInfo | None]:
    """The keys of a fault as a user wrote them (tags of unions left out), the choices at its last key, its field."""
    path: list[str] = []
    fields: list[str] = []
    field: FieldInfo | None = None
    for key in location:
        if kind is not None and get_origin(kind) is None and isinstance(kind, type) and issubclass(kind, BaseModel):
            fields = list(kind.model_fields)
            path.append(str(key))
            field = kind.model_fields.get(str(key))
            kind = field.annotation if field else None
        elif get_origin(kind) is dict:
            path.append(str(key))
            kind = get_args(kind)[1]
            fields = []
        elif key in FAMILIES and kind is not None:
            kind = FAMILIES[str(key)]
        elif key == "Weights":
            kind = Weights
        elif isinstance(key, int):
            path.append(str(key))
            kind = next(iter(get_args(kind)), None)
        # other keys name a member of a union such as `bool | str`: nothing that a user wrote
    return path, fields, field
