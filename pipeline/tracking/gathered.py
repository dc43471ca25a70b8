"""Looks at test images that git and MLflow know of: evaluations in commits of all branches and experiments, and runs.

They are of times before the record (records/looks.py) was kept, or of clones whose record did not come along. When an
evaluation was made git does not say, whose commit came later; MLflow does.
"""

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.base.git import git
from pipeline.records.diary import from_plain
from pipeline.records.evaluation import Evaluation
from pipeline.records.looks import Look
from pipeline.tracking.looks import both, look

WHO = "looks"


def from_git() -> list[Look]:
    """The looks of each evaluation of this study that any commit has, as of the first commit that has it.

    Evaluations of earlier versions, which do not say what their weights were, are left out.
    """
    here, seen, found = Path.cwd(), set[str](), []
    log = git(WHO, here, "log", "--all", "--reverse", "--date-order", "--format=%H %cI", "--", "reports/evaluations")
    for line in log.splitlines():
        commit, at = line.split(" ", 1)
        fresh = {name: blob for name, blob in evaluations(commit).items() if blob not in seen}
        if fresh and (images := tested_on(commit)):  # what a commit does not know of its images, a later one may
            seen |= set(fresh.values())
            for content in contents(fresh.values()):
                with contextlib.suppress(ValueError):  # damaged, or of an earlier version
                    evaluation = from_plain(Evaluation, json.loads(content))
                    if evaluation.run.weights_sha256 and (digest := images.get(evaluation.replicate, images.get(None))):
                        one = look(evaluation, digest, in_utc(at), evaluation.run.commit)
                        found += both(one, evaluation)
    return found


def from_mlflow(client: Any, experiment: str) -> tuple[list[Look], int]:
    """The looks of the runs of the study's evaluations, and how many runs tell none.

    Such a run's artifact is missing or unreadable, or of an earlier version. Raises what MLflow does where the store is
    away.
    """
    found, silent, token = list[Look](), 0, None
    with tempfile.TemporaryDirectory() as scratch:
        while True:
            page = client.search_runs([experiment], "tags.`versus.stage` = 'evaluate'", page_token=token)
            for run in page:
                try:
                    found += of_run(client, run, scratch)
                except Exception:
                    client.list_artifacts(run.info.run_id)  # raises where the store is away, which a download hides
                    silent += 1
            token = page.token
            if not token:
                return found, silent


def of_run(client: Any, run: Any, scratch: str) -> list[Look]:
    """What an evaluation's run says; raises where it does not say enough."""
    tags = run.data.tags
    name = f"{tags['versus.model']}-{tags['versus.replicate']}.json"
    inputs = [{tag.key: tag.value for tag in each.tags} for each in run.inputs.dataset_inputs]
    images = next(each["sha256"] for each in inputs if each["mlflow.data.context"] == "test")
    path = client.download_artifacts(run.info.run_id, name, scratch)
    evaluation = from_plain(Evaluation, json.loads(Path(path).read_text(encoding="utf-8")))
    if not evaluation.run.weights_sha256:
        raise ValueError(name)
    when = datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="seconds")
    one = look(evaluation, images, when, tags.get("versus.commit", ""), tags.get("dvc.experiment", ""))
    return both(one, evaluation)


def evaluations(commit: str) -> dict[str, str]:
    """The evaluations of a commit: name -> blob."""
    listed = git(WHO, Path.cwd(), "ls-tree", "-z", commit, "reports/evaluations/").split("\0")
    entries = [line.split("\t", 1) for line in listed if line]
    return {name: entry.split()[2] for entry, name in entries if name.endswith(".json")}


def tested_on(commit: str) -> dict[int | None, str]:
    """SHA-256 of the test images of a commit, by replicate where each has its own, else under None."""
    try:
        data = json.loads(git(WHO, Path.cwd(), "show", f"{commit}:./reports/data.json"))
        own = {each["replicate"]: each["digests"]["test"] for each in data.get("replicates", [])}
        return own or {None: data["digests"]["test"]}
    except Exception:
        return {}


def contents(blobs: Iterable[str]) -> Iterator[bytes]:
    """What is in blobs, read by one process of git's."""
    names = list(blobs)
    done = subprocess.run(
        ["git", "cat-file", "--batch"], input="\n".join(names).encode(), capture_output=True, check=True, timeout=600
    )
    rest = done.stdout
    for _ in names:
        head, _, rest = rest.partition(b"\n")
        size = int(head.split()[2])
        yield rest[:size]
        rest = rest[size + 1 :]


def in_utc(at: str) -> str:
    return datetime.fromisoformat(at).astimezone(UTC).isoformat(timespec="seconds")
