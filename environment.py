"""Install Versus, with the versions of constraints.txt, into the environment of the Python that runs this file.

`PYTHON environment.py [EXTRA...]`, from the checkout: by uv, which takes a sixth of pip's time, else by pip. uv is that
on PATH, else the pinned one, which pip installs first. uv reads none of pip's settings: it gets those that say where
packages come from, and where one has no counterpart, or uv fails, pip installs and one line says why.
"""

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

COUNTERPARTS = {  # pip's setting -> uv's variable
    "cert": "SSL_CERT_FILE",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "extra-index-url": "UV_EXTRA_INDEX_URL",
    "find-links": "UV_FIND_LINKS",
    "index-url": "UV_INDEX_URL",
    "no-index": "UV_NO_INDEX",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "trusted-host": "UV_INSECURE_HOST",
}
SEPARATORS = {"UV_FIND_LINKS": ","}  # else a space, as pip has it
NO_MATTER = {  # settings that change nothing of what is installed, or from where
    *(
        "cache-dir",
        "config-file",
        "disable-pip-version-check",
        "exists-action",
        "no-cache-dir",
        "no-color",
        "no-compile",
    ),
    *("no-input", "no-warn-script-location", "progress-bar", "quiet", "require-virtualenv", "retries", "verbose"),
    *("root-user-action", "use-feature"),
}
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
COMPILED = (  # what a study imports: a third of the files installed, in parts that share little, a process each
    ("torch", "torchvision", "timm", "safetensors.torch"),
    (
        *("numpy", "pandas", "pyarrow.parquet", "scipy.stats", "sklearn.metrics", "sklearn.model_selection"),
        *("mlflow", "mlflow.store.tracking.sqlalchemy_store", "matplotlib.pyplot", "seaborn", "jinja2", "PIL.Image"),
        *("dvc.cli", "dvc.repo", "dvc.commands.repro", "dvc.commands.status", "dvc_data.index", "scmrepo.git"),
    ),
)


def main(extras: Sequence[str]) -> int:
    """Install, and have Python compile what a study imports; returns the exit status of what installed last."""
    status = installed(extras)
    if status == 0:
        compile_imported()
    return status


def installed(extras: Sequence[str]) -> int:
    what = ["--constraint", "constraints.txt", "--editable", f".[{','.join(extras)}]"]
    settings = pip_settings()
    unknown = sorted(settings.keys() - COUNTERPARTS.keys() - NO_MATTER)
    if unknown:
        why = f"uv has no counterpart of pip's setting {', '.join(unknown)}"
    elif not (uv := found() or fetched()):
        why = "pip could not install uv"
    else:
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable, *what]
        if call(command, {**for_uv(settings), **os.environ}) == 0:
            return 0
        why = "uv failed"
    print(f"versus: {why}; installing by pip, which takes minutes", file=sys.stderr)
    return call([*PIP, "install", "--quiet", "--no-compile", *what], os.environ)


def found() -> str | None:
    return shutil.which("uv", path=os.pathsep.join([os.environ.get("PATH", ""), sysconfig.get_path("scripts")]))


def fetched() -> str | None:
    """Have pip install uv as it is pinned, beside the Python that runs this; None where that fails."""
    call([*PIP, "install", "--quiet", "--constraint", "constraints.txt", "uv"], os.environ)
    return found()


def pip_settings() -> dict[str, str]:
    """The settings of `pip install` as pip's files and variables have them, variables first, then its own section."""
    said = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
    settings: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in said.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{section}.") and (words := ast.literal_eval(value)):
                settings[name.removeprefix(f"{section}.")] = words
    return settings


def for_uv(settings: Mapping[str, str]) -> dict[str, str]:
    """The variables that have uv look for packages where pip does, and take the best of all indexes as pip does."""
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    for name in COUNTERPARTS.keys() & settings.keys():
        variable = COUNTERPARTS[name]
        variables[variable] = SEPARATORS.get(variable, " ").join(settings[name].split())
    return variables


def compile_imported() -> None:
    """Import what a study imports, on two cores: its first run finds it compiled. The rest is compiled when used."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    commands = [[sys.executable, "-c", code, *part] for part in COMPILED]
    for process in [subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for command in commands]:
        process.wait()


def call(command: list[str], environment: Mapping[str, str]) -> int:
    print(" ".join(map(str, command)), flush=True)
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    os.chdir(Path(__file__).parent)
    sys.exit(main(sys.argv[1:]))
