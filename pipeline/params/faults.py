"""What no single key shows to be wrong: settings that contradict each other, and what only an experiment could mean."""

import math
import re
from collections.abc import Mapping
from typing import Any

from pipeline.base.errors import StageError, shown
from pipeline.params.messages import _shown, _validate
from pipeline.params.settings import HybridModel, Train
from pipeline.params.study import Params

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
MOST_TRAININGS = 10_000  # of a study: each is a handful of stages, which DVC reads again and again


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
