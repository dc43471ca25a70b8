"""What a training is of, resolved from params.yaml: network, images, recipe, loss, optimizer and epochs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pipeline.base.errors import StageError
from pipeline.base.files import sha256
from pipeline.base.places import BEFORE, find
from pipeline.images import packed
from pipeline.images.recipe import Recipe
from pipeline.images.recipe import recipe as recipe_recipe
from pipeline.images.subset import subset
from pipeline.inference import loading
from pipeline.records.before import Before
from pipeline.training import fit, teachers
from pipeline.training.precision import sound_precision

if TYPE_CHECKING:
    from pipeline.params.study import Params


@dataclasses.dataclass(frozen=True)
class Task:
    """What a training works on."""

    network: nn.Module  # as it starts
    recipe: Recipe
    train_images: packed.Images
    val_images: packed.Images | None  # None: they are among the training images
    precision: str  # settled
    teachers: Sequence[nn.Module] = ()


def prepared(config: dict[str, Any], folder: Path, info: dict[str, Any], normalise: str, device: torch.device) -> Task:
    """The task of a resolved configuration on the packed images in `folder`."""
    network, form = loading.construct(config, info, normalise)
    images, val_images = packed.read(folder, "train_"), packed.read(folder, "val_")
    if config["train"]["targets"] == "votes":
        images = packed.with_votes(images, folder)
    train_images = fraction_of(images, config["train_fraction"], info["seed"])
    including = config["train"]["include_validation"]
    augment, covariance = config["augment"], info["pixels"]["covariance"]
    return Task(
        network=network,
        recipe=recipe_recipe(form, info["classes"], info["minority"], augment, info["flip"], device, covariance),
        train_images=packed.joined(train_images, val_images) if including else train_images,
        val_images=None if including else val_images,
        precision=sound_precision(config["train"]["precision"], device, network, form.size),
        teachers=teachers.load(taught_by(config), info["classes"], form),
    )


def taught_by(config: dict[str, Any]) -> list[Path]:
    """The folders of the networks that teach a training, by its resolved configuration."""
    return [BEFORE / f"{config['model']}-{config['replicate']}" / each for each in config.get("teachers", ())]


def with_teachers(config: dict[str, Any]) -> dict[str, Any]:
    """A resolved configuration with the SHA-256 of its teachers' weights; as it is where it has no teacher."""
    if not config["train"].get("teacher"):
        return config
    return {**config, "teachers": Before.of(f"{config['model']}-{config['replicate']}").teachers()}


def trainer(task: Task, config: dict[str, Any], device: torch.device) -> fit.Trainer:
    """What trains a task by its resolved configuration."""
    return fit.Trainer(
        task.network,
        task.train_images,
        task.val_images,
        task.recipe,
        {**config["train"], "precision": task.precision},
        classes=len(config["classes"]),
        seed=config["replicate"],
        device=device,
        teachers=task.teachers,
    )


def resolve(study: "Params", name: str, replicate: int, info: dict[str, Any]) -> dict[str, Any]:
    """Everything that determines a training, as plain values."""
    model, network = study.models[name], study.network(name)
    fraction, given = model.train_fraction, network["pretrained"]
    overrides = model.train | model.augment | ({"train_fraction": fraction} if fraction < 1 else {})
    return {
        "model": name,
        "replicate": replicate,
        "classes": info["classes"],
        "image_size": study.dataset.image_size,
        "data": {key: info[key] for key in ("dataset", "title", "variant", "digest")},
        "network": network,
        "train_fraction": fraction,
        **({"subset_seed": info["seed"]} if fraction < 1 else {}),  # which images it is, that the data's digest lacks
        "train": study.model_train(name).plain(),
        "overrides": overrides,
        "augment": study.model_augment(name).model_dump(),
        "weights_sha256": file_digest(find(given) or given) if isinstance(given, str) else None,
    }


def fraction_of(images: packed.Images, fraction: float, seed: int) -> packed.Images:
    """A stratified subset by the split's seed; of one fraction every model and replicate sees the same images."""
    if fraction == 1:
        return images
    return packed.rows(images, torch.from_numpy(subset(images.labels.numpy(), fraction, seed)))


def file_digest(path: str | Path) -> str:
    try:
        return sha256(Path(path).expanduser())
    except OSError as error:
        raise StageError(f"{path}: cannot be read ({error.strerror}); give a path from the study's folder") from None
