"""Choose each model's settings among its trials, by validation alone, and hand out what its teachers have learnt.

Reads what the trials left, and the finalists, where trials were short. Leaves data/chosen/<model>.json, the settings
that train takes beside those of params.yaml, and all trials in reports/tuning.json. Without trials both say nothing.
Leaves data/before/<model>-<replicate>, what earlier trainings left for that one: of its teachers the weights and the
settings; of a teacher's own training all, which train takes as it is. Most have a list of none.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.base.files import write_json, written_whole
from pipeline.base.process import run
from pipeline.params.read import load_params
from pipeline.params.study import Params
from pipeline.params.trials import CHOSEN, FINALS, RESULTS
from pipeline.records.before import hand_out, read_needed
from pipeline.records.tuning import TUNING, TrialResult, Tuning, choose


def main() -> None:
    settings = load_params()
    found = choose(results(settings, RESULTS, settings.tune.trials), settings.tune.seconds, finals(settings))
    with written_whole(CHOSEN) as chosen, written_whole(TUNING) as record:
        chosen.mkdir()
        for name in settings.models:
            write_json(chosen / f"{name}.json", found.best(name).settings if name in found.chosen else {})
        found.write(record)
    hand_out(read_needed())
    if found.trials:
        log(settings, found)
    for name in found.chosen:
        best = found.best(name)
        told = ", ".join(f"{key} {value}" for key, value in best.settings.items())
        print(f"choose: {name} trial {best.trial} of {len(found.of(name))}, {told}: validation {best.val_macro_f1:.4f}")


def results(settings: Params, folder: Path, numbers: Sequence[int]) -> list[TrialResult]:
    """What the trials of params.yaml left in a folder, in its order."""
    tuned = [name for name in settings.models if settings.tuned(name)]
    return [TrialResult.read(folder / f"{name}-{number}.json") for name in tuned for number in numbers]


def finals(settings: Params) -> list[TrialResult]:
    """What the finalists left; none where trials were trained in full."""
    return results(settings, FINALS, settings.tune.finalists)


def log(settings: Params, found: Tuning) -> None:
    from pipeline.tracking import runs  # late, as studies without trials log nothing

    for name in found.chosen:
        runs.chosen(settings, found, name)


if __name__ == "__main__":
    run(main)
