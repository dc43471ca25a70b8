"""Train one model from one seed: `python -m pipeline.stages.train MODEL REPLICATE`.

Reads training and validation images only. Leaves models/<model>-<replicate>/ with weights.safetensors, config.json and
val_logits.npy, bytes that a rerun reproduces, and run.json: when, where and how long; with `train.keep_epochs` also
epochs/<number>.safetensors, which nothing selects by. With `train.include_validation` the validation images are trained
on too: then there are no val_logits.npy and no validation scores, for none would say anything of new images.
With `--teacher` all this is left in data/teachers, before the trainings that it teaches (`train.teacher`); the
teacher's own training then takes it from there.
"""

import argparse
import os
from pathlib import Path

from pipeline.base.errors import StageError
from pipeline.base.git import commit
from pipeline.base.places import FIT, own_study, replicate_folder
from pipeline.images import packed
from pipeline.inference.device import keep_freed_memory
from pipeline.params.trials import tuned_params
from pipeline.records.before import Before
from pipeline.tracking import runs
from pipeline.training import distributed, session
from pipeline.training.task import resolve, with_teachers

NAMED = Path("data/weights")  # a file for each model of params.yaml


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.stages.train", description="Train one model from one seed."
    )
    parser.add_argument("model", help="a name below `models` in params.yaml")
    parser.add_argument("replicate", type=int, help="the seed of initialisation, order and augmentation")
    parser.add_argument("--teacher", action="store_true", help="train it before those that it teaches")
    arguments = parser.parse_args()
    train(arguments.model, arguments.replicate, arguments.teacher)


def train(name: str, replicate: int, teaches: bool = False) -> None:
    """Train a model of params.yaml from one seed; on several devices, in as many processes."""
    keep_freed_memory()
    study, earlier = tuned_params(name), Before.of(f"{name}-{replicate}")
    if name not in study.models:
        raise StageError(f"train: no model {name!r} in params.yaml; choose from {', '.join(study.models)}")
    if earlier.itself and not teaches:
        if distributed.first_host() and os.environ.get("RANK", "0") == "0":  # the others find it in the same folder
            session.adopt(earlier)
        return
    info = packed.read_info(replicate_folder(FIT, replicate))
    config = with_teachers(resolve(study, name, replicate, info))
    which = [name, str(replicate), *["--teacher"] * teaches]
    if distributed.trained_by_several(config["train"], "pipeline.stages.train", *which):
        return
    source = study.dataset.source or info["dataset"]
    names = () if teaches or distributed.launched() else former(replicate)  # a teacher's training is left elsewhere
    assignment = session.Assignment(config, study.dataset.normalise, source, commit(), teaches=teaches, former=names)
    session.train(assignment, runs.training_run)


def former(replicate: int) -> tuple[Path, ...]:
    """What models/ has of this replicate, of models that the study names no more: one may have been renamed.

    Where this is a copy, as a job of `versus launch` has it, the user's own models/ has them.

    Which it names is told by the files that `source` leaves, not by params.yaml: they change no result, and another
    model in it is no reason to train this one again.
    """
    folders = [folder for folder in (NAMED, own_study() / NAMED) if folder.is_dir()]  # of a copy, its own model's alone
    named = {path.name for folder in folders for path in folder.iterdir()} if folders else None
    found = sorted((own_study() / "models").glob(f"*-{replicate}"))
    return tuple(path for path in found if named is not None and path.name.rpartition("-")[0] not in named)


if __name__ == "__main__":
    distributed.stage(main)
