"""Name the trials that are worth a training in full, where trials were short (successive halving, one round).

Reads data/trials. Leaves data/finalists/promoted/<model>-<rank>.json, the settings of each finalist, or a file `none`
where `tune.finalists` names none. Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943.
"""

import dataclasses

from pipeline.base.errors import StageError
from pipeline.base.files import written_whole
from pipeline.base.process import run
from pipeline.params.read import load_params
from pipeline.params.study import Params
from pipeline.params.trials import DRAWN, PROMOTED, RESULTS, Trial
from pipeline.records.tuning import TrialResult, affordable, ranked


def main() -> None:
    settings = load_params()
    with written_whole(PROMOTED) as partial:
        partial.mkdir()
        for name in settings.tune.models if settings.tune.finalists else ():
            for rank, trial in zip(settings.tune.finalists, promoted(settings, name), strict=True):
                trial.write(partial / f"{name}-{rank}.json")
        if not any(partial.iterdir()):
            (partial / "none").touch()  # DVC warns of an empty folder


def promoted(settings: Params, name: str) -> list[Trial]:
    """A model's trials of the ranks that are wanted, the best by validation having rank 0."""
    results = [TrialResult.read(RESULTS / f"{name}-{number}.json") for number in settings.tune.trials]
    order = ranked(affordable(results, settings.tune.seconds))
    if max(settings.tune.finalists) >= len(order):
        raise StageError(
            f"promote: {len(order)} trials of {name} count and did not diverge, and tune.finalists wants rank"
            f" {max(settings.tune.finalists)}; name fewer, or more trials"
        )
    short = [Trial.read(DRAWN / f"{name}-{order[rank].trial}.json") for rank in settings.tune.finalists]
    print(f"promote: {name} trials {', '.join(str(trial.number) for trial in short)}")
    return [dataclasses.replace(trial, epochs=None) for trial in short]


if __name__ == "__main__":
    run(main)
