"""Recording: what MLflow takes of a training of ten minutes, its import aside, with a store on SQLite.

All that train does with its run: opening and closing it, settings, a batch of points for each epoch, the system's
metrics every five seconds (measured a few times), history and model.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import stepping
from benchmarks.bench import Row, Worker, compare, few

EPOCHS = 60  # of ten seconds
TRAINING = 600.0  # seconds
SAMPLED, SAMPLES = few(5, 1), 120  # of the system's metrics: measured here, taken in a training


def recorder(folder: str) -> Callable[[], float]:
    """A function that records one training and returns the seconds that it took."""
    os.chdir(folder)
    import numpy as np
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
    from safetensors.torch import save_file

    from pipeline.base.files import write_json
    from pipeline.params import settings
    from pipeline.records import diary
    from pipeline.tracking import runs

    case, model = stepping.CIFAR, Path("models/bench-0")
    config: dict[str, Any] = {
        "model": "bench",
        "replicate": 0,
        "classes": [str(label) for label in range(10)],
        "image_size": case.side,
        "data": {"title": "noise", "dataset": "noise", "digest": "0" * 64},
        "network": case.network,
        "train": settings.Train(epochs=EPOCHS, batch_size=128, lr=0.001).model_dump(),
        "augment": settings.Augment(
            light=settings.Pipeline(crop=0, aspect=0, rotate=0, jitter=0, erase=0),
            strong=settings.Pipeline(crop=0, aspect=0, rotate=0, jitter=0, erase=0),
        ).model_dump(),
        "normalise": {"mean": [0.5] * 3, "std": [0.25] * 3},
    }
    model.mkdir(parents=True)
    save_file(stepping.network_of(case).state_dict(), model / "weights.safetensors")
    write_json(model / "config.json", config)
    history, example = Path("history.csv"), np.zeros((1, case.side, case.side, 3), dtype=np.uint8)
    history.write_text("epoch\n" * EPOCHS)
    point = diary.Epoch(1, 0.001, 1.0, 0.5, 1.0, 0.5, 0.5)

    def record() -> float:
        key = str(time.time_ns())
        began = time.perf_counter()
        with runs.training_run("bench-0", key, config) as run:
            run.dataset("noise", "0" * 64, "noise", "training")
            for epoch in range(EPOCHS):
                run.later(vars(point), step=epoch + 1)
            run.settle()
            run.artifact(history)
            run.model(model, example, "crop")
            run.metrics({"train_seconds": TRAINING})
            monitor = SystemMetricsMonitor(run.id)
            begun = time.perf_counter()
            for _ in range(SAMPLED):
                monitor.collect_metrics()
                monitor.publish_metrics(monitor.aggregate_metrics())
            sampling = time.perf_counter() - begun
        return time.perf_counter() - began + sampling * (SAMPLES / SAMPLED - 1)

    return record


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "VERSUS_HOME": folder}
        with Worker(recorder, folder, **store) as worker:
            what = f"MLflow in a training of ten minutes, {EPOCHS} epochs"
            yield compare(what, "s", worker, lambda: TRAINING, "<= 0.005")
