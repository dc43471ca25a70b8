"""MLflow: the only importer of mlflow.

An MLflow experiment is a study. Data (fetch, split, preview) is one run, every training one, every evaluation a child
of its training's run, every explanation and every report one; runs of a DVC experiment carry its name behind theirs. A
training's run is found by the tag `versus.key`, which hashes what determines the training. The best model by validation
is a registered model, named as the study, with the alias `champion`. MLFLOW_TRACKING_URI is honoured; else the store is
`mlflow.db` with `mlartifacts/` at the root of the checkout, the original one also where DVC works in a copy of it.
"""

import contextlib
import getpass
import hashlib
import json
import os
import re
import shlex
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
import psutil

from pipeline import escape, moved, params
from pipeline.stage import PassingError, StageError, commit, home, shown, study, uncommitted, whole

CHAMPION = "champion"
GIVEN = os.environ.get("MLFLOW_TRACKING_URI", "")  # as the user set it: mlflow itself sets the variable later
SETTINGS = {  # of mlflow itself; what the user sets stays
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # a server that is away is noticed after seconds, not minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds
    "MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING": "1",
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "5",  # seconds
}
LEGEND = (
    "One run for each training, named model-replicate, below it its evaluation on the test images; `data`, `latency`,"
    " `explain` and `report` are of the whole study. Views (top right) have the scores as columns."
)
VIEWS = {  # saved views of the table of runs: title -> stage, columns, the first of which they are sorted by
    "Validation scores": (
        "train",
        ["selected_val_macro_f1", "selected_val_accuracy", "selected_epoch", "train_seconds"],
    ),
    "Test scores": ("evaluate", ["test_macro_f1", "test_accuracy", "parameters", "flops"]),
}
AWAY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")  # MLflow's codes where a server or a data base does not answer
PATIENCE = 20  # seconds that a data base may be locked, as MLflow waits
UNUSABLE = (
    "not a database|malformed|unable to open database|readonly database|unsupported file format"  # SQLite's words
)
SERVING = ("numpy", "pandas", "pillow", "safetensors", "timm", "torch")  # of a logged model


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

        fresh = {key: str(value)[:6000] for key, value in params.flatten(values).items() if key not in self._params}
        self._params.update(fresh)
        for chunk in _chunks(list(fresh.items()), 100):
            self.client.log_batch(self.id, params=[Param(key, value) for key, value in chunk])

    def metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Log what is finite of one step in one call; a metric that has a value there keeps it.

        What belongs together comes together, what is None too: names that read alike are told apart among them.
        """
        from mlflow.entities import Metric

        now, names = int(time.time() * 1000), escape.metrics(values)
        points = [
            Metric(names[key], float(value), now, step, model_id=self.model_id)
            for key, value in values.items()
            if value is not None and np.isfinite(value) and (names[key], step) not in self._metrics
        ]
        for chunk in _chunks(points, 1000):
            self.client.log_batch(self.id, metrics=chunk)
            self._metrics |= {(point.key, step) for point in chunk}

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
        self.client.set_tag(self.id, "mlflow.note.content", f"{text}{_change_note()}")

    def summarise(self, text: str) -> None:
        """Describe a report, and the study too unless the report is a DVC experiment's."""
        self.describe(text)
        if not experiment_name():
            experiment = self.client.get_run(self.id).info.experiment_id
            self.client.set_experiment_tag(experiment, "mlflow.note.content", f"{text}\n\n{LEGEND}")

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
        from pipeline import figures

        with tempfile.TemporaryDirectory() as folder:
            figures.save(figures.confusion_matrices({"": counts}, classes), Path(folder), "confusion_matrix")
            self.artifact(Path(folder) / "confusion_matrix.png")

    def model(self, folder: Path, example: np.ndarray, resize: str) -> None:
        """Log the trained model in `folder`: pipeline/serving.py says what it takes; no pickle.

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
            loader_module="pipeline.serving",
            data_path=str(folder),
            code_paths=[str(Path(__file__).parent)],
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
        from mlflow import MlflowException
        from mlflow.entities.model_registry import ModelVersion

        key = evaluation["run"].get("key")  # none in results of before models were registered
        model = _logged_model(self.client, self.client.get_run(self.id).info.experiment_id, key) if key else None
        if model is None:
            return
        name, label, config = study(), f"{evaluation['model']}-{evaluation['replicate']}", evaluation["config"]
        validation = evaluation["selected"]["val_macro_f1"]
        tags = {
            "versus.key": key,
            "versus.model": evaluation["model"],
            "versus.replicate": str(evaluation["replicate"]),
            "versus.data": config["dataset"]["digest"],
            "val_macro_f1": repr(validation),
            **{key: value for key, value in provenance().items() if key in ("dvc.experiment", "dvc.changes")},
        }  # the run that it comes from has the rest
        with _alone():
            with contextlib.suppress(MlflowException):  # it is there
                self.client.create_registered_model(name)
            self.client.update_registered_model(name, _about_champion(name, evaluation))
            found: list[ModelVersion] = list(self.client.search_model_versions(_is("name", name)))
            versions = [each for each in found if each.name == name]
            holder = self.client.get_registered_model(name).aliases.get(CHAMPION)  # a search tells no aliases
            present = next((each for each in versions if str(each.version) == str(holder)), None)  # a server's: text
            if present is not None and not _takes_over(tags, present.tags):
                return
            same = next((each for each in versions if each.tags.get("versus.key") == key), None)
            if same is None:
                parts = {"network": config["model"], "replicate": evaluation["replicate"], "data": config["dataset"]}
                text = f"{label}: validation macro-F1 {validation:.4f}; {_described(parts)}."
                same = self.client.create_model_version(
                    name, f"models:/{model}", model_id=model, run_id=self.id, tags=tags, description=text
                )
                seen = json.dumps([{"name": name, "version": same.version}])  # beside it in the table of models
                self.client.set_logged_model_tags(model, {"mlflow.modelVersions": seen})
            self.client.set_registered_model_alias(name, CHAMPION, same.version)


@contextlib.contextmanager
def data_run(stage: str) -> Iterator[Run]:
    """The run of this study's data, shared by the stages that make it: one for each state of params.yaml's data."""
    settings = params.load()
    values = {"dataset": settings.dataset.model_dump(), "split": settings.split.model_dump()}
    raw = Path("data/raw/info.json")
    digest = json.loads(raw.read_text(encoding="utf-8")).get("digest") if raw.exists() else None
    key = hashlib.sha256(json.dumps([study(), values, digest], sort_keys=True).encode()).hexdigest()
    query = f"tags.`versus.key` = '{key}'"
    with _open("data", stage, {"versus.key": key}, reopen=query) as run:
        run.params(values)
        run.describe(f"The images of {settings.dataset.name}, as fetch, split and preview left them.")
        yield run


@contextlib.contextmanager
def training_run(name: str, key: str, values: Mapping[str, Any], known: str = "") -> Iterator[Run]:
    """A run for one training, with system metrics; `key` hashes what determines it.

    A training that was killed goes on in the run it had: `known`, or the newest of the same key that never finished.
    The caller sees to it that no other process trains the same.
    """
    tags = {"versus.key": key, "versus.model": values["model"], "versus.replicate": str(values["replicate"])}
    query = f"tags.`versus.key` = '{key}' and tags.`versus.stage` = 'train'"
    query += f" and attributes.run_id = '{known}'" if known else " and attributes.status != 'FINISHED'"
    with _open(name, "train", tags, reopen=query, system_metrics=True) as run:
        run.params(values)
        run.describe(f"Training of {name}: {_described(values)}.")
        yield run


@contextlib.contextmanager
def evaluation_run(name: str, key: str, config: Mapping[str, Any], log_model: Callable[[Run], None]) -> Iterator[Run]:
    """A child of the training's run; where this store has none (another machine, a fresh clone), of a fresh parent.

    `log_model` is called with a fresh parent, which holds no model yet.
    """
    from mlflow.entities import LoggedModelInput

    tags = {"versus.model": config["model"], "versus.replicate": str(config["replicate"])}
    with reachable():
        client, experiment = _connect()
        parent = _find(client, experiment, f"tags.`versus.key` = '{key}' and attributes.status = 'FINISHED'")
    if parent is None:
        with _open(name, "train", {**tags, "versus.key": key, "versus.from_cache": "true"}) as run:
            run.params(config)
            run.describe(f"{name} was trained elsewhere: {_described(config)}.")
            log_model(run)
            parent = run.id
    with _open(f"{name} test", "evaluate", {**tags, "mlflow.parentRunId": parent}) as run:
        run.params(config)
        run.describe(f"{name} on the test images, once: {_described(config)}.")
        if model := _logged_model(client, experiment, key):
            client.log_inputs(run.id, models=[LoggedModelInput(model)])
            run.model_id = model
        yield run


@contextlib.contextmanager
def report_run(stage: str = "report") -> Iterator[Run]:
    """A run of its own for what looks at all trainings."""
    with _open(stage, stage, {}) as run:
        yield run


@contextlib.contextmanager
def _open(
    name: str, stage: str, tags: Mapping[str, str], *, reopen: str = "", system_metrics: bool = False
) -> Iterator[Run]:
    """Start a run, or go on with the newest that the query `reopen` finds; runs whose process is gone are closed first.

    A run ends as FINISHED, as FAILED by an error, as KILLED by Ctrl-C or SIGTERM.
    """
    with reachable():
        import mlflow

        client, experiment = _connect()
        _close_orphans(client, experiment)
        known = _find(client, experiment, reopen) if reopen else None
        if known:
            for key, value in owner().items():
                client.set_tag(known, key, value)
            mlflow.start_run(run_id=known, log_system_metrics=system_metrics)
        else:
            active = mlflow.start_run(
                experiment_id=experiment,
                run_name=f"{name} ({experiment_name()})" if experiment_name() else name,
                tags={"versus.stage": stage, "mlflow.source.name": _source(), **tags, **provenance(), **owner()},
                log_system_metrics=system_metrics,
            )
            if patch := uncommitted():
                client.log_text(active.info.run_id, patch, "uncommitted.patch")
        try:
            yield Run(client, known or active.info.run_id, reopened=bool(known))
        except BaseException as error:
            with contextlib.suppress(Exception):  # the store may be what failed
                mlflow.end_run("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        mlflow.end_run("FINISHED")


@contextlib.contextmanager
def reachable() -> Iterator[None]:
    """Turn what mlflow raises where its store is away, locked or full into a StageError."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, requests.RequestException) as error:
        raise _fault(error) from error


def _fault(error: Exception) -> StageError:
    """What the user is told of an error of mlflow: a PassingError where the store may answer later."""
    import requests
    import sqlalchemy.exc

    reason = shown(" ".join(str(error).split()), 200)
    if re.search(UNUSABLE, str(error)):
        return _unusable(reason)
    away = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.TimeoutError, requests.RequestException)
    if isinstance(error, away) or getattr(error, "error_code", "") in AWAY:
        return _away(reason)
    return StageError(
        f"the MLflow store {store_uri()} refuses what it is sent ({reason}): mend what it names, or choose another"
        " store by MLFLOW_TRACKING_URI, and run `dvc repro` again: nothing that was finished is lost"
    )


def _away(reason: str) -> PassingError:
    return PassingError(
        f"the MLflow store {store_uri()} does not answer ({reason}); see that it is up, has space and is not locked"
        " (MLFLOW_TRACKING_URI names another), and run `dvc repro` again: nothing that was finished is lost"
    )


def _unusable(reason: str) -> StageError:
    """Of a store whose data base is damaged, or no file that may be read and written."""
    place, remedy = _database(), "choose another by MLFLOW_TRACKING_URI"
    if place is not None:
        move = shlex.join(["mv", str(place), f"{place}.aside"])
        remedy = f"let this user read and write it, or move it away (`{move}`), and a new one is made"
    return StageError(
        f"the MLflow store {store_uri()} is no data base that can be used ({reason}); {remedy}. Then run `dvc repro`"
        " again: nothing that was finished is lost, results are in reports/ and in DVC's cache"
    )


def _database() -> Path | None:
    """The file of a store that is an SQLite data base on this machine."""
    if not GIVEN:
        return home() / "mlflow.db"
    kind, _, place = GIVEN.partition(":///")
    return Path(place.partition("?")[0]) if kind.startswith("sqlite") and place else None


def _refuse_unusable() -> None:
    """Raise StageError where the data base cannot be opened: MLflow would try for minutes."""
    database = _database()
    if database is None or not database.exists():
        return
    try:
        with contextlib.closing(
            sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", PATIENCE, uri=True)
        ) as opened:
            opened.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        raise (_unusable if re.search(UNUSABLE, str(error)) else _away)(str(error)) from None


def store_uri() -> str:
    return GIVEN or f"sqlite:///{home() / 'mlflow.db'}"


def _connect() -> tuple[Any, str]:
    """A client of the store and the id of this study's experiment, both made if need be, by one process at a time."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    import logging

    import mlflow

    for logger in ("alembic", "mlflow.store.db.utils", "mlflow.system_metrics.system_metrics_monitor"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    uri, database = store_uri(), home() / "mlflow.db"
    mlflow.set_tracking_uri(uri)
    with _alone():
        _refuse_unusable()
        if not GIVEN and not database.exists():
            with whole(database) as partial:  # a kill while the tables are made must not leave some of them
                mlflow.MlflowClient(f"sqlite:///{partial}").search_experiments()
        client = mlflow.MlflowClient(uri)
        found = client.get_experiment_by_name(study())
        if found is not None and not GIVEN:
            moved.follow(database, found.artifact_location, home() / "mlartifacts", study())
        if found is not None and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        if found is not None:
            for key, value in _experiment_tags().items():
                if key not in found.tags:
                    client.set_experiment_tag(found.experiment_id, key, value)
            return client, found.experiment_id
        local = None if GIVEN else (home() / "mlartifacts" / study()).as_uri()
        try:
            return client, client.create_experiment(study(), artifact_location=local, tags=_experiment_tags())
        except mlflow.MlflowException:  # another machine made it on a shared server just now
            found = client.get_experiment_by_name(study())
            if found is None:
                raise
            return client, found.experiment_id


def _experiment_tags() -> dict[str, str]:
    """What the UI shows of a study: its kind (trainings, not traces), a description until there is a report, views."""
    tags = {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": LEGEND}
    for name, (stage, metrics) in VIEWS.items():
        state = {
            "searchFilter": f"tags.`versus.stage` = '{stage}'",
            "orderByKey": f"metrics.`{metrics[0]}`",
            "orderByAsc": False,
            "selectedColumns": [*(f"metrics.`{each}`" for each in metrics), "tags.`dvc.changes`"],
        }
        made = {"name": name, "createdAt": 0, "state": json.dumps(state)}
        tags[f"mlflow.sharedViewState.versus-{stage}"] = json.dumps(made)
    return tags


@dataclass(frozen=True)
class Broken:
    """A run that ended as KILLED or FAILED."""

    id: str
    name: str
    study: str
    status: str
    ended: float  # seconds since 1970
    bytes: int  # of its artifacts, where they lie on this machine


def broken_runs() -> list[Broken]:
    """Every study's runs that did not finish, those first closed whose process is gone.

    Of a store that others may use too, only what this user's stages left on this machine.
    """
    if not GIVEN and not (home() / "mlflow.db").exists():
        return []
    with reachable():
        client, _ = _connect()
        mine = f" and {_of_this_host()} and {_is('tags.`mlflow.user`', getpass.getuser())}" if GIVEN else ""
        found = []
        for experiment in client.search_experiments():
            _close_orphans(client, experiment.experiment_id)
            for status in ("KILLED", "FAILED"):
                for run in client.search_runs([experiment.experiment_id], f"attributes.status = '{status}'{mine}"):
                    place = url2pathname(urlparse(run.info.artifact_uri).path)
                    size = sum(path.stat().st_size for path in Path(place).rglob("*") if path.is_file())
                    ended = (run.info.end_time or run.info.start_time) / 1000
                    found.append(Broken(run.info.run_id, run.info.run_name, experiment.name, status, ended, size))
        return found


def delete_runs(ids: Sequence[str]) -> None:
    """Delete runs; of a store on this machine for good, of a server as it deletes: it keeps them until `mlflow gc`."""
    if not ids:
        return
    with reachable():
        client, _ = _connect()
        for run in ids:
            client.delete_run(run)
    if store_uri().startswith("sqlite"):
        command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", store_uri(), "--run-ids", ",".join(ids)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StageError(f"mlflow gc: {' '.join(done.stderr.split())[-300:]}; the runs are marked as deleted")


def _alone() -> contextlib.AbstractContextManager[Any]:
    """One process at a time makes what a store may hold once; a server sees to that itself."""
    from filelock import FileLock

    return FileLock(home() / ".versus.lock") if store_uri().startswith("sqlite") else contextlib.nullcontext()


def _find(client: Any, experiment: str, query: str) -> str | None:
    """The id of the newest run that a query finds."""
    runs = client.search_runs([experiment], query, max_results=1, order_by=["attributes.start_time DESC"])
    return runs[0].info.run_id if runs else None


def _logged_model(client: Any, experiment: str, key: str) -> str | None:
    """The id of the model that the newest finished training of this key logged."""
    query = f"tags.`versus.key` = '{key}' and attributes.status = 'FINISHED'"
    runs = client.search_runs([experiment], query, order_by=["attributes.start_time DESC"])
    return next((model.model_id for run in runs if run.outputs for model in run.outputs.model_outputs), None)


def _of_this_host() -> str:
    """A part of a query: runs that stages on this machine opened last."""
    return _is("tags.`versus.host`", socket.gethostname())


def _is(key: str, value: str) -> str:
    """A part of a query: `key` has a value, or one that differs from it where it has a quotation mark or backslash.

    MLflow's queries know no way to write those, but a pattern in which `_` is any character.
    """
    pattern = re.sub(r"""['"\\]""", "_", value)
    return f"{key} = '{value}'" if pattern == value else f"{key} LIKE '{pattern}'"


def _close_orphans(client: Any, experiment: str) -> None:
    """Mark as KILLED the runs of this machine that say RUNNING while their process is gone."""
    for run in client.search_runs([experiment], f"attributes.status = 'RUNNING' and {_of_this_host()}"):
        if not _alive(run.data.tags.get("versus.process", "")):
            client.set_terminated(run.info.run_id, status="KILLED")


def _alive(process: str) -> bool:
    """Whether a process, named by id and start time as in `owner`, still runs."""
    pid, _, started = process.partition("@")
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < 2  # a clock may be set meanwhile
    except (psutil.Error, ValueError):
        return False


def owner() -> dict[str, str]:
    """Which process of which machine has a run open."""
    process = psutil.Process()
    return {"versus.host": socket.gethostname(), "versus.process": f"{process.pid}@{process.create_time():.2f}"}


def experiment_name() -> str:
    """Of the DVC experiment that runs the stage; empty in `dvc repro`."""
    return os.environ.get("DVC_EXP_NAME", "")


def changes() -> dict[str, str]:
    """What an experiment changes in params.yaml: dotted key -> "old -> new"; empty in `dvc repro` and outside git."""
    from ruamel.yaml import YAML, YAMLError

    baseline = os.environ.get("DVC_EXP_BASELINE_REV", "")
    if not experiment_name() or not baseline:
        return {}
    try:
        before = subprocess.run(
            ["git", "show", f"{baseline}:./params.yaml"], capture_output=True, encoding="utf-8", check=True
        ).stdout
        old, new = (
            params.flatten(YAML(typ="safe").load(text)) for text in (before, Path("params.yaml").read_text("utf-8"))
        )
    except (OSError, subprocess.CalledProcessError, YAMLError):
        return {}
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return {key: f"{old.get(key, 'none')} -> {new.get(key, 'none')}" for key in keys}


def _change_note() -> str:
    """A paragraph on the DVC experiment; empty outside one."""
    if not experiment_name():
        return ""
    lines = [f"\n- {escape.code(key)}: {escape.markdown(values)}" for key, values in changes().items()]
    return f"\n\nDVC experiment {escape.code(experiment_name())} changes:{''.join(lines) or ' nothing in params.yaml'}"


def _described(config: Mapping[str, Any]) -> str:
    """resnet18 (timm), seed 0, on Digits"""
    network = config["network"]
    what = network.get("backbone") or "layers of params.yaml"
    return escape.markdown(f"{what} ({network['family']}), seed {config['replicate']}, on {config['data']['title']}")


def _about_champion(name: str, evaluation: Mapping[str, Any]) -> str:
    classes = ", ".join(escape.markdown(row["class"]) for row in evaluation["classes"])
    load = escape.code(
        f"mlflow.pyfunc.load_model({json.dumps(f'models:/{name}@{CHAMPION}', ensure_ascii=False)}).predict(images)"
    )
    return (
        f"The trained models of study {escape.markdown(name)} that had its highest validation macro-F1; `{CHAMPION}` is"
        f" the present one. Test images chose nothing.\n\n{load}"
        f" takes uint8 (N, H, W, C) of any size, or a list of image files as bytes or base64, and gives a row for each"
        f" image: its class and a probability for each of {classes}."
    )


def _takes_over(new: Mapping[str, str], present: Mapping[str, str]) -> bool:
    """Whether a model takes the place of the present champion; both by their versions' tags."""
    if not experiment_name():
        return True
    if new["versus.data"] != present.get("versus.data"):
        return False
    return float(new["val_macro_f1"]) > float(present["val_macro_f1"])


def _source() -> str:
    """What a user would type to run this stage again."""
    return f"dvc repro {os.environ['DVC_STAGE']}" if "DVC_STAGE" in os.environ else Path(sys.argv[0]).name


def provenance() -> dict[str, str]:
    """Code and DVC experiment behind a run, as tags."""
    sha, _, dirty = commit().partition("-")
    tags = {
        "mlflow.source.git.commit": sha,
        "versus.commit": sha,
        "versus.dirty": str(bool(dirty)).lower(),
        "versus.study": study(),
        "dvc.experiment": experiment_name(),
        "dvc.changes": "; ".join(f"{key}: {values}" for key, values in changes().items())[:5000],
        "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "dvc.stage": os.environ.get("DVC_STAGE", ""),
    }
    return {key: value for key, value in tags.items() if value}


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
