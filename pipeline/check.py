"""Refuse a params.yaml with unknown keys, wrong types or values out of range before any work is done.

Leaves a constant, so that a valid change reruns this stage and only those that read what changed.
"""

from pathlib import Path

from pipeline import params
from pipeline.rehearse import rehearse
from pipeline.stage import run, study, whole


def main() -> None:
    study()  # refuses a name of the folder
    settings = params.load()
    if settings.evaluate.onnx:
        params.require_onnx("params.yaml: evaluate.onnx: true")
    rehearse(settings)
    with whole(Path("data/checked")) as partial:
        partial.write_text("params.yaml is valid\n")
    trainings = len(settings.models) * len(settings.replicates)
    models = f"{len(settings.models)} models x {len(settings.replicates)} replicates = {trainings}"
    print(f"check: {settings.dataset.name}, {models}")


if __name__ == "__main__":
    run(main)
