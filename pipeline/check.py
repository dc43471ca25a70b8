"""Refuse a params.yaml with unknown keys, wrong types or values out of range before any work is done.

Leaves a constant, so that a valid change reruns this stage and only those that read what changed.
"""

from pathlib import Path

from pipeline import params
from pipeline.rehearse import rehearse
from pipeline.stage import run, whole


def main() -> None:
    study = params.load()
    if study.evaluate.onnx:
        params.require_onnx("params.yaml: evaluate.onnx: true")
    rehearse(study)
    with whole(Path("data/checked")) as partial:
        partial.write_text("params.yaml is valid\n")
    trainings = len(study.models) * len(study.replicates)
    print(f"check: {study.dataset.name}, {len(study.models)} models x {len(study.replicates)} replicates = {trainings}")


if __name__ == "__main__":
    run(main)
