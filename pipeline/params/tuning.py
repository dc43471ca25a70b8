"""What is wrong with `tune` of params.yaml, apart from single keys."""

import difflib
from collections.abc import Iterator, Mapping

from pipeline.base.errors import StageError, shown
from pipeline.params.messages import quoted
from pipeline.params.settings import FAMILIES, Augment, Dimension, Space, Train
from pipeline.params.study import Params

Faults = Iterator[str]  # lines, which begin with a key
FIXED = {  # settings that no trial may change, and why
    "train.epochs": "every trial is to have as many; halve train.epochs for all",
    "train.device": "it decides no result",
    "train.devices": "it decides no result",
    "train.include_validation": "the validation images choose among the trials",
    "train.keep_epochs": "it decides no result",
    "train.teacher": "a teacher is trained before all who have one, and trials have none",
    "train_fraction": "every trial is to see as many images",
    "family": "another family is another model",
}
PARTS = {"train": list(Train.model_fields), "augment": list(Augment.model_fields)}


def tuning_faults(params: Params) -> Faults:
    """Faults of the whole of `tune`, then of each dimension of its spaces."""
    tune = params.tune
    for key, numbers in {"trials": tune.trials, "finalists": tune.finalists}.items():
        if len(set(numbers)) != len(numbers):
            yield f"tune.{key}: {list(numbers)} names one twice; give each once"
    for name in sorted(tune.models.keys() - params.models.keys()):
        yield f"tune.models.{shown(name)}: no such model; choose from {', '.join(params.models)}"
    for name in sorted(tune.families.keys() - FAMILIES.keys()):
        yield f"tune.families.{shown(name)}: no such family; choose from {', '.join(FAMILIES)}"
    spaces = _spaces(params).items()
    faults = [
        f"{where}.{fault}" for where, space in spaces for key in space for fault in _dimension_faults(key, space[key])
    ]
    yield from faults
    if tune.trials and not faults:
        yield from _study_faults(params)


def _study_faults(params: Params) -> Faults:
    """What keeps a study from being tuned."""
    if params.split.folds:
        yield (
            "tune.trials: with split.folds, the images that one fold tests on train another, so that trials would see"
            " them; tune without folds, write what was chosen into models, and then set split.folds"
        )
    if params.split.vary == "split":
        yield (
            "tune.trials: with split.vary: split, the images that one replicate tests on train another, so that trials"
            " would see them; choose validation, or tune first and write what was chosen into models"
        )
    if not params.tune.models:
        example = ", ".join(f"{name}: {{}}" for name in params.models)
        yield f"tune.models: empty, though there are trials; name the models that are tuned: {{{example}}}"
    if (most := max(params.tune.finalists, default=-1)) >= len(params.tune.trials):
        yield f"tune.finalists: {most} is no rank among {len(params.tune.trials)} trials; the best has rank 0"
    for name in params.models.keys() & params.tune.models.keys():
        if params.tune.finalists and params.tune.short_epochs >= (epochs := params.model_train(name).epochs):
            yield f"tune.short_epochs: {params.tune.short_epochs} is not shorter than {name}'s {epochs}; choose fewer"
        if not (space := params.space(name)):
            yield f"tune.space: empty for {name}; name settings, such as train.lr: {{log_uniform: [0.0001, 0.01]}}"
        yield from _end_faults(params, name, space)


def _spaces(params: Params) -> dict[str, Space]:
    """Every space of `tune`, by its place."""
    tune = params.tune
    found = {"tune.space": tune.space}
    found |= {f"tune.families.{name}": space for name, space in tune.families.items()}
    return found | {f"tune.models.{name}": space for name, space in tune.models.items()}


def _dimension_faults(key: str, dimension: Dimension) -> Faults:
    """What is wrong with one dimension, whatever the model."""
    part, _, rest = key.partition(".")
    if key in FIXED:
        yield f"{key}: no trial can change it: {FIXED[key]}; leave it out"
    elif rest and part not in (*PARTS, "args"):
        yield f"{shown(key)}: unknown setting; wanted a key of a model, or one of train, augment or args, as train.lr"
    elif part in PARTS and rest not in (known := PARTS[part]):
        hint = "".join(f"did you mean {each}? " for each in difflib.get_close_matches(rest, known, n=1))
        yield f"{shown(key)}: unknown setting; {hint}choose from {', '.join(known)}"
    given = dimension.model_dump(exclude_none=True)
    if len(given) != 1:
        found = f"{' and '.join(given)} together" if given else "none of them"
        yield f"{shown(key)}: has {found}; give one of uniform, log_uniform, integer, choice"
        return
    if dimension.choice:
        return
    low, high = dimension.ends
    if not low < high:
        yield f"{shown(key)}.{dimension.kind}: got {quoted([low, high])}; wanted a lower end and a higher one"
    elif dimension.log_uniform and low <= 0:
        yield f"{shown(key)}.log_uniform: got {quoted([low, high])}; wanted ends above 0"


def _end_faults(params: Params, name: str, space: Mapping[str, Dimension]) -> Faults:
    """What a model cannot take of the ends of its dimensions, or of their choices."""
    for key, dimension in space.items():
        for value in dimension.choice or dimension.ends:
            try:
                changed = params.having(name, {key: value})
                changed.model_train(name), changed.model_augment(name)
            except StageError as error:
                yield from (f"tune.space: {line.removeprefix('params.yaml: ')}" for line in str(error).splitlines())
