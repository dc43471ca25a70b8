"""Follow the pages in a fresh clone as a new user does, each command as it is written: `make walk`.

The study is the default one with networks of seconds. What a page takes to be there (a photo, a folder of images,
another clone) is put there first; servers are asked and then stopped. `make walk PAGES=README.md` follows one page;
with LIMIT in the environment no further page begins after so many seconds.
What is not run is in ELSEWHERE, with where it is or why nowhere.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from tests import repo, trees

PAGES = (
    "README.md",
    "docs/using.md",
    "docs/index.md",
    "docs/mlflow.md",
    "docs/ablations.md",
    "docs/studies.md",
    "docs/data.md",
)
PAGES += ("docs/extending.md", "docs/cluster.md", "docs/anywhere.md")
ELSEWHERE = {  # first words of what is not run, and where it is, or why nowhere
    "make test": "it comes before this",
    "versus launch --on slurm": "tests/launch/test_launch.py, on a real Slurm, by `make cluster-test`",
    "scp": "there is no other machine; tests/anywhere goes to another folder",
    "ssh": "as scp",
    "dvc exp run -S dataset.source=/path/to/both": "tests/images/test_batches.py, with votes",
}
SETUP = """
set -eo pipefail
committed() { git add --all; git commit --quiet --allow-empty --message "$1"; }      # a user's own commit
served() {                                                                       # until the server answers
  until curl --silent --fail --output /dev/null "http://127.0.0.1:$1"; do sleep 1; kill -0 $server; done
}
first_two() { dvc queue remove $(dvc queue status | awk '/Queued/ { print $1 }' | tail -n +3); }
queue_done() {
  while [[ "$(dvc queue status)" =~ Queued|Running ]]; do sleep 10; done
  dvc queue status
  [[ ! "$(dvc queue status)" =~ Failed ]]
}
started() { until versus launch --status | grep running; do kill -0 $!; sleep 1; done; }
another() { [ -d ../another-clone ] || git clone --quiet . ../another-clone; }
ended() { kill -- -$server; wait $server || true; server=; }
server=
trap '[ -z "$server" ] || kill -- -$server' EXIT
set -m
"""
INSTEAD = {  # a command -> what is run; the command itself stands as {}
    "make repro": "{}; committed 'Results'",  # which come with a real clone
    "make ui": "{} & server=$!; served $PORT; ended",
    "dvc exp run --queue -S models.hybrid.depth=1,2,4": "{}; first_two",  # of six experiments, for the time
    "dvc queue start": "{}; queue_done",
    "cd studies/mine": "{}; python -m tests.walk own",
    "versus ui": "{} --port $PORT & server=$!; served $PORT; ended",
    "versus page": "{} --port $PORT & server=$!; served $PORT; ended",
    "versus launch": "python -m tests.walk changed; {}",
    "versus launch --workers 2": "cd $CLONE; committed 'Results'; python -m tests.walk changed; {}",
    "versus launch -S augment.strength=0.5,1.0": "versus launch -S augment.strength=0.5,1.0 -S models.hybrid.depth=1",
    "versus launch --status": "{}; dvc repro",
    "versus launch --stop": "python -m tests.walk changed; versus launch & started; {}; ! wait $!",
    "versus verify": "committed 'Results'; {}; another",
    "versus verify .": "{}",
    "versus pack": "python -m tests.walk changed; {}",
    "git stash": "committed 'Results'; {}",
    "dvc remote add --default store /mnt/shared/versus": "dvc remote add --default store $CLONE/../store",
    "dvc pull --run-cache": "committed 'Remote'; another; (cd ../another-clone; git pull --quiet; {}; dvc repro)",
    "mlflow models serve": "{} & server=$!; served 5001/ping",
    "curl": "{}; ended",
}


def main() -> None:
    if sys.argv[1:] == ["own"]:  # the study of own images, for the time
        repo.change(Path(), {"replicates": [0], "train.epochs": 1, "train.warmup_epochs": 0})
    elif sys.argv[1:] == ["changed"]:
        settings = YAML(typ="safe").load(Path("params.yaml"))
        repo.change(Path(), {"train.lr": settings["train"]["lr"] / 2})
    else:
        began, limit = time.monotonic(), float(os.environ.get("LIMIT", "inf"))
        with tempfile.TemporaryDirectory() as scratch:
            clone = prepared(Path(scratch))
            for page in os.environ.get("PAGES", "").split() or PAGES:
                if time.monotonic() - began < limit:
                    follow(page, clone)
                else:
                    print(f"{page}: no time is left", flush=True)


def prepared(scratch: Path) -> Path:
    """The clone, with the environment that is here, and what the pages take for granted around it."""
    clone = scratch / "versus"
    clone.mkdir()
    repo.copy(clone)
    (clone / ".venv").symlink_to(Path(sys.prefix))
    (clone / ".venv/ready").touch()  # make takes it as it is
    repo.change(clone, {**repo.SMALL, "replicates": [2]})  # cnn-2 is on a page
    pixels = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        image[..., index % 2] //= 4
        trees.put(scratch / "my-images" / ("left", "right")[index % 2] / f"{index}.png", trees.encoded(image))
    for name in ("photo.jpg", "photo.png", "photos/a.png", "more/b.png"):
        (clone / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels[0]).save(clone / name)
    repo.commit(clone)
    return clone


def adapted(line: str) -> str:
    """What is run for a line of a page; longer beginnings go first."""
    for start in sorted(INSTEAD, key=len, reverse=True):
        if line.startswith(start):
            return INSTEAD[start].replace("{}", line)
    return line


def script(page: Path) -> str:
    """A page's commands, one after the other, each told before it is run."""
    lines = [SETUP]
    for line in commands(page):
        if not line.startswith(tuple(ELSEWHERE)):
            lines += [f"echo {shlex.quote(f'$ {line}')}", adapted(line)]
    return "\n".join(lines)


def commands(page: Path) -> list[str]:
    """The lines of a page's bash blocks, without comments."""
    found = []
    for block in blocks(page, "bash"):
        found += [re.sub(r"\s*(^|\s)#.*", "", line).strip() for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in found if line]


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in some languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


def follow(page: str, clone: Path) -> None:
    """One page from top to bottom, in one shell; AssertionError with the last of its output where a command fails."""
    began, log = time.monotonic(), clone.parent / "walk.log"
    (port,) = repo.free_ports()
    environment = {"HOME": str(clone.parent), "PYTHONPATH": str(clone), "CLONE": str(clone), "PORT": str(port)}
    print(f"== {page}", flush=True)
    with log.open("w") as output:
        done = subprocess.run(
            ["bash", "-c", script(clone / page)],
            cwd=clone,
            env={**repo.user(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    said = log.read_text(encoding="utf-8", errors="replace")
    print("\n".join(line for line in said.splitlines() if line.startswith("$ ")), flush=True)
    assert done.returncode == 0, f"{page}: {done.returncode}\n{said[-2500:]}"
    print(f"{page}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
