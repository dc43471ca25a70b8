"""Train one model by settings that were drawn: `python -m pipeline.stages.trial MODEL TRIAL`.

Reads training and validation images only, those of the first replicate. Leaves data/trials/<model>-<trial>.json: what
validation says of it, and what it cost. Its weights are not kept.
"""

import argparse
from pathlib import Path

from pipeline.base.files import written_whole
from pipeline.base.git import commit
from pipeline.base.places import FIT, replicate_folder
from pipeline.base.process import run
from pipeline.params.read import load_params
from pipeline.params.study import Params
from pipeline.params.trials import DRAWN, RESULTS, Trial
from pipeline.records.tuning import TrialResult


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.stages.trial", description="Try settings of one model.")
    parser.add_argument("model", help="a name below `models` in params.yaml")
    parser.add_argument("trial", type=int, help="one of `tune.trials` in params.yaml")
    arguments = parser.parse_args()
    name = f"{arguments.model}-{arguments.trial}.json"
    tried(Trial.read(DRAWN / name), RESULTS / name)


def tried(trial: Trial, left: Path) -> None:
    """Train what was drawn; on several devices, in as many processes."""
    from pipeline.images import packed
    from pipeline.inference.device import keep_freed_memory, pick_device
    from pipeline.tracking import runs
    from pipeline.training import distributed, resume, session
    from pipeline.training.task import resolve
    from pipeline.training.trial import Attempt, attempt

    keep_freed_memory()
    study = load_params()
    split = study.replicates[0]
    info = packed.read_info(replicate_folder(FIT, split))
    config = resolve(having(study, trial), trial.model, trial.seed, info)
    devices = config["train"]["devices"]
    if devices > 1 and not distributed.launched():
        kind = pick_device(config["train"]["device"]).type
        distributed.spawn(devices, kind, "pipeline.stages.trial", trial.model, str(trial.number))
        return
    source = study.dataset.source or info["dataset"]
    assignment = session.Assignment(config, study.dataset.normalise, source, commit(), split)
    result = attempt(Attempt(assignment, trial.number, trial.settings), runs.trial_run)
    if result is None:
        return
    with written_whole(left) as partial:
        result.write(partial)
    resume.discard(result.key)
    print(told(result))


def having(study: Params, trial: Trial) -> Params:
    """The study by the settings of a trial; its validation images choose, so that they are not trained on."""
    changed = study.having(trial.model, trial.settings)
    if changed.model_train(trial.model).include_validation:
        changed = changed.having(trial.model, {"train.include_validation": False})
    return changed


def told(result: TrialResult) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in result.settings.items())
    found = (
        f"diverged: {result.reason}"
        if result.val_macro_f1 is None
        else f"validation macro-F1 {result.val_macro_f1:.4f}"
    )
    return (
        f"trial: {result.model} {result.trial} ({settings}) {found}, {result.seconds:.1f} s on {result.machine.device}"
    )


if __name__ == "__main__":
    from pipeline.training import distributed

    if distributed.launched():
        distributed.run(main)
    else:
        run(main, alone=distributed.first_host())  # the others run the same stage at the same time
