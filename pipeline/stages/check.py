"""Refuse a params.yaml with unknown keys, wrong types or values out of range before any work is done.

Leaves a constant, so that a valid change reruns this stage and only those that read what changed, the settings of each
trial, which are drawn here, and which teachers each training needs.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import StageError
from pipeline.base.files import write_json, written_whole
from pipeline.base.places import study
from pipeline.base.process import run
from pipeline.inference.rehearse import rehearse
from pipeline.params import read, teaching, trials
from pipeline.params.read import load_params
from pipeline.params.study import Params
from pipeline.params.trials import Trial
from pipeline.records.before import NEEDED


def main() -> None:
    study()  # refuses a name of the folder
    settings = load_params()
    if settings.evaluate.onnx:
        read.require_onnx("params.yaml: evaluate.onnx: true")
    refuse_what_the_data_lack(settings)
    rehearse(settings)
    drawn = [trial for name in settings.models for trial in trials.drawn(settings, name)]
    rehearse_trials(settings, drawn)
    write_trials(drawn)
    write_needed(settings)
    with written_whole(Path("data/checked")) as partial:
        partial.write_text("params.yaml is valid\n")
    trainings = len(settings.models) * len(settings.replicates)
    models = f"{len(settings.models)} models x {len(settings.replicates)} replicates = {trainings}"
    print(f"check: {settings.dataset.name}, {models}{f', after {len(drawn)} trials' * bool(drawn)}")


def rehearse_trials(settings: Params, drawn: Sequence[Trial]) -> None:
    """Raise StageError for a trial whose network cannot be built; those that train the model's own are not built."""
    for trial in drawn:
        changed = settings.having(trial.model, trial.settings)
        if changed.network(trial.model) == settings.network(trial.model):
            continue
        try:
            rehearse(changed.only(trial.model))
        except StageError as error:
            raise StageError(f"tune: trial {trial.number}: {error}; narrow the space") from None


def write_trials(drawn: Sequence[Trial]) -> None:
    """Leave a file for each trial, which its stage of DVC's depends on; where there is none, one that says so."""
    with written_whole(trials.DRAWN) as partial:
        partial.mkdir()
        for trial in drawn:
            trial.write(partial / f"{trial.name}.json")
        if not drawn:
            (partial / "none").touch()  # DVC warns of an empty folder


def write_needed(settings: Params) -> None:
    """Leave for each training which teachers' trainings it needs."""
    with written_whole(NEEDED) as partial:
        write_json(partial, teaching.needed(settings))


def refuse_what_the_data_lack(settings: Params) -> None:
    """Raise StageError for settings that need what no source of the data set has; its files are not looked at."""
    voted = [name for name in settings.models if settings.model_train(name).targets == "votes"]
    mirrored = {
        name: crops for name in settings.models if (crops := settings.model_augment(name).test_crops) in (2, 10)
    }
    by_subject = bool(settings.split.folds) and settings.split.folds_by == "subject"
    if not (voted or mirrored or by_subject):
        return
    from pipeline import datasets  # late, as few studies need it

    data, about = settings.dataset.name, datasets.about(settings.dataset.name)
    faults = []
    if by_subject and not about.subjects:
        faults.append(f"split.folds_by: {data} does not say who is in its images; choose image")
    if not about.votes:
        faults += [f"models.{name}: train.targets: {data} has no votes; choose labels" for name in voted]
    if not about.flip:
        faults += [
            f"models.{name}: augment.test_crops: {crops} shows mirror images, which change the classes of {data};"
            f" choose {crops // 2}"
            for name, crops in mirrored.items()
        ]
    if faults:
        raise StageError("\n".join(f"params.yaml: {fault}" for fault in faults))


if __name__ == "__main__":
    run(main)
