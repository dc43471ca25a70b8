"""Which trainings are to run, by DVC's own account of the study, and in which order."""

import contextlib
import dataclasses
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base import terse
from pipeline.base.errors import StageError
from pipeline.launch.signals import held_back


@dataclasses.dataclass(frozen=True)
class Group:
    """Stages of one training that wait for nothing but what all trainings share: train@cnn-0 and evaluate@cnn-0."""

    key: str  # what follows the @: cnn-0; of an earlier wave with the stage's name: trial cnn-0
    targets: list[str]  # in the order in which they run
    needs: list[str]  # outputs of shared stages that they read: data/fit, data/test


@dataclasses.dataclass(frozen=True)
class Wave:
    """Groups that may run side by side, after `shared` stages that run once; a later wave waits for all of them."""

    shared: list[str]
    groups: list[Group]


@contextlib.contextmanager
def opened(study: Path, who: str = "launch") -> Iterator[Any]:
    """DVC's repository in a study's folder, which is the current one meanwhile; its faults in one line from `who`."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    terse.hush()
    with contextlib.chdir(study):  # some of DVC's paths start where one stands
        try:
            opened = Repo()
        except (DvcException, OSError) as error:
            raise _told(who, error) from None
        try:
            with contextlib.closing(opened) as repo:
                yield repo
        except DvcException as error:
            raise _told(who, error) from None


def _told(who: str, error: Exception) -> StageError:
    """DVC's fault in one line."""
    said = " ".join(str(error).split())
    remedy = "; `git checkout dvc.lock` brings the committed one back" if "dvc.lock" in said else ""
    return StageError(f"{who}: DVC: {said}{remedy}")


def plan(repo: Any) -> list[Wave]:
    """The study's graph, divided: the last wave trains and evaluates, one before it, if there are trials, tries.

    A group's stages are of a matrix and depend on their own group, and on shared stages, alone.
    """
    import networkx

    graph = repo.index.graph  # an edge leads from a stage to one that it depends on
    order = list(networkx.dfs_postorder_nodes(graph))
    numbers = _waves(graph, order)
    members: dict[tuple[int, str], list[Any]] = {}
    for stage in order:
        place = numbers[stage], _key(stage)
        beside = (other for other in networkx.descendants(graph, stage) if numbers[other] == place[0])
        if place[1] and all(_key(other) in ("", place[1]) for other in beside):
            members.setdefault(place, []).append(stage)
    made = {out.fs_path: stage for stage in graph for out in stage.outs}
    waves = []
    for number in sorted({number for number, _ in members}):
        stages = {key: found for (wave, key), found in members.items() if wave == number}
        before = {other for found in stages.values() for each in found for other in networkx.descendants(graph, each)}
        shared = [stage for stage in order if stage in before and not _key(stage)]
        last = number == max(wave for wave, _ in members)
        groups = [
            _group(key if last else f"{_name(found[0])} {key}", found, shared, made) for key, found in stages.items()
        ]
        waves.append(Wave([stage.name for stage in shared if numbers[stage] == number], groups))
    return waves


def _waves(graph: Any, order: Sequence[Any]) -> dict[Any, int]:
    """The wave of each stage: one more than that of the trainings or trials that a shared stage waits for."""
    numbers: dict[Any, int] = {}
    for stage in order:
        before = [numbers[other] + bool(_key(other) and not _key(stage)) for other in graph.successors(stage)]
        numbers[stage] = max(before, default=0)
    return numbers


def _group(key: str, stages: Sequence[Any], shared: Sequence[Any], made: Mapping[str, Any]) -> Group:
    read = {dep.def_path: _maker(made, dep.fs_path) for stage in stages for dep in stage.deps if dep.def_path}
    made_before = {path for path, stage in read.items() if stage in shared}
    needs = sorted(path for path in made_before if not made_before & set(map(str, Path(path).parents)))
    return Group(key, [stage.name for stage in stages], needs)


def _name(stage: Any) -> str:
    return str(stage.name.partition("@")[0])


def _key(stage: Any) -> str:
    """What tells a stage from the others of its matrix; empty of one that is of none."""
    return str(stage.name.partition("@")[2])


def _maker(made: Mapping[str, Any], path: str) -> Any:
    """The stage of which a path is an output, or lies in one; None if there is none."""
    return next((made[str(place)] for place in (Path(path), *Path(path).parents) if str(place) in made), None)


def pull(repo: Any) -> None:
    """Bring the run-cache of the default remote up to date here, its outputs not."""
    repo.stage_cache.pull(None)


def to_run(repo: Any, groups: Sequence[Group]) -> list[Group]:
    """The groups of which `dvc repro` would run a stage, rather than find it up to date or in its run-cache."""
    stages = {stage.name: stage for stage in repo.index.stages}
    with repo.lock:
        return [group for group in groups if not _cached(repo, [stages[name] for name in group.targets])]


def _cached(repo: Any, stages: Sequence[Any]) -> bool:
    """Whether DVC has the outputs of stages that follow each other, though they may not lie in the checkout."""
    from dvc_data.hashfile.hash_info import HashInfo

    made: dict[str, HashInfo] = {}
    for stage in stages:
        if not stage.changed():
            made |= {out.def_path: out.hash_info for out in stage.outs}
            continue
        for dep in stage.deps:
            if dep.def_path in made:
                dep.hash_info = made[dep.def_path]
            else:
                dep.save()
        entry = _entry(repo.stage_cache, stage)
        if not entry or not _kept(repo, stage, entry):
            return False
        made |= {out["path"]: HashInfo("md5", out["md5"]) for out in entry["outs"]}
    return True


def _entry(cache: Any, stage: Any) -> dict[str, Any] | None:
    """A stage's newest entry in the run-cache; DVC's own look-up wants what the stage reads to lie in the checkout."""
    from dvc.stage.cache import _get_cache_hash
    from dvc.stage.serialize import to_single_stage_lockfile

    key = _get_cache_hash(to_single_stage_lockfile(stage), key=True)
    entries = sorted(Path(cache._get_cache_dir(key)).glob("*"), key=lambda path: path.stat().st_mtime)
    return cache._load_cache(key, entries[-1].name) if entries else None


def _kept(repo: Any, stage: Any, entry: Mapping[str, Any]) -> bool:
    """Whether the cache has all outputs that an entry of the run-cache or of dvc.lock names for a stage."""
    return bool(repo.stage_cache._create_stage(entry, wdir=stage.wdir).outs_cached())


def take(repo: Any, names: Sequence[str]) -> None:
    """Bring stages up to date from the run-cache, as `dvc repro` does, and write dvc.lock once for all of them.

    `dvc repro` reads and writes all of dvc.lock for each stage, so that its time grows by the square of their number.
    What the run-cache does not have is left to it, as is a stage that params.yaml asks for no more. Where one fails,
    those before it stand.
    """
    stages = {stage.name: stage for stage in repo.index.stages}
    taken: list[Any] = []
    fault: BaseException | None = None
    with repo.lock, repo.scm_context(quiet=True):  # which takes lines of .gitignore back where it sees a fault
        try:
            taken.extend(stages[name] for name in names if name in stages and _restored(repo, stages[name]))
        except BaseException as error:
            fault = error
        _write_lock(taken)
    if fault is not None:
        raise fault


def _restored(repo: Any, stage: Any) -> bool:
    """Whether a stage was out of date, and its outputs came from the run-cache; its command is not run.

    What dvc.lock has stands where it was made of what the stage reads now, and is there to be had.
    """
    from dvc.stage.serialize import to_single_stage_lockfile
    from dvc_data.hashfile.hash_info import HashInfo

    if not stage.changed():
        return False
    unchanged = not stage.changed_stage() and not stage.changed_deps()
    stands = unchanged and _kept(repo, stage, to_single_stage_lockfile(stage))
    if not _cached(repo, [stage]):  # which takes what the stage reads now for what dvc.lock has
        return False
    stage.remove_outs(ignore_remove=False, force=False)
    if not stands:
        for out in stage.outs:
            out.hash_info = HashInfo()  # so that restore looks for others
    repo.stage_cache.restore(stage)
    stage.save()
    stage.commit()
    return True


def record(repo: Any, names: Sequence[str]) -> None:
    """Take the outputs of stages as they lie in the checkout into DVC's cache, its run-cache and dvc.lock.

    git is to ignore what DVC keeps, as after `dvc repro`.
    """
    stages = [stage for stage in repo.index.stages if stage.name in names]
    with repo.lock, repo.scm_context(quiet=True):
        for stage in stages:
            stage.save()
            stage.commit()
            stage.ignore_outs()
        _write_lock(stages)


def _write_lock(stages: Sequence[Any]) -> None:
    """Write what stages of one dvc.yaml read and left into its dvc.lock; a signal to end waits until it is whole."""
    if stages:
        with held_back():
            stages[0].dvcfile.dump_stages(list(stages), update_pipeline=False)


def variants(overrides: Sequence[str]) -> list[list[str]]:
    """The experiments that `dvc exp run --queue -S ...` would make of the same overrides; one, of none, without any."""
    from dvc.utils.hydra import get_hydra_sweeps
    from hydra.errors import HydraException

    if not overrides:
        return [[]]
    try:
        return [each["params.yaml"] for each in get_hydra_sweeps({"params.yaml": list(overrides)})]
    except (HydraException, ValueError) as error:
        raise StageError(f"launch: -S {' -S '.join(overrides)}: {' '.join(str(error).split())}") from None


def override(study: Path, settings: Sequence[str]) -> None:
    """Change a study's params.yaml as `dvc exp run -S` does."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    try:
        apply_overrides(study / "params.yaml", list(settings))
    except DvcException as error:
        cause = error.__cause__ or error
        raise StageError(f"launch: -S {' -S '.join(settings)}: {' '.join(str(cause).split())}") from None


def expected(study: Path) -> dict[str, float]:
    """Seconds that each training took when it last ran here, by its group's key; a model's mean for its replicates."""
    found: dict[str, list[float]] = {}
    for path in sorted((study / "reports/evaluations").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            result = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault(result["model"], []).append(float(result["cost"]["train_seconds"]))
    return {model: statistics.mean(seconds) for model, seconds in found.items()}


def longest_first(groups: Sequence[Group], seconds: Mapping[str, float]) -> list[Group]:
    """So that no long training starts last and leaves the other workers idle; those of unknown length lead."""

    def length(group: Group) -> float:
        return next((seconds[model] for model in sorted(seconds, key=len, reverse=True) if _is_of(group, model)), 1e12)

    return sorted(groups, key=length, reverse=True)


def _is_of(group: Group, model: str) -> bool:
    key = group.key.rpartition(" ")[2]
    return key == model or key.startswith(f"{model}-")
