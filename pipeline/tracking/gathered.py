"""Looks at test images that git knows of: evaluations in commits of all branches and DVC experiments.

They are of times before the record (records/looks.py) was kept, or of clones whose record did not come along. When an
evaluation was made git does not say; its commit was made later.
"""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.base.git import git
from pipeline.records.diary import from_plain
from pipeline.records.evaluation import Evaluation
from pipeline.records.looks import Look
from pipeline.tracking.looks import look

WHO = "looks"


def from_git() -> list[Look]:
    """A look for each evaluation of this study that any commit has, as of the first commit that has it.

    Evaluations of earlier versions, which do not say what their weights were, are left out.
    """
    here, seen, found = Path.cwd(), set[str](), []
    log = git(WHO, here, "log", "--all", "--reverse", "--date-order", "--format=%H %cI", "--", "reports/evaluations")
    for line in log.splitlines():
        commit, at = line.split(" ", 1)
        fresh = {name: blob for name, blob in evaluations(commit).items() if blob not in seen}
        if fresh:
            images = tested_on(commit)
            seen |= set(fresh.values())
            for content in contents(fresh.values()):
                with contextlib.suppress(ValueError):  # damaged, or of an earlier version
                    evaluation = from_plain(Evaluation, content)
                    if evaluation.run.weights_sha256 and (digest := images.get(evaluation.replicate, images.get(None))):
                        found.append(look(evaluation, digest, in_utc(at), evaluation.run.commit))
    return found


def evaluations(commit: str) -> dict[str, str]:
    """The evaluations of a commit: name -> blob."""
    listed = git(WHO, Path.cwd(), "ls-tree", commit, "reports/evaluations/").splitlines()
    entries = [line.split("\t", 1) for line in listed]
    return {name: entry.split()[2] for entry, name in entries if name.endswith(".json")}


def tested_on(commit: str) -> dict[int | None, str]:
    """SHA-256 of the test images of a commit, by replicate where each has its own, else under None."""
    try:
        data = json.loads(git(WHO, Path.cwd(), "show", f"{commit}:./reports/data.json"))
        own = {each["replicate"]: each["digests"]["test"] for each in data.get("replicates", [])}
        return own or {None: data["digests"]["test"]}
    except Exception:
        return {}


def contents(blobs: Iterator[str] | Any) -> Iterator[Any]:
    """The JSON of blobs, read by one process of git's."""
    names = list(blobs)
    done = subprocess.run(
        ["git", "cat-file", "--batch"], input="\n".join(names).encode(), capture_output=True, check=True, timeout=600
    )
    rest = done.stdout
    for _ in names:
        head, _, rest = rest.partition(b"\n")
        size = int(head.split()[2])
        yield json.loads(rest[:size])
        rest = rest[size + 1 :]


def in_utc(at: str) -> str:
    from datetime import UTC, datetime

    return datetime.fromisoformat(at).astimezone(UTC).isoformat(timespec="seconds")
