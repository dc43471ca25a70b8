"""Put what the trainings say of every test image where git keeps it: reports/predictions, from data/predictions.

Evaluate cannot: DVC takes a stage from its run-cache only if all that git keeps of it is a metric or a plot, which
Parquet cannot be.
"""

import shutil
from pathlib import Path

from pipeline.base.files import written_whole
from pipeline.base.process import run
from pipeline.params.read import load_params
from pipeline.records.predictions import cached_path, predictions_path
from pipeline.trained.leftovers import trainings


def main() -> None:
    names = [name for name in trainings(load_params()) if cached_path(name).exists()]
    with written_whole(Path("reports/predictions")) as partial:
        partial.mkdir()
        for name in names:
            shutil.copyfile(cached_path(name), partial / predictions_path(name).name)
    print(f"predictions: of {len(names)} training{'s' * (len(names) != 1)}")


if __name__ == "__main__":
    run(main)
