"""An open MLflow run."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base import escape
from pipeline.base.errors import StageError
from pipeline.params.read import flatten
from pipeline.tracking.champion import SERVING, logged_model, register
from pipeline.tracking.provenance import change_note, experiment_name
from pipeline.tracking.store import LEGEND, reachable
from pipeline.tracking.views import BESIDE, address


class Run:
    """An open MLflow run; what it already knows is not logged again, so that a reopened run gets no double points."""

    def __init__(self, client: Any, run_id: str, reopened: bool = False) -> None:
        self.client, self.id = client, run_id
        run = client.get_run(run_id)
        self._params = dict(run.data.params)
        self._metrics = {  # (name, step)
            (name, point.step)
            for name in (run.data.metrics if reopened else ())
            if not name.startswith("system/")
            for point in client.get_metric_history(run_id, name)
        }
        outputs = [each.model_id for each in run.outputs.model_outputs] if reopened and run.outputs else []
        ready = [model for model in outputs if client.get_logged_model(model).status == "READY"]
        self.model_id = ready[0] if ready else None  # metrics are shown beside that logged model too
        self._waiting: list[tuple[dict[str, float | None], int]] = []
        self._try_again = 0.0

    def params(self, values: Mapping[str, Any]) -> None:
        """Log nested settings under dotted names."""
        from mlflow.entities import Param

        fresh = {key: str(value)[:6000] for key, value in flatten(values).items() if key not in self._params}
        self._params.update(fresh)
        for chunk in _chunks(list(fresh.items()), 100):
            self.client.log_batch(self.id, params=[Param(key, value) for key, value in chunk])

    def metrics(self, values: Mapping[str, float | None], step: int = 0, at: float | None = None) -> None:
        """Log what is finite of one step in one call; a metric that has a value there keeps it.

        What belongs together comes together, what is None too: names that read alike are told apart among them. `at` is
        when it was measured, in seconds since 1970; None is now.
        """
        from mlflow.entities import Metric

        then, names = int((time.time() if at is None else at) * 1000), escape.metrics(values)
        points = [
            Metric(names[key], float(value), then, step, model_id=self.model_id)
            for key, value in values.items()
            if value is not None and np.isfinite(value) and (names[key], step) not in self._metrics
        ]
        for chunk in _chunks(points, 1000):
            self.client.log_batch(self.id, metrics=chunk)
            self._metrics |= {(point.key, step) for point in chunk}

    def also(self, run: str) -> None:
        """Put those of the scores that have been logged beside another run's metrics which its view has as columns."""
        from mlflow.entities import Metric

        known = self.client.get_run(self.id).data.metrics
        now = int(time.time() * 1000)
        points = [Metric(key, known[key], now, 0) for key in BESIDE if key in known]
        self.client.log_batch(run, metrics=points)

    def later(self, values: Mapping[str, float | None], step: int) -> None:
        """As `metrics`; where the store cannot be reached, say so, go on and try again after a minute."""
        self._waiting.append((dict(values), step))
        if time.monotonic() < self._try_again:
            return
        try:
            self.settle()
        except StageError as error:
            if not self._try_again:
                print(f"\nversus: {error}; the training goes on, its points are logged later", file=sys.stderr)
            self._try_again = time.monotonic() + 60

    def settle(self) -> None:
        """Log what `later` could not; a StageError if that cannot be done now either."""
        while self._waiting:
            with reachable():
                self.metrics(*self._waiting[0])
            self._waiting.pop(0)

    def describe(self, text: str) -> None:
        """Markdown that the UI shows of a run; what a DVC experiment changes is added."""
        self.client.set_tag(self.id, "mlflow.note.content", f"{text}{change_note()}")

    def summarise(self, text: str) -> None:
        """Describe a report, and the study too unless the report is a DVC experiment's.

        MLflow shows the first paragraph above each of the study's tables; it ends with a link to the scores.
        """
        self.describe(text)
        if not experiment_name():
            experiment = self.client.get_run(self.id).info.experiment_id
            first, gap, rest = text.partition("\n\n")
            linked = f"{first} [All scores]({address(experiment)}){gap}{rest}"
            self.client.set_experiment_tag(experiment, "mlflow.note.content", f"{linked}\n\n{LEGEND}")

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file, or a folder with what is in it."""
        if path.is_dir():
            self.client.log_artifacts(self.id, str(path), folder or path.name)
        else:
            self.client.log_artifact(self.id, str(path), folder or None)

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Log which images were used: `digest` is a SHA-256 of their contents, of which MLflow shows 36 characters."""
        import mlflow
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset

        origin = CodeDatasetSource({"source": source})
        entry = MetaDataset(origin, name=name, digest=digest[:36])  # type: ignore[abstract]
        mlflow.log_input(entry, context, {"sha256": digest})

    def confusion(self, counts: np.ndarray, classes: list[str]) -> None:
        """Log a confusion matrix (K, K), rows actual, as a figure."""
        import matplotlib as mpl
        from matplotlib.figure import Figure
        from sklearn.metrics import ConfusionMatrixDisplay

        side = min(max(4.0, 0.5 * len(classes)), 20.0)  # inches
        display = ConfusionMatrixDisplay(counts, display_labels=classes)
        with mpl.rc_context({"text.parse_math": False}):
            figure = Figure(figsize=(side + 1, side), layout="constrained")
            few = len(classes) <= 40  # else no count could be read
            display.plot(
                ax=figure.subplots(), include_values=few, values_format="d", xticks_rotation="vertical", cmap="Blues"
            )
            self.client.log_figure(self.id, figure, "confusion_matrix.png")

    def model(self, folder: Path, example: np.ndarray, resize: str) -> None:
        """Log the trained model in `folder`: pipeline/trained/serving.py says what it takes; no pickle.

        `example`: one image as split packed it, (1, S, S, C); `resize` is how split brought it into that form.
        """
        import logging

        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        if self.model_id is not None:
            return
        for logger in ("mlflow.models.model", "mlflow.models.signature", "mlflow.pyfunc"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        classes = json.loads((folder / "config.json").read_text(encoding="utf-8"))["classes"]
        logged = mlflow.pyfunc.log_model(
            name=folder.name,
            loader_module="pipeline.trained.serving",
            data_path=str(folder),
            code_paths=[str(Path(__file__).resolve().parents[1])],
            model_config={"side": example.shape[1], "channels": example.shape[3], "resize": resize},
            signature=ModelSignature(  # no schema of inputs: it would allow for arrays or for files, not for both
                outputs=Schema([ColSpec("string", "class"), *(ColSpec("double", f"p({name})") for name in classes)])
            ),
            input_example=example,
            pip_requirements=[f"{name}=={version(name)}" for name in SERVING],
        )
        self.model_id = logged.model_id

    def champion(self, evaluation: Mapping[str, Any]) -> None:
        """Register the model that one of evaluate's results is of, and call it the study's champion.

        A study as it stands (`dvc repro`) names its own best one. A DVC experiment takes the alias only with a higher
        validation macro-F1 on the same training and validation images. A model is registered once.
        """
        key = evaluation["run"].get("key")  # none in results of before models were registered
        model = logged_model(self.client, self.client.get_run(self.id).info.experiment_id, key) if key else None
        if model is not None:
            register(self.client, self.id, model, evaluation)


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
