"""Teachers, models whose answers others learn (`train.teacher`): which trainings need which, and what is wrong."""

from collections.abc import Iterator

from pipeline.base.errors import shown
from pipeline.params.study import Params

Faults = Iterator[str]  # lines, which begin with a key


def needed(params: Params) -> dict[str, list[str]]:
    """For each training those that were before it: its teachers', or it itself where it teaches."""
    return {
        f"{name}-{replicate}": [f"{name}-{replicate}"] * (name in params.teachers)
        or params.teachers_of(name, replicate)
        for name in params.models
        for replicate in params.replicates
    }


def teaching_faults(params: Params) -> Faults:
    """Faults of a study whose models are in order, each for itself."""
    for name in sorted(params.teachers.keys() - params.models.keys()):
        yield f"teachers.{shown(name)}: no such model; choose from {', '.join(params.models)}"
    taught = {params.model_train(name).teacher for name in params.models}
    for name in sorted(params.teachers.keys() & params.models.keys() - taught):
        if params.tuned(name):
            yield f"teachers.{shown(name)}: trials would search its settings, and it trains before them; take it out"
    for name in params.models:
        if teacher := params.model_train(name).teacher:
            where = f"models.{name}: train.teacher: {shown(teacher)}"
            faults = list(_teacher_faults(params, name, teacher)) or [
                *_image_faults(params, name, teacher),
                *_protocol_faults(params, name, teacher),
            ]
            yield from (f"{where}{fault}" for fault in faults)


def _teacher_faults(params: Params, name: str, teacher: str) -> Faults:
    """Why a model cannot teach another, whatever their settings."""
    if teacher not in params.models:
        yield f": no such model; choose from {', '.join(params.models)}"
    elif teacher == name:
        yield f": teaches itself; name another model, or null in models.{name}.train"
    elif other := params.model_train(teacher).teacher:
        yield (
            f": has a teacher itself, {shown(other)}, and teachers are trained before all who have one; set"
            f" models.{teacher}.train.teacher: null"
        )
    elif teacher not in params.teachers:
        yield f": is not among `teachers`, by which DVC trains it first; add teachers: {{{teacher}: {{}}}}"


def _image_faults(params: Params, name: str, teacher: str) -> Faults:
    """What a student would learn of images that are kept from it, and what its teacher cannot look at."""
    train, teaching = params.model_train(name), params.model_train(teacher)
    own_images = "folds" if params.split.folds else "vary" if params.split.vary != "none" else ""
    if train.teacher_replicates == "all" and own_images:
        yield (
            f": with split.{own_images}, images that one replicate learns are another's to be validated or tested on;"
            " choose train.teacher_replicates: same"
        )
    if teaching.include_validation and not train.include_validation:
        yield (
            f": was trained on the validation images, by which {name} is chosen; set include_validation alike for both"
        )
    if params.models[teacher].train_fraction > params.models[name].train_fraction:
        yield f": sees more training images than {name} has; give both the same train_fraction"
    if len({_sides(params, each) for each in (name, teacher)}) > 1:
        yield f": looks at the images that {name} is trained on; give both the same augment.crop_size and crop_of"
    if len({_channels(params, each) for each in (name, teacher)}) > 1:
        yield f": looks at the images that {name} is trained on; give both networks the same number of channels"


def _protocol_faults(params: Params, name: str, teacher: str) -> Faults:
    """What does not go together with being taught, or with teaching."""
    if (tune := params.model_train(name).tune) != "full":
        yield f": {name} is trained by parts (train.tune: {tune}), its features computed once; choose train.tune: full"
    for each in (name, teacher):
        if params.tuned(each):
            yield (
                f": trials would search settings of {each}, and have no teacher; tune first, write what was chosen into"
                f" models, and take {each} out of tune.models"
            )


def _sides(params: Params, name: str) -> tuple[int, int]:
    """The sides of the crop that a network sees, and of the image that it is taken of; 0 where it sees the whole."""
    augment = params.model_augment(name)
    return augment.crop_size, (augment.crop_of or params.dataset.image_size) if augment.crop_size else 0


def _channels(params: Params, name: str) -> int:
    """How many channels a network sees, as far as its settings tell."""
    model = params.models[name]
    return int(getattr(model, "in_channels", 0) or getattr(model, "args", {}).get("in_chans", 3))
