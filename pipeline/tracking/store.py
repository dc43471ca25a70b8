"""MLflow's store: found, reached, refused where it cannot be used, and runs of killed processes closed."""

import contextlib
import os
import re
import shlex
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from pipeline.base.errors import PassingError, StageError, shown
from pipeline.base.files import written_whole
from pipeline.base.places import main_checkout, study
from pipeline.tracking import moved, views

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
    " `explain`, `labels` and `report` are of the whole study. Views (top right) have the scores as columns."
)
AWAY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")  # MLflow's codes where a server or a data base does not answer
PATIENCE = 20  # seconds that a data base may be locked, as MLflow waits
UNUSABLE = (
    "not a database|malformed|unable to open database|readonly database|unsupported file format"  # SQLite's words
)


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
        return main_checkout() / "mlflow.db"
    kind, _, place = GIVEN.partition(":///")
    return main_checkout() / place.partition("?")[0] if kind.startswith("sqlite") and place else None


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
    """The store's address; a relative path of the user's starts at the checkout's root, wherever a stage runs."""
    kind, _, place = GIVEN.partition(":///")
    if kind.startswith("sqlite") and place and not Path(place).is_absolute():
        return f"{kind}:///{main_checkout() / place}"
    return GIVEN or f"sqlite:///{main_checkout() / 'mlflow.db'}"


def begun() -> bool:
    """Whether there is a store yet, as far as this machine can tell without asking it."""
    database = _database()
    return database is None or database.exists()


def connect() -> tuple[Any, str]:
    """A client of the store and the id of this study's experiment, both made if need be, by one process at a time."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    import logging

    import mlflow

    for logger in ("alembic", "mlflow.store.db.utils", "mlflow.system_metrics.system_metrics_monitor"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(store_uri())
    with only_writer():
        _refuse_unusable()
        database = main_checkout() / "mlflow.db"
        if not GIVEN and not database.exists():
            with written_whole(database) as partial:  # a kill while the tables are made must not leave some of them
                mlflow.MlflowClient(f"sqlite:///{partial}").search_experiments()
        client = mlflow.MlflowClient(store_uri())
        found = client.get_experiment_by_name(study())
        if found is None:
            return client, _new_experiment(client)
        if not GIVEN:
            moved.follow(database, found.artifact_location, main_checkout() / "mlartifacts", study())
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        missing = {key: value for key, value in _experiment_tags().items() if key not in found.tags}
        for key, value in (missing | dict(views.outdated(found.tags))).items():
            client.set_experiment_tag(found.experiment_id, key, value)
        return client, found.experiment_id


def _new_experiment(client: Any) -> str:
    """The id of this study's experiment, which is made."""
    import mlflow

    local = None if GIVEN else (main_checkout() / "mlartifacts" / study()).as_uri()
    try:
        return client.create_experiment(study(), artifact_location=local, tags=_experiment_tags())
    except mlflow.MlflowException:  # another machine made it on a shared server just now
        found = client.get_experiment_by_name(study())
        if found is None:
            raise
        return found.experiment_id


def _experiment_tags() -> dict[str, str]:
    """What the UI shows of a study: its kind (trainings, not traces), a description until there is a report, views."""
    return {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": LEGEND, **views.tags()}


def only_writer() -> contextlib.AbstractContextManager[Any]:
    """One process at a time makes what a store may hold once; a server sees to that itself."""
    from filelock import FileLock

    return FileLock(main_checkout() / ".versus.lock") if store_uri().startswith("sqlite") else contextlib.nullcontext()


def newest_run(client: Any, experiment: str, query: str) -> str | None:
    """The id of the newest run that a query finds."""
    runs = client.search_runs([experiment], query, max_results=1, order_by=["attributes.start_time DESC"])
    return runs[0].info.run_id if runs else None


def of_this_host() -> str:
    """A part of a query: runs that stages on this machine opened last."""
    return equals("tags.`versus.host`", socket.gethostname())


def equals(key: str, value: str) -> str:
    """A part of a query: `key` has a value, or one that differs from it where it has a quotation mark or backslash.

    MLflow's queries know no way to write those, but a pattern in which `_` is any character.
    """
    pattern = re.sub(r"""['"\\]""", "_", value)
    return f"{key} = '{value}'" if pattern == value else f"{key} LIKE '{pattern}'"


def close_orphans(client: Any, experiment: str) -> None:
    """Mark as KILLED the runs of this machine that say RUNNING while their process is gone."""
    for run in client.search_runs([experiment], f"attributes.status = 'RUNNING' and {of_this_host()}"):
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
