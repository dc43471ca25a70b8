"""A params.yaml that is wrong is refused with the key, what it holds, and what it may hold."""

import copy
import datetime
import enum
import inspect
from pathlib import Path
from typing import Any

import pydantic
import pytest
from ruamel.yaml import YAML

from pipeline.base.errors import StageError
from pipeline.params import faults, registry, settings
from pipeline.params.read import load_params
from pipeline.params.study import Params
from pipeline.training.optim import schedule
from tests import repo

ROOT = Path(__file__).parents[2]
GOOD = """
dataset:
  {name: digits, source: "", image_size: 32, resize: crop, imbalance: 10, train_fraction: 1, normalise: imagenet}
split: {seed: 0, val_fraction: 0.2, test_fraction: 0.2}
replicates: [0, 1, 2]
augment:
  strength: 1.0
  flip: true
  minority: strong
  light: {crop: 0.2, aspect: 0.1, rotate: 0, jitter: 0.2, erase: 0.0}
  strong: {crop: 0.4, aspect: 0.2, rotate: 15, jitter: 0.4, erase: 0.5}
train: {epochs: 25, batch_size: 64, lr: 0.0003, warmup_epochs: 2, clip_norm: 1.0}
models:
  cnn: {family: timm, backbone: resnet18, dropout: 0.2, train: {lr: 0.001, warmup_epochs: 0}}
  hybrid: {family: hybrid, backbone: resnet18, dim: 96, heads: 3}
  tiny: {family: tiny, layers: [conv 8, dw 12, transition 8, pool, conv 8 skip], augment: {cutout: 10}}
published: []
tune: {trials: [], models: {}, finalists: []}
evaluate: {onnx: false}
corruptions: {replicates: []}
"""
TABLE = {"table": "Table 4", "dataset": "mnist", "rows": {"Blurpool": {"model": "blurpool", "accuracy": 0.9921}}}


class Gone(enum.Enum):
    """In place of a value: the key is taken away."""

    GONE = "gone"


GONE = Gone.GONE  # a name that is the same in every process of the tests


def keys(kind: type[pydantic.BaseModel]) -> str:
    return ", ".join(kind.model_fields)


TOP, PIPELINE = keys(Params), "crop, aspect, shift, rotate, jitter, erase"
AUGMENT, TRAIN = keys(settings.Augment), keys(settings.Train)  # a new technique has a key here
TIMM, HYBRID, TINY = keys(settings.TimmModel), keys(settings.HybridModel), keys(settings.TinyModel)
DATASETS, FAMILIES, LOSSES = (", ".join(names) for names in (registry.DATASETS, settings.FAMILIES, registry.LOSSES))
OPTIMIZERS, SCHEDULES = ", ".join(registry.OPTIMIZERS), ", ".join(schedule.SCHEDULES)
PLAIN = "wanted numbers, text, true, false, null, or lists of them"
LAYERS = "wanted layers such as conv 8, dw 12, conv 12 skip, transition 8, pool"
CNN = {"family": "timm", "backbone": "resnet18"}
ROW = (
    "model, n, accuracy, macro_f1, weighted_f1, balanced_accuracy, precision, recall, f1, parameters, flops,"
    " weight_bytes, cpu_seconds, train_seconds"
)


def published(**row: Any) -> list[dict[str, Any]]:
    return [TABLE | {"rows": {"25K": row}}]


FAULTS = [  # key, value, what follows "params.yaml: "
    # unknown and mistyped keys, at every level
    ("datset", {}, f"datset: unknown key; did you mean 'dataset'? choose from {TOP}"),
    ("zzz", 1, f"zzz: unknown key; choose from {TOP}"),
    (
        "dataset.imagesize",
        32,
        "dataset.imagesize: unknown key; did you mean 'image_size'? choose from name, source, image_size, resize,"
        " imbalance, train_fraction, normalise, attributes",
    ),
    (
        "split.seeds",
        0,
        "split.seeds: unknown key; did you mean 'seed'? choose from seed, val_fraction, test_fraction, duplicates,"
        " vary, draws, folds, folds_by",
    ),
    (
        "augment.strenght",
        1,
        f"augment.strenght: unknown key; did you mean 'strength'? choose from {AUGMENT}",
    ),
    (
        "augment.light.rotat",
        1,
        f"augment.light.rotat: unknown key; did you mean 'rotate'? choose from {PIPELINE}",
    ),
    ("augment.strong.hue", 0.1, f"augment.strong.hue: unknown key; choose from {PIPELINE}"),
    ("train.epoch", 3, f"train.epoch: unknown key; did you mean 'epochs'? choose from {TRAIN}"),
    ("models.cnn.dropot", 0.1, f"models.cnn.dropot: unknown key; did you mean 'dropout'? choose from {TIMM}"),
    ("models.cnn.dim", 96, f"models.cnn.dim: unknown key; choose from {TIMM}"),
    (
        "models.hybrid.feature_levels",
        3,
        f"models.hybrid.feature_levels: unknown key; did you mean 'feature_level'? choose from {HYBRID}",
    ),
    ("models.tiny.layer", [], f"models.tiny.layer: unknown key; did you mean 'layers'? choose from {TINY}"),
    ("models.tiny.backbone", "resnet18", f"models.tiny.backbone: unknown key; choose from {TINY}"),
    (
        "models.tiny.augment.cutuot",
        10,
        f"models.tiny.augment.cutuot: unknown key; did you mean 'cutout'? choose from {AUGMENT}",
    ),
    ("models.cnn.train.lrr", 1, f"models.cnn.train.lrr: unknown key; did you mean 'lr'? choose from {TRAIN}"),
    (
        "published",
        published(model="cnn", acuracy=0.9),
        f"published.0.rows.25K.acuracy: unknown key; did you mean 'accuracy'? choose from {ROW}",
    ),
    (
        "published",
        [TABLE | {"data": "mnist"}],
        "published.0.data: unknown key; did you mean 'dataset'? choose from table, dataset, model, n, rows",
    ),
    # missing keys
    ("published", published(accuracy=0.9), "published.0.rows.25K.model: missing; give it for the row or for the table"),
    (
        "published",
        published(model="cnn"),
        "published.0.rows.25K: has no number; give one or more, such as accuracy: 0.9",
    ),
    ("published", [{**TABLE, "rows": {}}], "published.0.rows: got {}; wanted one or more"),
    ("dataset", GONE, "dataset: missing; it is needed"),
    ("dataset.source", GONE, 'dataset.source: missing; it is needed, such as source: ""'),
    ("dataset.train_fraction", GONE, "dataset.train_fraction: missing; it is needed, such as train_fraction: 1.0"),
    ("published", GONE, "published: missing; it is needed, such as published: []"),
    ("tune", GONE, 'tune: missing; it is needed, such as tune: {"trials": [], "models": {}, "finalists": []}'),
    ("tune.trials", GONE, "tune.trials: missing; it is needed, such as trials: []"),
    ("evaluate", GONE, 'evaluate: missing; it is needed, such as evaluate: {"onnx": false}'),
    ("evaluate.onnx", GONE, "evaluate.onnx: missing; it is needed, such as onnx: false"),
    ("dataset.image_size", GONE, "dataset.image_size: missing; it is needed"),
    ("replicates", GONE, "replicates: missing; it is needed"),
    ("augment.light", GONE, "augment.light: missing; it is needed"),
    ("augment.strong.crop", GONE, "augment.strong.crop: missing; it is needed"),
    ("train.epochs", GONE, "train.epochs: missing; it is needed"),
    ("models.cnn.backbone", GONE, "models.cnn.backbone: missing; it is needed"),
    ("models.tiny.layers", GONE, "models.tiny.layers: missing; it is needed"),
    (
        "models.cnn.family",
        GONE,
        f"models.cnn.family: got None; choose from {FAMILIES}",
    ),
    # not among the choices
    (
        "dataset.name",
        "cifar",
        f"dataset.name: got 'cifar'; choose from {DATASETS}",
    ),
    (
        "published",
        [TABLE | {"dataset": "minst"}],
        f"published.0.dataset: got 'minst'; choose from {DATASETS}",
    ),
    ("dataset.resize", "stretch", "dataset.resize: got 'stretch'; choose from crop, squash"),
    ("augment.minority", "weak", "augment.minority: got 'weak'; choose from strong, light"),
    ("train.device", "gpu", "train.device: got 'gpu'; choose from auto, cpu, cuda, mps"),
    ("train.precision", "half", "train.precision: got 'half'; choose from auto, fp32, bf16, fp16"),
    ("train.optimizer", "adam", f"train.optimizer: got 'adam'; choose from {OPTIMIZERS}"),
    ("train.schedule", "steps", f"train.schedule: got 'steps'; choose from {SCHEDULES}"),
    ("train.sampler", "balanced", "train.sampler: got 'balanced'; choose from weighted, shuffle"),
    ("train.loss", "ce", f"train.loss: got 'ce'; choose from {LOSSES}"),
    ("train.class_weights", None, "train.class_weights: got None; choose from inverse, none"),
    ("train.select", "first", "train.select: got 'first'; choose from best, last, average"),
    ("train.average", "mean", "train.average: got 'mean'; choose from swa, ema"),
    (
        "models.cnn.train",
        {"compile": "fused", "fast": False},
        "models.cnn: train.compile: fused needs the layout of train.fast: true",
    ),
    ("train.tune", "heads", "train.tune: got 'heads'; choose from full, head, head_then_full"),
    ("augment.policy", "svhn", "augment.policy: got 'svhn'; choose from none, cifar10"),
    ("dataset.train_fraction", 0, "dataset.train_fraction: got 0; wanted greater than 0"),
    ("dataset.normalise", "mnist", "dataset.normalise: got 'mnist'; choose from imagenet, dataset"),
    (
        "models.cnn.augment",
        {"test_crops": 10},
        "models.cnn.augment.test_crops: 10 crops need augment.crop_size, which is 0",
    ),
    (
        "models.cnn.train",
        {"include_validation": True, "select": "best"},
        "models.cnn: train.include_validation: true leaves no images to choose an epoch on; choose train.select: last"
        " or average",
    ),
    (
        "models.cnn.train",
        {"include_validation": True, "select": "last", "targets": "votes"},
        "models.cnn: train.include_validation: true: validation images keep no votes; choose train.targets: labels",
    ),
    (
        "models.cnn.train",
        {"margin": "arcface", "margin_m": 0.5, "targets": "votes"},
        "models.cnn: train.targets: votes name no class for a margin or a centre; choose train.margin: none and"
        " train.center_loss: 0",
    ),
    ("train.margin", "cosface", "train.margin: got 'cosface'; choose from none, a_softmax, arcface"),
    (
        "models.cnn.train",
        {"margin": "a_softmax", "margin_m": 2.5},
        "models.cnn.train.margin_m: got 2.5; a_softmax wants 1, 2, 3 or 4",
    ),
    ("train.margin", "arcface", "train.margin_m: got 4; arcface wants radians below 1.57, such as 0.5"),
    (
        "models.cnn.pretrained",
        {"path": "w.safetensors", "sha256": "abc"},
        "models.cnn.pretrained.sha256: got 'abc'; wanted 64 hexadecimal digits, as sha256sum prints them",
    ),
    ("models.cnn.pretrained", {"path": "w.safetensors"}, "models.cnn.pretrained.sha256: missing; it is needed"),
    (
        "models.tiny.pretrained",
        {"path": "w.safetensors", "sha256": "0" * 64, "strict": True},
        "models.tiny.pretrained.strict: unknown key; choose from path, sha256",
    ),
    ("augment.crop_size", 44, "augment.crop_size: 44 is more than dataset.image_size, 32"),
    ("models.cnn.augment", {"crop_size": 33}, "models.cnn.augment.crop_size: 33 is more than dataset.image_size, 32"),
    (
        "models.cnn.family",
        "cnn",
        f"models.cnn.family: got 'cnn'; choose from {FAMILIES}",
    ),
    (
        "models.hybrid.pool",
        "avg",
        "models.hybrid.pool: got 'avg'; choose from attention, mean, max, class_token",
    ),
    ("models.cnn.train.loss", "ce", f"models.cnn.train.loss: got 'ce'; choose from {LOSSES}"),
    # of the wrong type
    ("dataset.source", 5, "dataset.source: got 5; wanted text"),
    ("dataset.image_size", 32.5, "dataset.image_size: got 32.5; wanted a whole number"),
    ("augment.flip", None, "augment.flip: got None; wanted true or false"),
    ("train.lr", "fast", "train.lr: got 'fast'; wanted a number"),
    ("models.cnn.backbone", 5, "models.cnn.backbone: got 5; wanted text"),
    ("split.seed", True, "split.seed: got True; wanted a whole number"),
    ("dataset.imbalance", True, "dataset.imbalance: got True; wanted a number"),
    ("dataset.image_size", "32", "dataset.image_size: got '32'; wanted a whole number"),
    ("augment.flip", "yes", "augment.flip: got 'yes'; wanted true or false"),
    ("models.cnn.pretrained", 1, "models.cnn.pretrained: got 1; wanted true or false or text or keys and values"),
    ("models.cnn.args", None, "models.cnn.args: got None; wanted keys and values"),
    ("models.tiny.layers", "conv 8", "models.tiny.layers: got 'conv 8'; wanted a list"),
    ("models.tiny.layers", [], "models.tiny.layers: got []; wanted one or more"),
    ("models.tiny.layers", ["conv 8", 8], "models.tiny.layers.1: got 8; wanted text"),
    ("models.cnn.blurpool", 1, "models.cnn.blurpool: got 1; wanted true or false"),
    ("models.tiny.augment.cutout", 2.5, "models.tiny.augment.cutout: got 2.5; wanted a whole number"),
    ("models.tiny.augment", None, "models.tiny.augment: got None; wanted keys and values"),
    ("replicates", 3, "replicates: got 3; wanted a list"),
    ("replicates", [], "replicates: got []; wanted one or more"),
    ("replicates", ["0"], "replicates.0: got '0'; wanted a whole number"),
    ("dataset", "digits", "dataset: got 'digits'; wanted keys and values"),
    ("models", {}, "models: got {}; wanted one or more"),
    # out of range
    ("dataset.image_size", 4, "dataset.image_size: got 4; wanted greater than or equal to 8"),
    ("dataset.image_size", 2000, "dataset.image_size: got 2000; wanted less than or equal to 1024"),
    ("dataset.imbalance", 0.5, "dataset.imbalance: got 0.5; wanted greater than or equal to 1"),
    ("dataset.imbalance", float("nan"), "dataset.imbalance: got nan; wanted a finite number"),
    ("dataset.imbalance", float("inf"), "dataset.imbalance: got inf; wanted a finite number"),
    ("split.vary", "test", "split.vary: got 'test'; choose from none, validation, split"),
    (
        "split",
        {"vary": "split", "folds": 5},
        "split.vary: split draws images anew, and so do split.folds; choose none, or split.folds: 0",
    ),
    (
        "split.draws",
        4,
        "split.draws: 4 splits, but split.vary is none; choose validation or split there, or 0 here",
    ),
    ("split", {"vary": "split", "draws": 1}, "split.draws: 1 varies nothing; choose 0 or at least 2"),
    ("split.seed", -1, "split.seed: got -1; wanted greater than or equal to 0"),
    ("split.val_fraction", 0, "split.val_fraction: got 0; wanted greater than 0"),
    ("split.test_fraction", 1, "split.test_fraction: got 1; wanted less than 1"),
    ("augment.strength", 3, "augment.strength: got 3; wanted less than or equal to 2"),
    ("augment.light.crop", 1.0, "augment.light.crop: got 1.0; wanted less than 1"),
    ("augment.light.erase", 1.1, "augment.light.erase: got 1.1; wanted less than or equal to 1"),
    ("augment.strong.rotate", 200, "augment.strong.rotate: got 200; wanted less than or equal to 180"),
    ("augment.strong.jitter", -0.1, "augment.strong.jitter: got -0.1; wanted greater than or equal to 0"),
    ("train.epochs", 0, "train.epochs: got 0; wanted greater than 0"),
    ("train.batch_size", 1, "train.batch_size: got 1; wanted greater than or equal to 2"),
    ("train.lr", 0, "train.lr: got 0; wanted greater than 0"),
    ("train.clip_norm", 0, "train.clip_norm: got 0; wanted greater than 0"),
    ("augment.cutout", -1, "augment.cutout: got -1; wanted greater than or equal to 0"),
    ("augment.mixup", -0.2, "augment.mixup: got -0.2; wanted greater than or equal to 0"),
    ("augment.light.shift", 1.0, "augment.light.shift: got 1.0; wanted less than 1"),
    ("train.sam", -0.05, "train.sam: got -0.05; wanted greater than or equal to 0"),
    ("train.average_start", 1, "train.average_start: got 1; wanted less than 1"),
    ("train.ema_decay", 1.0, "train.ema_decay: got 1.0; wanted less than 1"),
    ("models.cnn.squeeze_excite", 1.5, "models.cnn.squeeze_excite: got 1.5; wanted less than or equal to 1"),
    ("models.tiny.augment.mixup", -1, "models.tiny.augment.mixup: got -1; wanted greater than or equal to 0"),
    ("train.focal_gamma", -1, "train.focal_gamma: got -1; wanted greater than or equal to 0"),
    ("train.label_smoothing", 1, "train.label_smoothing: got 1; wanted less than 1"),
    ("models.cnn.dropout", 1, "models.cnn.dropout: got 1; wanted less than 1"),
    ("models.hybrid.depth", 0, "models.hybrid.depth: got 0; wanted greater than 0"),
    ("models.hybrid.token_grid", 0, "models.hybrid.token_grid: got 0; wanted greater than 0"),
    ("train.epochs", 10**30, f"train.epochs: got {10**30}; wanted less than or equal to 100000"),
    (
        "split.folds",
        1 << 10_000,
        "split.folds: got a whole number of about 3000 digits; wanted less than or equal to 1000",
    ),
    ("train.lr", 10**400, "train.lr: got a whole number of about 398 digits; wanted a number"),
    ("train.step_epochs", 100_001, "train.step_epochs: got 100001; wanted less than or equal to 100000"),
    ("train.batch_size", 10**7, "train.batch_size: got 10000000; wanted less than or equal to 1000000"),
    ("train.devices", 10**5, "train.devices: got 100000; wanted less than or equal to 10000"),
    ("split.folds", 10**4, "split.folds: got 10000; wanted less than or equal to 1000"),
    ("augment.cutout", 1025, "augment.cutout: got 1025; wanted less than or equal to 1024"),
    ("models.hybrid.depth", 10**6, "models.hybrid.depth: got 1000000; wanted less than or equal to 1000"),
    ("models.tiny.layers", ["conv 10000"], f"models.tiny.layers.0: got 'conv 10000'; {LAYERS}"),
    ("replicates", list(range(100_000)), "replicates: got 100,000 of them; wanted 1,000 or fewer"),
    (
        "models",
        {f"m{number}": CNN for number in range(1001)},
        "models: got 1,001 of them; wanted 1,000 or fewer",
    ),
    ("launch", {"retries": 10**6}, "launch.retries: got 1000000; wanted less than or equal to 1000"),
    ("models.cnn.train.lr", -1, "models.cnn.train.lr: got -1; wanted greater than 0"),
    (
        "published",
        published(model="cnn", accuracy=99.35),
        "published.0.rows.25K.accuracy: got 99.35; wanted less than or equal to 1",
    ),
    (
        "published",
        published(model="cnn", cpu_seconds=-1),
        "published.0.rows.25K.cpu_seconds: got -1; wanted greater than or equal to 0",
    ),
    # of values that do not go together
    ("models.hybrid.heads", 5, "models.hybrid.heads: 5 does not divide dim 96"),
    ("models.hybrid.dim", 100, "models.hybrid.heads: 3 does not divide dim 100"),
    ("replicates", [0, 1, 0], "replicates: [0, 1, 0] names a seed twice; give each once"),
    ("corruptions.replicates", [3], "corruptions.replicates: got 3, which no model has; choose from 0, 1, 2"),
    ("corruptions.replicates", [1, 1], "corruptions.replicates: [1, 1] names one twice; give each once"),
    ("dataset.name", "folder", "dataset.source: the data set 'folder' needs a folder, an archive or a URL"),
    ("train.epochs", 2, "train.warmup_epochs: 2 leaves none of 2 epochs: lower it"),
    ("models.cnn.train.warmup_epochs", 25, "models.cnn.train.warmup_epochs: 25 leaves none of 25 epochs: lower it"),
    (
        "models.cnn.train",
        {"device": "cpu", "precision": "fp16", "warmup_epochs": 0},
        "models.cnn: train.precision: fp16 needs a GPU; choose bf16 or fp32",
    ),
    # arguments that are settled elsewhere, or that a report cannot hold
    ("models.cnn.args", {"checkpoint_path": "w.pth"}, f"models.cnn.args.checkpoint_path: {faults.WEIGHTS}"),
    (
        "models.cnn.args",
        {"num_classes": 3},
        "models.cnn.args.num_classes: the data set's classes say how many; leave it out",
    ),
    ("models.cnn.args", {"drop_rate": 0.1}, "models.cnn.args.drop_rate: choose `dropout`"),
    ("models.cnn.args", {"device": "cuda"}, "models.cnn.args.device: choose train.device"),
    *(
        ("models.cnn.args", {"block_args": value}, f"models.cnn.args.block_args: got {shown}; {PLAIN}")
        for value, shown in (
            (float("nan"), "nan"),
            (datetime.date(2026, 1, 2), "the date 2026-01-02"),
            ({1: 2}, "{1: 2}"),
            ([b"x"], "[b'x']"),
            (
                {
                    "a",
                },
                "{'a'}",
            ),
        )
    ),
    # options that become lines of a batch script
    (
        "launch",
        {"slurm": {"partition": "gpu\nrm -r ~"}},
        "launch.slurm.partition: got 'gpu\\nrm -r ~'; wanted one line of text or a number",
    ),
    (
        "launch",
        {"slurm": {"mem\nrm": 3}},
        "launch.slurm: got 'mem\\nrm'; wanted an option of sbatch without its dashes",
    ),
    ("launch", {"slurm": {"output": "x"}}, "launch.slurm.output: `versus launch` sets it itself; leave it out"),
    # names that DVC, a path or an MLflow key would stumble over
    ("models.my-model", CNN, "models.my-model: use letters, digits and underscores, a letter first, 100 at most"),
    ("models.2cnn", CNN, "models.2cnn: use letters, digits and underscores, a letter first, 100 at most"),
    ("models.a/b", CNN, "models.a/b: use letters, digits and underscores, a letter first, 100 at most"),
    ("models.a b", CNN, "models.a b: use letters, digits and underscores, a letter first, 100 at most"),
    ("models.cnn@2", CNN, "models.cnn@2: use letters, digits and underscores, a letter first, 100 at most"),
]
SHAPES = [  # key, value, where the line says that the fault is
    ("", None, "top level: got None; wanted "),
    ("", ["dataset"], "top level: got ['dataset']; wanted "),
    ("augment.light", 0, "augment.light: got 0; wanted "),
    ("replicates", [0, "a"], "replicates.1: got 'a'; wanted "),
    ("models", [CNN], f"models: got [{CNN}]; wanted "),
    ("models.cnn", None, "models.cnn: got None; wanted "),
    ("models.cnn.args", [], "models.cnn.args: got []; wanted "),
    ("models.cnn.pretrained", 2.5, "models.cnn.pretrained: got 2.5; wanted "),
    ("models.cnn.train", [], "models.cnn.train: got []; wanted "),
    ("published", 3, "published: got 3; wanted "),
]


def edited(key: str, value: Any) -> Any:
    """GOOD's content with the value of one dotted key replaced, added or taken away; the empty key is all of it."""
    if not key:
        return value
    content = YAML(typ="safe", pure=True).load(GOOD)
    *outer, last = key.split(".")
    inner = content
    for name in outer:
        inner = inner[name]
    if value is GONE:
        del inner[last]
    else:
        inner[last] = copy.deepcopy(value)
    return content


@pytest.mark.parametrize(("key", "value", "line"), FAULTS, ids=lambda part: str(part)[:40])
def test_a_wrong_value_is_refused_in_one_line_that_says_where_what_and_what_instead(
    key: str, value: Any, line: str
) -> None:
    with pytest.raises(StageError) as fault:
        faults.parse(edited(key, value))
    assert str(fault.value) == f"params.yaml: {line}"


@pytest.mark.parametrize(("key", "value", "line"), SHAPES, ids=lambda part: str(part)[:40])
def test_something_of_another_shape_is_refused_where_it_stands(key: str, value: Any, line: str) -> None:
    with pytest.raises(StageError) as fault:
        faults.parse(edited(key, value))
    assert str(fault.value).startswith(f"params.yaml: {line}")


def test_folds_are_not_scored_on_corrupted_images() -> None:
    content = edited("corruptions.replicates", [0])
    content["split"]["folds"] = 5
    with pytest.raises(StageError, match=r"corruptions.replicates: each of split.folds is tested on images of its own"):
        faults.parse(content)


def test_every_fault_is_named_at_once() -> None:
    content = edited("train.optimizer", "adam")
    content["models"]["cnn"]["dropot"] = 0.1
    with pytest.raises(StageError) as fault:
        faults.parse(content)
    assert [line.split(":")[1].strip() for line in str(fault.value).splitlines()] == [
        "train.optimizer",
        "models.cnn.dropot",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"dataset: {name: digits", "not readable as YAML: while parsing a flow mapping"),
        (b"train: 1\ntrain: 2\n", 'not readable as YAML: while constructing a mapping.* found duplicate key "train"'),
        (b"\ttrain: 1\n", "not readable as YAML: .*cannot start any token"),
        (b"train: *before\n", "not readable as YAML: found undefined alias"),
        (b"train: \xff\xfe\n", "not readable as YAML: .*invalid start byte"),
        (b"", "top level: got None; wanted "),
        (b"# nothing here\n", "top level: got None; wanted "),
        (b"digits\n", "top level: got 'digits'; wanted "),
    ],
)
def test_a_file_that_is_no_params_yaml_is_refused_in_one_line(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(text)
    with pytest.raises(StageError, match=words) as fault:
        load_params(path)
    assert "\n" not in str(fault.value)
    assert "params.yaml" in str(fault.value)


def test_without_a_file_the_error_says_where_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match=r"params\.yaml: not found; run from a study's folder"):
        load_params()


@pytest.mark.parametrize("path", [study / "params.yaml" for study in repo.studies()], ids=lambda path: path.parent.name)
def test_every_study_here_is_valid(path: Path) -> None:
    study = load_params(path)
    for name in study.models:
        assert study.model_train(name).epochs > 0
        assert study.model_augment(name).light.crop >= 0


def test_a_model_overrides_the_protocol_for_itself_alone() -> None:
    study = faults.parse(edited("train.label_smoothing", 0.1))
    cnn, hybrid = study.model_train("cnn"), study.model_train("hybrid")
    assert (cnn.lr, cnn.warmup_epochs, cnn.label_smoothing, cnn.clip_norm) == (0.001, 0, 0.1, 1.0)
    assert hybrid == study.train
    assert (hybrid.lr, hybrid.warmup_epochs) == (0.0003, 2)


def test_a_model_overrides_the_augmentation_for_itself_alone() -> None:
    study = faults.parse(edited("augment.mixup", 0.2))
    own = study.model_augment("tiny")
    assert (own.cutout, own.mixup) == (10, 0.2)
    assert own.light == study.augment.light
    assert study.model_augment("cnn") == study.augment
    assert study.augment.cutout == 0


def test_a_model_may_train_on_images_as_they_are() -> None:
    study = faults.parse(edited("models.cnn.augment", {"strength": 0.0, "flip": False}))
    assert (study.model_augment("cnn").strength, study.model_augment("hybrid").strength) == (0.0, 1.0)


@pytest.mark.parametrize("average", ["swa", "ema"])
def test_an_override_can_select_the_average(average: str) -> None:
    study = faults.parse(edited("models.cnn.train", {"select": "average", "average": average, "warmup_epochs": 0}))
    assert (study.model_train("cnn").select, study.model_train("cnn").average) == ("average", average)
    assert study.model_train("hybrid").select == "best"


@pytest.mark.parametrize("layer", ["pool", "conv 8", "conv 8 skip", "dw 120", "dw 8 skip", "transition 12"])
def test_a_tiny_network_takes_its_layers_by_name(layer: str) -> None:
    model = faults.parse(edited("models.tiny.layers", ["conv 8", layer])).models["tiny"]
    assert model.model_dump()["layers"] == ("conv 8", layer)


@pytest.mark.parametrize(
    "layer",
    [
        "conv",
        "conv 0",
        "conv  8",
        "conv -8",
        "cnov 8",
        "Conv 8",
        "pool 2",
        "transition 8 skip",
        "conv 8 skips",
        "",
        "8",
    ],
)
def test_a_layer_of_another_kind_is_refused_with_those_there_are(layer: str) -> None:
    with pytest.raises(StageError) as fault:
        faults.parse(edited("models.tiny.layers", ["conv 8", layer]))
    assert str(fault.value) == f"params.yaml: models.tiny.layers.1: got {layer!r}; {LAYERS}"


def test_an_override_can_switch_clipping_off() -> None:
    assert faults.parse(edited("models.hybrid.train", {"clip_norm": None})).model_train("hybrid").clip_norm is None


def test_a_rows_model_goes_before_the_tables_and_need_not_be_in_the_study() -> None:
    table = TABLE | {"model": "cnn", "rows": {"25K": {"f1": 0.9}, "AlexNet": {"model": "alexnet", "parameters": 61e6}}}
    (found,) = faults.parse(edited("published", [table])).published
    assert [row.model or found.model for row in found.rows.values()] == ["cnn", "alexnet"]
    assert [row.numbers for row in found.rows.values()] == [{"f1": 0.9}, {"parameters": 61e6}]


def test_what_was_read_cannot_be_changed() -> None:
    study = faults.parse(edited("dataset.imbalance", 1))
    for part, key in ((study, "replicates"), (study.train, "lr"), (study.augment.light, "crop")):
        with pytest.raises(pydantic.ValidationError, match="frozen"):
            setattr(part, key, 1)


@pytest.mark.parametrize("pretrained", [True, False, "weights/resnet18.safetensors"])
def test_pretrained_takes_a_switch_or_a_path(pretrained: bool | str) -> None:
    model = faults.parse(edited("models.cnn.pretrained", pretrained)).models["cnn"]
    assert model.pretrained == pretrained
    assert type(model.pretrained) is type(pretrained)


# What loads weights


def test_every_way_in_which_timm_loads_weights_is_refused_in_args() -> None:
    """Its factory's own arguments, and its builder's: a new one in a later version must be placed here."""
    import timm
    from timm.models import build_model_with_cfg

    harmless = {"scriptable", "exportable", "no_jit", "model_cls", "variant", "model_cfg", "feature_cfg"}
    named = {*inspect.signature(timm.create_model).parameters, *inspect.signature(build_model_with_cfg).parameters}
    left = named - harmless - {"kwargs", "kwargs_filter"}
    assert left == {key for key in left if key in faults.RESERVED["timm"] and key in faults.RESERVED["hybrid"]}


@pytest.mark.parametrize("key", ["weights", "pretrained", "weights_backbone"])
def test_torchvisions_ways_are_refused_too(key: str) -> None:
    model = {"family": "torchvision", "backbone": "resnet18", "args": {key: "DEFAULT"}}
    with pytest.raises(StageError, match=rf"models\.cnn\.args\.{key}: what loads weights goes through `pretrained`"):
        faults.parse(edited("models.cnn", model))


# What DVC needs


def test_a_key_that_dvc_needs_is_needed_here() -> None:
    """DVC runs no stage that depends on a key which params.yaml lacks: check says so first."""
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    needed = {key.partition(".${")[0] for stage in stages.values() for key in stage.get("params", ())}
    assert {"dataset.train_fraction", "evaluate.onnx", "published"} <= needed
    for key in needed:
        with pytest.raises(StageError) as fault:
            faults.parse(edited(key, GONE))
        assert f"params.yaml: {key}: missing; it is needed" in str(fault.value)


def test_a_crop_is_no_larger_than_what_it_is_cut_from() -> None:
    with pytest.raises(StageError, match=r"augment\.crop_size: 999 is more than dataset\.image_size, 32"):
        faults.parse(edited("augment.crop_size", 999))
