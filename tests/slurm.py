"""A Slurm of one node, this machine, for as long as a test needs it: munge, controller and daemon, no container."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests import repo

CONF = """\
ClusterName=versus
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
ReturnToService=2
KillWait=5
MinJobAge=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be none here, with the remedy; empty where there can."""
    if os.geteuid() != 0:
        return "only root can start a Slurm; run these tests as root"
    programs = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if _which(name) is None]
    return f"no {', '.join(programs)}; apt-get install slurm-wlm munge" if programs else ""


@contextlib.contextmanager
def started(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment in which sbatch, squeue and scancel find it; all of it ends with the block."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    memory, ports = psutil.virtual_memory().total // 2**20, repo.free_ports(2)
    conf.write_text(CONF.format(host=host, folder=folder, ports=ports, cores=os.cpu_count(), memory=memory))
    environment = {"SLURM_CONF": str(conf)}
    munged = ["--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={folder}/munge.key"]
    munged += [f"--{kind}-file={folder}/munged.{kind}" for kind in ("log", "pid", "seed")]
    commands = [
        ["munged", *munged],
        ["slurmctld", "-D", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf), "-N", host],
    ]
    with (folder / "daemons.log").open("w") as log:
        daemons = []
        try:
            for program, *arguments in commands:
                command = [str(_which(program)), *arguments]
                daemons.append(subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log))
                time.sleep(1)
            _wait_until_idle({**os.environ, **environment}, folder)
            yield environment
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
            for daemon in daemons:
                daemon.wait(timeout=60)


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    due = time.monotonic() + 90
    said = ""
    while "idle" not in said:
        if time.monotonic() > due:
            logs = [(folder / name).read_text()[-2000:] for name in ("daemons.log", "slurmctld.log", "slurmd.log")]
            raise AssertionError("\n".join(["Slurm does not start", said, *logs]))
        time.sleep(0.5)
        done = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True, check=False)
        said = done.stdout
