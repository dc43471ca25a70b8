"""Runs that ended as KILLED or FAILED, and how to delete them."""

import getpass
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from pipeline.base.errors import StageError
from pipeline.base.places import main_checkout
from pipeline.tracking import store
from pipeline.tracking.store import close_orphans, connect, equals, of_this_host, reachable, store_uri


@dataclass(frozen=True)
class Broken:
    """A run that ended as KILLED or FAILED."""

    id: str
    name: str
    study: str
    status: str
    ended: float  # seconds since 1970
    bytes: int  # of its artifacts, where they lie on this machine

    @property
    def age(self) -> float:
        """Seconds since it ended."""
        return time.time() - self.ended


def broken_runs() -> list[Broken]:
    """Every study's runs that did not finish, those first closed whose process is gone.

    Of a store that others may use too, only what this user's stages left on this machine.
    """
    if not store.GIVEN and not (main_checkout() / "mlflow.db").exists():
        return []
    with reachable():
        client, _ = connect()
        mine = f" and {of_this_host()} and {equals('tags.`mlflow.user`', getpass.getuser())}" if store.GIVEN else ""
        found = []
        for experiment in client.search_experiments():
            close_orphans(client, experiment.experiment_id)
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
        client, _ = connect()
        for run in ids:
            client.delete_run(run)
    if store_uri().startswith("sqlite"):
        command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", store_uri(), "--run-ids", ",".join(ids)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StageError(f"mlflow gc: {' '.join(done.stderr.split())[-300:]}; the runs are marked as deleted")
