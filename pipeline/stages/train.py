"""Train one model from one seed: `python -m pipeline.stages.train MODEL REPLICATE`.

Reads training and validation images only. Leaves models/<model>-<replicate>/ with weights.safetensors, config.json and
val_logits.npy, bytes that a rerun reproduces, and run.json: when, where and how long; with `train.keep_epochs` also
epochs/<number>.safetensors, which nothing selects by. With `train.include_validation` the validation images are trained
on too: then there are no val_logits.npy and no validation scores, for none would say anything of new images.
"""

import argparse

from pipeline.base.errors import StageError
from pipeline.base.git import commit
from pipeline.base.places import FIT, replicate_folder
from pipeline.images import packed
from pipeline.inference.device import keep_freed_memory
from pipeline.params.trials import tuned_params
from pipeline.tracking import runs
from pipeline.training import distributed, session
from pipeline.training.task import resolve


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.stages.train", description="Train one model from one seed."
    )
    parser.add_argument("model", help="a name below `models` in params.yaml")
    parser.add_argument("replicate", type=int, help="the seed of initialisation, order and augmentation")
    arguments = parser.parse_args()
    train(arguments.model, arguments.replicate)


def train(name: str, replicate: int) -> None:
    """Train a model of params.yaml from one seed; on several devices, in as many processes."""
    keep_freed_memory()
    study = tuned_params(name)
    if name not in study.models:
        raise StageError(f"train: no model {name!r} in params.yaml; choose from {', '.join(study.models)}")
    info = packed.read_info(replicate_folder(FIT, replicate))
    config = resolve(study, name, replicate, info)
    if distributed.trained_by_several(config["train"], "pipeline.stages.train", name, str(replicate)):
        return
    source = study.dataset.source or info["dataset"]
    session.train(session.Assignment(config, study.dataset.normalise, source, commit()), runs.training_run)


if __name__ == "__main__":
    distributed.stage(main)
