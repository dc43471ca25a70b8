"""Networks from their settings, and from the folder that train left."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.images import form


def construct(config: dict[str, Any], info: dict[str, Any], normalise: str) -> tuple[nn.Module, form.Format]:
    """The network that a resolved configuration describes, as it starts, and how it wants its images.

    `info` is what split says of the training images, `normalise` as in params.yaml.
    """
    (whole, crop), views = form.sides(config["image_size"], config["augment"]), config["augment"]["test_crops"]
    if views in (2, 10) and not info["flip"]:
        raise StageError(
            f"params.yaml: augment.test_crops: {views} shows mirror images, which this data set forbids; choose"
            f" {views // 2}"
        )
    network = networks.build(
        name=config["model"],
        classes=len(info["classes"]),
        image_size=crop or whole,
        seed=config["replicate"],
        **config["network"],
    )
    return network, form.format_for(whole, normalise, info["pixels"], networks.channels(network), crop, views)


def load(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A trained network with its configuration, as train left them in `folder`; StageError if they do not fit."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        whole, crop = form.sides(config["image_size"], config.get("augment", {}))
        network = networks.build(
            name=config["model"],
            classes=len(config["classes"]),
            image_size=crop or whole,
            seed=0,
            **{**config["network"], "pretrained": False},
        )
        network.load_state_dict(load_file(folder / "weights.safetensors"))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StageError(
            f"{folder}: damaged, or trained by another version of this code ({reason}); run"
            f" `dvc checkout --force {folder}` or `dvc repro train@{folder.name}`"
        ) from None
    return network, config


def image_format(config: dict[str, Any]) -> form.Format:
    """How the images of a trained network are to be presented to it."""
    mean, std = (tuple(config["normalise"][key]) for key in ("mean", "std"))
    augment = config.get("augment", {})
    whole, crop = form.sides(config["image_size"], augment)
    return form.Format(whole, mean, std, crop, augment.get("test_crops", 1))


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """What determined a training, as evaluations have it."""
    return {
        "dataset": {**config["data"], "image_size": config["image_size"]},
        "augment": config["augment"],
        "train": config["train"],
        "model": {
            **config["network"],
            "pretrained": networks.weights_name(config),
            "train_fraction": config["train_fraction"],
        },
    }
