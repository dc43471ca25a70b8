"""A team's services: MLflow's server on PostgreSQL with artifacts in S3, and a DVC remote in S3.

All are real but S3 itself, which is moto's server.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import repo
from tests.launch import test_launch

pytestmark = pytest.mark.cluster
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextlib.contextmanager
def running(command: list[str], log: Path, ready: str, **environment: str) -> Iterator[None]:
    """A server, from when `ready` (a URL) answers to the end of the block."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            env={**os.environ, "PATH": path, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            due = time.monotonic() + 300
            while not _answers(ready):
                assert server.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < due, log.read_text()[-3000:]
                time.sleep(0.5)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, 15)
            server.wait(timeout=60)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A PostgreSQL of one's own, as its user where the tests run as root, which PostgreSQL refuses.

    Not below pytest's folder: another pytest that starts meanwhile closes that to other users.
    """
    if not POSTGRES:
        pytest.skip("no PostgreSQL; apt-get install postgresql")
    with tempfile.TemporaryDirectory() as name:
        yield from postgres(Path(name))


def postgres(folder: Path) -> Iterator[str]:
    (number,) = repo.free_ports()
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    become = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    def call(name: str, *arguments: str) -> None:
        subprocess.run(
            [*become, str(POSTGRES[-1] / name), *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )

    call("initdb", "--auth=trust", "--username=mlflow", "--no-sync", str(folder / "data"))
    options = f"-p {number} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    call("pg_ctl", "--wait", "-D", str(folder / "data"), "-o", options, "-l", str(folder / "log"), "start")
    try:
        call("createdb", "-h", "127.0.0.1", "-p", str(number), "-U", "mlflow", "mlflow")
        yield f"postgresql+psycopg://mlflow@127.0.0.1:{number}/mlflow"
    finally:
        call("pg_ctl", "--wait", "-D", str(folder / "data"), "-m", "fast", "stop")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("moto", reason="no moto; pip install 'moto[server]'")
    url = f"http://127.0.0.1:{repo.free_ports()[0]}"
    log = tmp_path_factory.mktemp("s3") / "log"
    with running(["moto_server", "-H", "127.0.0.1", "-p", url.rpartition(":")[2]], log, url):
        import boto3

        client = boto3.client("s3", endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test")
        for bucket in ("mlflow", "dvc"):
            client.create_bucket(Bucket=bucket)
        yield url


@pytest.fixture(scope="module")
def server(database: str, s3: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    (number,) = repo.free_ports()
    command = ["mlflow", "server", "--backend-store-uri", database, "--artifacts-destination", "s3://mlflow"]
    command += ["--host", "127.0.0.1", "--port", str(number), "--workers", "1"]
    url = f"http://127.0.0.1:{number}"
    log = tmp_path_factory.mktemp("server") / "log"
    variables = {"MLFLOW_S3_ENDPOINT_URL": s3, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **KEYS}
    with running(command, log, f"{url}/health", **variables):
        yield url


def test_a_launched_study_logs_to_the_server_and_shares_by_the_remote(server: str, s3: str, tmp_path: Path) -> None:
    """Jobs have caches of their own: what `dvc repro` finds afterwards came through S3."""
    import boto3
    import mlflow

    folder = test_launch.checkout(tmp_path / "checkout", replicates=(0,))
    repo.call(folder, "dvc", "remote", "add", "--default", "store", "s3://dvc/versus")
    repo.call(folder, "dvc", "remote", "modify", "store", "endpointurl", s3)
    environment = {"MLFLOW_TRACKING_URI": server, **KEYS}
    said = test_launch.versus(folder, "--through-remote", "--workers", "1", **environment)
    assert "1 jobs on local" in said
    assert json.loads(repo.call(folder, "dvc", "status", "--json", **environment)) == {"source": ["always changed"]}
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {"data", "tiny-0", "tiny-0 test", "report"} <= runs.keys()
    assert not (folder / "mlflow.db").exists()
    objects = boto3.client("s3", endpoint_url=s3, aws_access_key_id="test", aws_secret_access_key="test")
    stored = [entry["Key"] for entry in objects.list_objects_v2(Bucket="mlflow")["Contents"]]
    assert any(runs["tiny-0"].info.run_id in key or "weights.safetensors" in key for key in stored)
    cached = [entry["Key"] for entry in objects.list_objects_v2(Bucket="dvc")["Contents"]]
    assert any(key.startswith("versus/runs/") for key in cached)
