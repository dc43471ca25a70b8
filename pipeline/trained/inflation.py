"""What a score would have been, had the epoch been chosen on the test images: a common fault, measured on request.

Read by nobody who selects: evaluate scores the weights that validation chose, and beside them, apart, those of every
epoch that `train.keep_epochs` kept.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.base.errors import StageError
from pipeline.images import packed
from pipeline.images.form import Format
from pipeline.inference import forward
from pipeline.records.evaluation import EpochScores, Inflation, Peak
from pipeline.scoring import metrics

SCORES = ("accuracy", "macro_f1")


def inflation(
    folder: Path,
    network: nn.Module,
    images: packed.Images,
    form: Format,
    device: torch.device,
    config: dict[str, Any],
    honest: dict[str, float],
) -> Inflation | None:
    """Test scores of every epoch in `folder`/epochs, and of each score the highest beside the `honest` one.

    None where no epoch is chosen, for the weights are an average. Changes the weights of `network`.
    """
    if config["train"]["select"] == "average":
        return None
    files = sorted((folder / "epochs").glob("*.safetensors"))
    if len(files) != config["train"]["epochs"]:
        raise StageError(
            f"evaluate: {folder} has the weights of {len(files)} epochs, not of {config['train']['epochs']}; set"
            " train.keep_epochs: true and run `dvc repro`"
        )
    every = []
    for file in files:
        network.load_state_dict(load_file(file))
        predicted = forward.predict(network, images, form, device, config["train"]["batch_size"]).argmax(1)
        confusion = metrics.confusion_matrix(images.labels.numpy(), predicted.numpy(), len(config["classes"]))
        found = metrics.scores(confusion)
        every.append(EpochScores(int(file.stem), **{name: found[name] for name in SCORES}))
    peaks = {name: peak(every, name) for name in SCORES}
    return Inflation(every, peaks, {name: peaks[name].score - honest[name] for name in SCORES})


def peak(every: list[EpochScores], score: str) -> Peak:
    """The highest of a score; of equals, the first epoch's."""
    best = max(every, key=lambda each: getattr(each, score))
    return Peak(best.epoch, getattr(best, score))
