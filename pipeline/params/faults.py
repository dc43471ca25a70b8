"""What no single key shows to be wrong: settings that contradict each other, and what no study could mean.

Each check yields the faults that it finds, in the order in which they are told.
"""

import math
import re
from collections.abc import Iterator, Mapping

from pipeline.base.errors import StageError, shown
from pipeline.params.messages import quoted, validated
from pipeline.params.settings import HybridModel, Train
from pipeline.params.study import Params
from pipeline.params.teaching import teaching_faults
from pipeline.params.tuning import tuning_faults

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
ONE_PROCESS = {"tune": "full", "margin": "none", "center_loss": 0.0}  # key of `train` -> what several processes take
MOST_TRAININGS = 10_000  # of a study: each is a handful of stages, which DVC reads again and again
Faults = Iterator[str]  # lines, which begin with a key


def parse(content: object) -> Params:
    """Check the content of a params.yaml; raises StageError with one line per fault."""
    params = validated(Params, content, "")
    faults = list(_repeated_seeds(params))
    for name in params.models:
        faults += model_faults(params, name)
    for check in (
        *(_too_many_trainings, _launch_faults, _fold_faults, _vary_faults, _source_faults),
        *(_corruption_faults, _published_faults),
    ):
        faults += check(params)
    faults += tuning_faults(params)
    faults += [] if faults else teaching_faults(params)
    if faults:
        raise StageError("\n".join(f"params.yaml: {fault}" for fault in dict.fromkeys(faults)))
    return params


# the study


def _repeated_seeds(params: Params) -> Faults:
    if len(set(params.replicates)) != len(params.replicates):
        yield f"replicates: {list(params.replicates)} names a seed twice; give each once"


def _too_many_trainings(params: Params) -> Faults:
    for key, count in {"replicates": len(params.replicates), "tune.trials": len(params.tune.trials)}.items():
        trainings = len(params.models) * count
        if trainings > MOST_TRAININGS:
            yield (
                f"{key}: {len(params.models):,} models x {count:,} {key.removeprefix('tune.')} are {trainings:,}"
                f" trainings, more than the {MOST_TRAININGS:,} that one study can have"
            )


def _corruption_faults(params: Params) -> Faults:
    wanted = params.corruptions
    for key, values in {"replicates": wanted.replicates, "severities": wanted.severities}.items():
        if len(set(values)) != len(values):
            yield f"corruptions.{key}: {list(values)} names one twice; give each once"
    if unknown := sorted(set(wanted.replicates) - set(params.replicates)):
        have = ", ".join(map(str, params.replicates))
        yield f"corruptions.replicates: got {unknown[0]}, which no model has; choose from {have}"
    if wanted.replicates and params.split.folds:
        yield "corruptions.replicates: each of split.folds is tested on images of its own; choose [], or split.folds: 0"


def _launch_faults(params: Params) -> Faults:
    yield from (f"launch.{fault}" for fault in slurm_faults(params.launch.slurm))


def _fold_faults(params: Params) -> Faults:
    folds = params.split.folds
    if folds == 1:
        yield "split.folds: 1 leaves nothing to train on; choose 0 or at least 2"
    elif folds and max(params.replicates) >= folds:
        yield f"replicates: {max(params.replicates)} is no fold; split.folds gives 0 to {folds - 1}"


def _vary_faults(params: Params) -> Faults:
    vary, draws, folds = params.split.vary, params.split.draws, params.split.folds
    if vary != "none" and folds:
        yield f"split.vary: {vary} draws images anew, and so do split.folds; choose none, or split.folds: 0"
    if vary == "none" and draws:
        yield f"split.draws: {draws} splits, but split.vary is none; choose validation or split there, or 0 here"
    elif draws == 1:
        yield "split.draws: 1 varies nothing; choose 0 or at least 2"


def _source_faults(params: Params) -> Faults:
    if params.dataset.name == "folder" and not params.dataset.source:
        yield "dataset.source: the data set 'folder' needs a folder, an archive or a URL"


def _published_faults(params: Params) -> Faults:
    for index, table in enumerate(params.published):
        for name, row in table.rows.items():
            where = f"published.{index}.rows.{name}"
            if not (row.model or table.model):
                yield f"{where}.model: missing; give it for the row or for the table"
            if not row.numbers:
                yield f"{where}: has no number; give one or more, such as accuracy: 0.9"


def slurm_faults(options: Mapping[str, str | int]) -> Faults:
    """What is wrong with options of sbatch: each becomes a line of the batch script, `#SBATCH --key=value`."""
    for key, value in options.items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", key):
            yield f"slurm: got {quoted(key)}; wanted an option of sbatch without its dashes"
        elif key.replace("_", "-") in OURS_OF_SLURM:
            yield f"slurm.{key}: `versus launch` sets it itself; leave it out"
        elif re.search(r"[\x00-\x1f\x7f]", str(value)[:10_000]) or len(str(value)) > 1000:
            yield f"slurm.{key}: got {quoted(value)}; wanted one line of text or a number"


# a model


def model_faults(params: Params, name: str) -> list[str]:
    """What is wrong with a model, and with its training once its settings are known."""
    faults = [fault for check in (_name_faults, _head_faults, _argument_faults) for fault in check(params, name)]
    try:
        faults += _crop_faults(params, name)
        train = params.model_train(name)
    except StageError as error:
        return faults + [line.removeprefix("params.yaml: ") for line in str(error).splitlines()]
    return faults + [fault for check in OF_TRAINING for fault in check(params, name, train)]


def _name_faults(params: Params, name: str) -> Faults:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,99}", name):
        yield f"models.{shown(name)}: use letters, digits and underscores, a letter first, 100 at most"
    if twin := next((other for other in params.models if other < name and other.lower() == name.lower()), ""):
        yield (
            f"models.{name}: differs from {twin} in case alone, which not every disk and data base tells apart; rename"
            " one"
        )


def _head_faults(params: Params, name: str) -> Faults:
    model = params.models[name]
    if isinstance(model, HybridModel) and model.dim % model.heads:
        yield f"models.{name}.heads: {model.heads} does not divide dim {model.dim}"


def _argument_faults(params: Params, name: str) -> Faults:
    """What is wrong with a backbone's `args`: keys that have a place of their own, values that no report can hold."""
    model = params.models[name]
    for key, value in getattr(model, "args", {}).items():
        where = f"models.{name}.args.{key}"
        if key in RESERVED[model.family]:
            yield f"{where}: {RESERVED[model.family][key]}"
        elif not _is_json(value):
            yield f"{where}: got {quoted(value)}; wanted numbers, text, true, false, null, or lists of them"


def _is_json(value: object, depth: int = 0) -> bool:
    """Whether a value is the same in JSON, which is where a trained network's settings are kept."""
    if isinstance(value, dict):
        return depth < 10 and all(isinstance(key, str) and _is_json(each, depth + 1) for key, each in value.items())
    if isinstance(value, list):
        return depth < 10 and all(_is_json(each, depth + 1) for each in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | str) or (isinstance(value, int) and abs(value) < 2**63)


def _crop_faults(params: Params, name: str) -> Faults:
    augment = params.model_augment(name)
    whole = augment.crop_of or params.dataset.image_size
    own = f"models.{name}." if {"crop_size", "crop_of", "test_crops"} & params.models[name].augment.keys() else ""
    of = "augment.crop_of" if augment.crop_of else "dataset.image_size"
    if augment.crop_size > whole:
        yield f"{own}augment.crop_size: {augment.crop_size} is more than {of}, {whole}"
    elif augment.test_crops > 2 and not augment.crop_size:
        yield f"{own}augment.test_crops: {augment.test_crops} crops need augment.crop_size, which is 0"


# its training


def _tuning_faults(params: Params, name: str, train: Train) -> Faults:
    """What is wrong with training a part of a model."""
    where = f"models.{name}: train.tune: {train.tune}"
    if train.tune == "full":
        return
    if isinstance(params.models[name], HybridModel):
        yield f"{where}: a hybrid's transformer starts from scratch, so that it is not for freezing; choose full"
        return
    if train.select == "average":
        yield f"{where} keeps BatchNorm's statistics, which train.select: average computes anew; choose best or last"
    if train.tune == "head_then_full" and train.head_epochs >= train.epochs:
        yield f"{where}: train.head_epochs: {train.head_epochs} leaves none of {train.epochs} epochs: lower it"


def _precision_faults(_: Params, name: str, train: Train) -> Faults:
    if train.precision == "fp16" and train.device == "cpu":
        yield f"models.{name}: train.precision: fp16 needs a GPU; choose bf16 or fp32"


def _warmup_faults(params: Params, name: str, train: Train) -> Faults:
    if train.warmup_epochs >= train.epochs:
        place = _place(params, name, "warmup_epochs", "epochs")
        yield f"{place}.warmup_epochs: {train.warmup_epochs} leaves none of {train.epochs} epochs: lower it"


def _margin_faults(params: Params, name: str, train: Train) -> Faults:
    wanted = {"a_softmax": "1, 2, 3 or 4", "arcface": "radians below 1.57, such as 0.5"}.get(train.margin, "")
    fits = train.margin_m in (1, 2, 3, 4) if train.margin == "a_softmax" else train.margin_m < 1.57
    if wanted and not fits:
        place = _place(params, name, "margin", "margin_m")
        yield f"{place}.margin_m: got {train.margin_m:g}; {train.margin} wants {wanted}"


def _batch_faults(params: Params, name: str, train: Train) -> Faults:
    if train.batch_size < 2 * train.devices:
        yield (
            f"{_place(params, name, 'batch_size', 'devices')}.batch_size: {train.batch_size} leaves a device fewer than"
            f" two images of each batch; choose {2 * train.devices} or more for {train.devices} devices"
        )


def _validation_faults(_: Params, name: str, train: Train) -> Faults:
    """What is wrong with training on the validation images too: what still asks them, or wants their votes."""
    where = f"models.{name}: train.include_validation: true"
    if train.include_validation and train.select == "best":
        yield f"{where} leaves no images to choose an epoch on; choose train.select: last or average"
    if train.include_validation and train.targets == "votes":
        yield f"{where}: validation images keep no votes; choose train.targets: labels"


def _inflation_faults(params: Params, _: str, train: Train) -> Faults:
    if params.evaluate.inflation and not train.keep_epochs:
        yield "evaluate.inflation: needs the weights of all epochs; set train.keep_epochs"


def _compile_faults(_: Params, name: str, train: Train) -> Faults:
    if train.compile != "none" and (_of_one_process(train) or train.devices > 1):
        yield (
            f"models.{name}: train.compile: {train.compile} is for networks that are trained whole, in one process,"
            " without margin and centres; choose none"
        )
    if train.compile == "fused" and not train.fast:
        yield f"models.{name}: train.compile: fused needs the layout of train.fast: true"


def _vote_faults(_: Params, name: str, train: Train) -> Faults:
    if train.targets == "votes" and (train.margin != "none" or train.center_loss):
        yield (
            f"models.{name}: train.targets: votes name no class for a margin or a centre; choose train.margin: none and"
            " train.center_loss: 0"
        )


def _device_faults(_: Params, name: str, train: Train) -> Faults:
    for key in _of_one_process(train) if train.devices > 1 else ():
        yield (
            f"models.{name}: train.{key}: {getattr(train, key)} is for one process; choose {ONE_PROCESS[key]}, or"
            " train.devices: 1"
        )


def _of_one_process(train: Train) -> list[str]:
    """The keys whose values several processes cannot have."""
    return [key for key, plain in ONE_PROCESS.items() if getattr(train, key) != plain]


def _place(params: Params, name: str, *keys: str) -> str:
    """Where a fault of a training is to be mended: in the model's own settings if they have one of the keys."""
    return f"models.{name}.train" if set(keys) & params.models[name].train.keys() else "train"


OF_TRAINING = (
    _tuning_faults,
    _precision_faults,
    _warmup_faults,
    _margin_faults,
    _batch_faults,
    _validation_faults,
    _inflation_faults,
    _compile_faults,
    _vote_faults,
    _device_faults,
)
