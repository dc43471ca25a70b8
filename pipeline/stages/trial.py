"""Train one model by settings that were drawn: `python -m pipeline.stages.trial MODEL TRIAL`.

Reads training and validation images only, those of the first replicate. Leaves data/trials/<model>-<trial>.json: what
validation says of it, and what it cost. Its weights are not kept. Where there are finalists, trials are short, and
`--final` trains the one of a rank in full, into data/finalists.
"""

import argparse
from pathlib import Path

from pipeline.base.files import written_whole
from pipeline.base.git import commit
from pipeline.base.places import FIT, replicate_folder
from pipeline.images import packed
from pipeline.inference.device import keep_freed_memory
from pipeline.params.read import load_params
from pipeline.params.trials import DRAWN, FINALS, PROMOTED, RESULTS, Trial, by_trial
from pipeline.records.tuning import TrialResult
from pipeline.tracking import runs
from pipeline.training import distributed, resume, session
from pipeline.training.task import resolve
from pipeline.training.trial import Attempt, attempt


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.stages.trial", description="Try settings of one model.")
    parser.add_argument("model", help="one of `tune.models` in params.yaml")
    parser.add_argument("trial", type=int, help="one of `tune.trials`; with --final of `tune.finalists`")
    parser.add_argument("--final", action="store_true", help="train a finalist, in full")
    arguments = parser.parse_args()
    name = f"{arguments.model}-{arguments.trial}.json"
    drawn, left = (PROMOTED, FINALS) if arguments.final else (DRAWN, RESULTS)
    tried(Trial.read(drawn / name), left / name)


def tried(trial: Trial, left: Path) -> None:
    """Train what was drawn and leave its result; on several devices, in as many processes."""
    keep_freed_memory()
    study, final = load_params(), left.parent == FINALS
    split = study.replicates[0]
    info = packed.read_info(replicate_folder(FIT, split))
    config = resolve(by_trial(study, trial), trial.model, trial.seed, info)
    which = [trial.model, left.stem.rpartition("-")[2], *["--final"] * final]
    if distributed.trained_by_several(config["train"], "pipeline.stages.trial", *which):
        return
    source = study.dataset.source or info["dataset"]
    assignment = session.Assignment(config, study.dataset.normalise, source, commit(), split)
    result = attempt(Attempt(assignment, trial.number, trial.settings, final), runs.trial_run)
    if result is None:
        return
    with written_whole(left) as partial:
        result.write(partial)
    resume.discard(result.key)
    print(told(result, final))


def told(result: TrialResult, final: bool) -> str:
    """One line on what came of a trial."""
    settings = ", ".join(f"{key} {value}" for key, value in result.settings.items())
    score = result.val_macro_f1
    found = f"diverged: {result.reason}" if score is None else f"validation macro-F1 {score:.4f}"
    kind = "finalist" if final else "trial"
    return (
        f"{kind}: {result.model} {result.trial} ({settings}) {found}, {result.seconds:.1f} s on {result.machine.device}"
    )


if __name__ == "__main__":
    distributed.stage(main)
