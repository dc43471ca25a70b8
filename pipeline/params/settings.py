"""params.yaml as typed, frozen values: the one place where configuration enters.

Unknown keys, wrong types and values out of range are refused here, with the choices named; below this module
functions take plain values.
"""

import math
import os
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import core_schema

from pipeline.params import registry
from pipeline.params.defaults import is_default_of

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # or it looks for some in every installed package


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
Draws = Annotated[int, Field(ge=0, le=10_000)]
Switch = Annotated[bool, Field(examples=[False])]
Processes = Annotated[int, Field(gt=0, le=10_000)]
Trainings = Annotated[int, Field(gt=0, le=10_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Nothing = Annotated[dict[str, Any], Field(max_length=0)]  # {}: the key says it all
Ends = Annotated[tuple[float, ...], Field(min_length=2, max_length=2, strict=False)]
_LAYER = r"(pool|transition [1-9]\d{0,3}|(conv|dw) [1-9]\d{0,3}( skip)?)"
TinyLayers = Annotated[str, Field(pattern=f"^{_LAYER}(, {_LAYER})*$", max_length=10_000)]


class Dataset(Frozen):
    """Every key that DVC knows must be there: it runs no stage that depends on a key which params.yaml lacks."""

    name: DatasetName
    source: Annotated[str, Field(examples=[""])]
    image_size: Annotated[int, Field(ge=8, le=1024)]
    resize: Annotated[Literal["crop", "squash"], Field(examples=["crop"])]
    imbalance: Annotated[float, Field(ge=1, examples=[1.0])]
    train_fraction: Annotated[Share, Field(examples=[1.0])]
    normalise: Annotated[Literal["imagenet", "dataset"], Field(examples=["imagenet"])]
    attributes: str = ""  # whose subgroups the report scores: a CSV file with a column `image`; source: the data set's


class Split(Frozen):
    seed: Seed = 0
    val_fraction: Fraction = 0.2
    test_fraction: Fraction = 0.2
    duplicates: Literal["keep", "drop", "error"] = "keep"
    vary: Annotated[
        Literal["none", "validation", "split"],
        Field(description="what replicates draw anew: training and validation images, or with split test images too"),
    ] = "none"
    draws: Draws = 0  # of vary: so many different splits, of which replicate r has r % draws; 0: one for each replicate
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
    schedule: Annotated[str, OneOf(registry.SCHEDULES)] = "cosine"
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
    teacher: str | None = None  # a model, named in `teachers` too, whose answers are learnt beside the labels
    teacher_replicates: Literal["same", "all"] = "same"  # which teach: that of the same number, or all together
    teacher_temperature: Annotated[float, Field(gt=0, le=1000)] = 2.0  # by which logits are divided before they compare
    teacher_weight: Share = 0.5  # of the teacher's answers in the loss; the labels have the rest
    targets: Literal["labels", "votes"] = "labels"  # votes: the shares of FER+'s annotators, where the source has them
    keep_epochs: bool = False  # keep the weights of every epoch, for evaluate.inflation
    deterministic: bool = False  # the same bits again on a GPU, at some cost; a CPU gives them anyway
    fast: bool = True  # memory laid out for the processor, fused optimiser; false: the plain forms
    compile: Literal["none", "default", "reduce-overhead", "fused"] = "none"  # by torch; fused: own kernels on a CPU

    def plain(self) -> dict[str, Any]:
        """As trainings keep it: of one without a teacher nothing on teachers, as before there were any."""
        return self.model_dump(exclude=set() if self.teacher else set(TEACHING))


TEACHING = ("teacher", "teacher_replicates", "teacher_temperature", "teacher_weight")  # keys of `train`


# Of Dataset: where something lies on somebody's disk, which decides no training.
PLACES = {"source", "attributes"}
# Of Train: where and how fast a training runs and what it leaves, not what it does.
OF_THE_MACHINE = ("device", "devices", "deterministic", "fast", "compile", "keep_epochs")
SECTIONS: dict[str, type[BaseModel]] = {"split": Split, "augment": Augment, "train": Train}


def is_default(key: str, value: object) -> bool:
    """Whether a setting, by its dotted key and as JSON has it, is as it is where params.yaml does not name it."""
    part, _, name = key.partition(".")
    return part in SECTIONS and is_default_of(SECTIONS[part], name, value)


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
    n: Trainings | None = None  # trainings that the row's scores are the mean of; null: as the table says

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
        return self.model_dump(exclude={"model", "n"}, exclude_none=True)


class Published(Frozen):
    """A table of a paper, as printed, and the data set that its numbers are for."""

    table: str
    dataset: DatasetName
    model: str | None = None
    n: Trainings = 1  # trainings that its scores are the mean of, where the paper says so
    rows: Annotated[dict[str, PublishedRow], Field(min_length=1)]


class Dimension(Frozen):
    """One of: values between two ends, evenly drawn, by their logarithm or as whole numbers; or one of a list."""

    uniform: Ends | None = None
    log_uniform: Ends | None = None
    integer: Annotated[tuple[int, ...], Field(min_length=2, max_length=2, strict=False)] | None = None
    choice: Annotated[tuple[Any, ...], Field(min_length=1, max_length=1000, strict=False)] | None = None

    @property
    def kind(self) -> str:
        """Which of them it is."""
        return next(iter(self.model_dump(exclude_none=True)))

    @property
    def ends(self) -> tuple[float, float]:
        """The ends that values lie between; NaN of a choice."""
        low, high = self.uniform or self.log_uniform or self.integer or (math.nan, math.nan)
        return low, high


Space = dict[str, Dimension]  # by setting: train.lr, augment.strength, args.depth, or a key of a model


class Tune(Frozen):
    """Trials of settings, as many for every model; validation alone chooses among them."""

    trials: Annotated[tuple[Seed, ...], Field(max_length=10_000, strict=False, examples=[[]])]  # points of a sequence
    models: Annotated[dict[str, Space], Field(examples=[{}])]  # that are tuned: what is searched of each alone, or {}
    finalists: Annotated[tuple[Seed, ...], Field(max_length=10_000, strict=False, examples=[[]])]  # ranks: 0, 1, 2
    short_epochs: Epochs = 5  # of a trial where there are finalists: so many of a model's best are trained in full
    seed: Seed = 0  # of the sequence
    sampler: Literal["quasirandom", "random"] = "quasirandom"  # Sobol's scrambled points, or independent ones
    seconds: Annotated[float, Field(gt=0)] | None = None  # of training that count, of each model's trials in turn
    space: Space = {}  # of all of them
    families: dict[str, Space] = {}  # of the models of a family, beside it


class Evaluate(Frozen):
    """What is measured beside the scores; nothing selects by it."""

    onnx: Switch  # time each model in ONNX Runtime too, and compare its classes with PyTorch's
    inflation: bool = False  # by how much the score would be higher, had the epoch been chosen on the test images


class Corruptions(Frozen):
    """Test images corrupted in common ways, on which trained models are scored too; nothing trains on them."""

    replicates: Annotated[
        tuple[Seed, ...], Field(max_length=1000, strict=False, examples=[[]])
    ]  # that are scored on them, such as [0, 1, 2]; none: nothing is corrupted
    severities: Annotated[
        tuple[Annotated[int, Field(ge=1, le=5)], ...], Field(min_length=1, max_length=5, strict=False)
    ] = (1, 2, 3, 4, 5)
    seed: Seed = 0  # of what is drawn: noise, clouds, directions


class Verdict(Frozen):
    """What a difference between models has to be to matter; results other than the report do not depend on it."""

    margin: Rate = (
        0.0  # of macro-F1 and accuracy: models whose difference surely is below are practically equal; 0: none
    )


class Launch(Frozen):
    """What `versus launch` asks for; results do not depend on it."""

    workers: Processes | None = None  # trainings at a time; null: one for each GPU, else cores / 2, two at least
    retries: Annotated[int, Field(ge=0, le=1000)] = 2  # of a training that died
    slurm: dict[str, str | int] = {}  # options of sbatch: partition, gres, cpus-per-task, mem, time
