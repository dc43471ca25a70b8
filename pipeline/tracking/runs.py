"""MLflow: the only importer of mlflow.

An MLflow experiment is a study. Data (fetch, split, preview) is one run, every training one, every evaluation a child
of its training's run, every trial a child of the run of its model's tuning, every explanation and every report one;
runs of a DVC experiment carry its name behind theirs. A training's run is found by the tag `versus.key`, which hashes
what determines the training. The best model by validation is a registered model, named as the study, with the alias
`champion`. MLFLOW_TRACKING_URI is honoured; else the store is `mlflow.db` with `mlartifacts/` at the root of the
checkout, the original one also where DVC works in a copy of it.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.base.git import uncommitted
from pipeline.base.places import study
from pipeline.params.read import flatten, load_params
from pipeline.params.study import Params
from pipeline.records.tuning import Tuning
from pipeline.tracking.champion import logged_model
from pipeline.tracking.provenance import described, experiment_name, provenance, rerun_command
from pipeline.tracking.run import Run
from pipeline.tracking.store import close_orphans, connect, newest_run, only_writer, owner, reachable
from pipeline.tracking.views import SETTINGS

DECIDED = ("network", "train", "augment", "train_fraction", "image_size")  # parts of a training's values: its settings


@contextlib.contextmanager
def data_run(stage: str) -> Iterator[Run]:
    """The run of this study's data, shared by the stages that make it: one for each state of params.yaml's data."""
    settings = load_params()
    values = {"dataset": settings.dataset.model_dump(exclude={"attributes"}), "split": settings.split.model_dump()}
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
    with _open(
        name, "train", _training_tags(key, values), reopen=_killed(key, "train", known), system_metrics=True
    ) as run:
        run.params(values)
        run.describe(f"Training of {name}: {described(values)}.")
        yield run


@contextlib.contextmanager
def trial_run(name: str, key: str, values: Mapping[str, Any], known: str = "") -> Iterator[Run]:
    """A run for one trial, below the run of its model's tuning; one that was killed goes on as a training does."""
    tags = {"versus.key": key, "versus.model": values["model"], "versus.trial": str(values["tuning"]["trial"])}
    with reachable():
        tags["mlflow.parentRunId"] = tuning_of(load_params(), values["model"])
    with _open(name, "trial", tags, reopen=_killed(key, "trial", known), system_metrics=True) as run:
        run.params(values)
        run.describe(f"{name}: {described(values)}.")
        yield run


def tuning_of(settings: Params, model: str) -> str:
    """The id of the run of a model's tuning, whose children trials are; one process at a time makes it if need be."""
    from mlflow.entities import Param

    client, experiment = connect()
    searched = {key: each.model_dump(exclude_none=True) for key, each in settings.space(model).items()}
    of_trials = settings.tune.model_dump(include={"seed", "sampler"})
    text = json.dumps([study(), model, searched, of_trials, experiment_name()], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()
    with only_writer():
        if known := newest_run(client, experiment, f"tags.`versus.key` = '{key}'"):
            return known
        tags = {"versus.stage": "tune", "versus.key": key, "versus.model": model, **provenance()}
        title = f"{model} tuning ({experiment_name()})" if experiment_name() else f"{model} tuning"
        run = client.create_run(experiment, run_name=title, tags=tags).info.run_id
        given = flatten({"space": searched, **of_trials})
        client.log_batch(run, params=[Param(key, str(value)) for key, value in given.items()])
        client.set_tag(
            run, "mlflow.note.content", f"Trials of settings of {model}; validation alone chooses among them."
        )
        client.set_terminated(run)  # it has no process of its own
    return str(run)


def chosen(settings: Params, tuning: Tuning, model: str) -> None:
    """Tell the run of a model's tuning what was chosen, and what it cost."""
    best, trials = tuning.best(model), tuning.all_of(model)
    with reachable():
        run = Run(connect()[0], tuning_of(settings, model))
        run.client.set_tag(run.id, "versus.chosen", str(best.trial))
        spent = {"train_seconds": sum(each.seconds for each in trials), "trials": float(len(trials))}
        step = len(trials)  # a longer search has a point of its own
        run.metrics({"selected_val_macro_f1": best.val_macro_f1, **spent}, step=step)
        run.describe(
            f"Trial {best.trial} of {len(tuning.of(model))} was chosen for {model}: {json.dumps(dict(best.settings))}."
        )


@contextlib.contextmanager
def elsewhere(name: str, key: str, values: Mapping[str, Any], began: float, ended: float) -> Iterator[Run]:
    """A run for a training on another machine, from when it began there to when it ended, in seconds since 1970.

    Of one that this store has, no second run is made.
    """
    query, tags = _of(key, "train"), {**_training_tags(key, values), "versus.elsewhere": "true"}
    with _open(name, "train", tags, reopen=query, between=(began, ended)) as run:
        run.params(values)
        run.describe(f"Training of {name}, on another machine: {described(values)}.")
        yield run


@contextlib.contextmanager
def evaluation_run(name: str, key: str, config: Mapping[str, Any], log_model: Callable[[Run], None]) -> Iterator[Run]:
    """A child of the training's run; where this store has none (another machine, a fresh clone), of a fresh parent.

    `log_model` is called with a fresh parent, which holds no model yet.
    """
    from mlflow.entities import LoggedModelInput

    tags = {"versus.model": config["model"], "versus.replicate": str(config["replicate"])}
    with reachable():
        client, experiment = connect()
        parent = newest_run(client, experiment, f"tags.`versus.key` = '{key}' and attributes.status = 'FINISHED'")
    if parent is None:
        with _open(name, "train", {**_training_tags(key, config), "versus.from_cache": "true"}) as run:
            run.params(config)
            run.describe(f"{name} was trained elsewhere: {described(config)}.")
            log_model(run)
            parent = run.id
    with _open(f"{name} test", "evaluate", {**tags, "mlflow.parentRunId": parent}) as run:
        run.params(config)
        run.describe(f"{name} on the test images, once: {described(config)}.")
        if model := logged_model(client, experiment, key):
            client.log_inputs(run.id, models=[LoggedModelInput(model)])
            run.model_id = model
        yield run
        run.also(parent)


@contextlib.contextmanager
def report_run(stage: str = "report") -> Iterator[Run]:
    """A run of its own for what looks at all trainings."""
    with _open(stage, stage, {}) as run:
        yield run


def _training_tags(key: str, values: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a training's run; the replicates of a model with the same settings have one that is equal."""
    settings = {part: values.get(part) for part in DECIDED}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return {
        "versus.key": key,
        "versus.model": values["model"],
        "versus.replicate": str(values["replicate"]),
        SETTINGS: f"{values['model']} {digest}",
    }


def _of(key: str, stage: str) -> str:
    """A query: runs of a stage whose key is `key`."""
    return f"tags.`versus.key` = '{key}' and tags.`versus.stage` = '{stage}'"


def _killed(key: str, stage: str, known: str) -> str:
    """A query: the run that was killed and is to go on, `known` by its id or the newest that never finished.

    One that is running is somebody else's, who may train the same in another checkout: dead ones were closed.
    """
    ended = "attributes.status != 'FINISHED' and attributes.status != 'RUNNING'"
    return f"{_of(key, stage)} and " + (f"attributes.run_id = '{known}'" if known else ended)


@contextlib.contextmanager
def _open(
    name: str,
    stage: str,
    tags: Mapping[str, str],
    *,
    reopen: str = "",
    system_metrics: bool = False,
    between: tuple[float, float] | None = None,
) -> Iterator[Run]:
    """Start a run, or go on with the newest that the query `reopen` finds; runs whose process is gone are closed first.

    A run ends as FINISHED, as FAILED by an error, as KILLED by Ctrl-C or SIGTERM. What it is of may have been `between`
    two times, in seconds since 1970.
    """
    with reachable():
        import mlflow

        client, experiment = connect()
        close_orphans(client, experiment)
        known = newest_run(client, experiment, reopen) if reopen else None
        if known:
            for key, value in owner().items():
                client.set_tag(known, key, value)
            mlflow.start_run(run_id=known, log_system_metrics=system_metrics)
        run = known or _started(client, experiment, name, {"versus.stage": stage, **tags}, system_metrics, between)
        try:
            yield Run(client, run, reopened=bool(known))
        except BaseException as error:
            with contextlib.suppress(Exception):  # the store may be what failed
                mlflow.end_run("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        mlflow.end_run("FINISHED")
        if between:
            client.set_terminated(run, "FINISHED", end_time=int(between[1] * 1000))


def _started(
    client: Any,
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    system_metrics: bool,
    between: tuple[float, float] | None,
) -> str:
    """Start a fresh run and return its id; it begins now, or when what it is of did."""
    import mlflow

    title = f"{name} ({experiment_name()})" if experiment_name() else name
    tags = {"mlflow.source.name": rerun_command(), **tags, **provenance(), **owner()}
    if between:
        created = client.create_run(experiment, start_time=int(between[0] * 1000), run_name=title, tags=tags)
        run = str(mlflow.start_run(run_id=created.info.run_id).info.run_id)
    else:
        active = mlflow.start_run(
            experiment_id=experiment, run_name=title, tags=tags, log_system_metrics=system_metrics
        )
        run = str(active.info.run_id)
    if patch := uncommitted():
        client.log_text(run, patch, "uncommitted.patch")
    return run
