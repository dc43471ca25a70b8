"""MLflow's UI on this machine, with the addresses at which a study's runs are shown with their scores."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from pipeline.base.errors import StageError, shown
from pipeline.base.places import main_checkout
from pipeline.tracking import store, views

PATIENCE = 180.0  # seconds that a server may take to start
QUIET = {  # so that the addresses stay in sight
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # jobs are for traces
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "PYTHONWARNINGS": "ignore",
}
ASKED_ONCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}  # somebody waits for it
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy's 127.0.0.1 is another machine


def serve(port: int) -> None:
    """Start MLflow's server for this machine alone, say where the studies are, and wait until it ends.

    Where MLFLOW_TRACKING_URI names a server, that one is asked and named, and none is started.
    """
    refuse_elsewhere()
    if store.GIVEN.startswith(("http://", "https://")):
        refuse_silent(store.GIVEN)
        print(f"ui: the server of MLFLOW_TRACKING_URI has the runs, and none is started here; open {store.GIVEN}")
        return
    port = usable(port)
    command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--backend-store-uri", store.store_uri()]
    command += ["--host", "127.0.0.1", "--port", str(port), "--uvicorn-opts", "--log-level warning"]
    server = subprocess.Popen(command, env={**os.environ, **QUIET})
    try:
        wait(server, f"http://127.0.0.1:{port}")
        for line in told(f"http://127.0.0.1:{port}"):
            print(line, flush=True)
        if server.wait():
            raise _ended(server)
    finally:
        server.terminate()
        server.wait()


def refuse_elsewhere() -> None:
    """Raise StageError where no checkout of Versus is, and no store is named: MLflow would begin an empty one there."""
    if not store.GIVEN and not (main_checkout() / "dvc.yaml").exists():
        raise StageError("ui: no checkout of Versus here; run `versus ui` in one, or set MLFLOW_TRACKING_URI")


def refuse_silent(address: str) -> None:
    """Raise StageError where a server does not list its experiments."""
    os.environ.update({**ASKED_ONCE, **os.environ})
    import mlflow

    try:
        mlflow.MlflowClient(address).search_experiments(max_results=1)
    except mlflow.MlflowException as error:
        reason = shown(" ".join(str(error).split()), 200)
        raise StageError(
            f"ui: {address} does not give its runs ({reason}); see that its server is up and MLFLOW_TRACKING_URI right,"
            " or unset that for the runs of this checkout"
        ) from None


def usable(port: int) -> int:
    """The port, for 0 a free one; raises StageError where it cannot be listened at, as another server would answer."""
    try:
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(("127.0.0.1", port))
            return int(tried.getsockname()[1])
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "no such port"
        raise StageError(f"ui: port {port} cannot be used ({reason}); give another by --port (make ui PORT=)") from None


def _ended(server: subprocess.Popen[bytes]) -> StageError:
    return StageError(f"ui: MLflow's server ended ({server.returncode}); what it says stands above")


def wait(server: subprocess.Popen[bytes], address: str) -> None:
    """Return once the server answers; raises StageError where it ends or takes too long."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if server.poll() is not None:
            raise _ended(server)
        try:
            with DIRECT.open(f"{address}/health", timeout=1):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    raise StageError(f"ui: MLflow's server at {address} does not answer after {PATIENCE:.0f} s; try another --port")


def told(address: str) -> Iterator[str]:
    """A line for each study that has runs, the one with the newest first: its name and where its scores are shown."""
    found = studies()
    width = max((len(name) for name, _ in found), default=0)
    for name, experiment in found:
        yield f"{name:<{width}}  {address}/{views.address(experiment)}"
    yield f"{'all' if found else 'nothing has run yet':<{width}}  {address}/#/experiments?workflowType=machine_learning"
    yield "Ctrl-C ends it"


def studies() -> list[tuple[str, str]]:
    """The studies in the store by name and id, the one that ran last first; their views are brought up to date."""
    if not store.GIVEN and not (main_checkout() / "mlflow.db").exists():
        return []
    import mlflow

    with store.reachable():
        client = mlflow.MlflowClient(store.store_uri())
        ours = [each for each in client.search_experiments() if any(key.startswith(views.TAG) for key in each.tags)]
        for each in ours:
            for key, value in views.outdated(each.tags):
                client.set_experiment_tag(each.experiment_id, key, value)
        newest = {each.experiment_id: last_run(client, each.experiment_id) for each in ours}
    ran = [each for each in ours if newest[each.experiment_id]]
    ran.sort(key=lambda each: -newest[each.experiment_id])
    return [(each.name, each.experiment_id) for each in ran]


def last_run(client: Any, experiment: str) -> int:
    """When the newest run of an experiment began, in milliseconds since 1970; 0 where it has none."""
    found = client.search_runs([experiment], max_results=1, order_by=["attributes.start_time DESC"])
    return found[0].info.start_time if found else 0
