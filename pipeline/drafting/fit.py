"""What only this machine tells of a draft: its device, which weights it can get, how long its trainings take."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ruamel.yaml import YAML

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.base.quantities import duration
from pipeline.drafting import plan
from pipeline.drafting.choice import Choice, Section, values
from pipeline.drafting.plan import Drafting, Machine, Protocol
from pipeline.drafting.survey import TEST_FRACTION, VAL_FRACTION, look
from pipeline.inference.device import pick_device, processor
from pipeline.inference.rehearse import rehearse
from pipeline.networks.backbone import described
from pipeline.params.faults import parse
from pipeline.params.read import load_params
from pipeline.params.study import Params
from pipeline.training.timing import Estimate

BUDGET = 300.0  # seconds of training on a CPU: with all else there is a report within ten minutes


def look_around(data: str, source: str, asked: tuple[str, ...], like: Path | None) -> Drafting:
    """What a draft is made from: the images of `data`, which params.yaml will call `source`, and this machine."""
    protocol = protocol_of(like) if like is not None else None
    drawn = protocol.content["split"] if protocol is not None else {}
    try:
        survey = look(data, drawn.get("val_fraction", VAL_FRACTION), drawn.get("test_fraction", TEST_FRACTION))
    except StageError as error:  # there is no params.yaml yet
        raise StageError(_as_asked(str(error))) from None
    here = machine()
    return Drafting(source, survey, here, asked, protocol, lacking(plan.backbones(asked, protocol, here)))


def protocol_of(study: Path) -> Protocol:
    """The settings of another study's folder; raises StageError where they are not in order."""
    params = study if study.is_file() else study / "params.yaml"
    if not params.exists():
        raise StageError(f"--like: {study}: no study with a params.yaml there; name one such as studies/rafdb")
    load_params(params)
    content = YAML(typ="safe", pure=True).load(params.read_text(encoding="utf-8"))
    return Protocol((study.resolve().name if study.is_dir() else str(study)), content)


def _as_asked(fault: str) -> str:
    """A fault of `dataset.source`, as the command line calls it."""
    return fault.removeprefix("params.yaml: ").replace("dataset.source", "--data")


def in_order(draft: Mapping[str, Choice | Section]) -> Params:
    """The settings, each network of which can be built; raises StageError for what is wrong with any."""
    settings = parse(values(draft))
    rehearse(settings)
    return settings


def machine() -> Machine:
    device = pick_device("auto").type
    return Machine(device, processor() if device == "cpu" else f"{device} on {processor()}")


def lacking(backbones: Iterable[tuple[str, str]]) -> str:
    """The first backbone whose ImageNet weights are neither here nor to be had; empty where there is none.

    Raises StageError for one that timm does not know; each comes with its network's family before it.
    """
    names = list(backbones)
    for family, name in names:
        try:
            if family != "torchvision":
                described(name)
        except StageError as error:
            raise StageError(f"--models: {str(error).removeprefix('backbone: ')}") from None
    for family, name in names:
        try:
            networks.require_published(family, name)
        except StageError:
            return name
    return ""


def shortened(
    draft: Mapping[str, Choice | Section], found: Sequence[Estimate], given: Drafting
) -> tuple[dict[str, Choice | Section], list[Estimate]]:
    """The draft, and what it then costs, with fewer epochs where a CPU would take longer than BUDGET for all of it."""
    wanted, together = found[0].epochs, sum(each.total for each in found)
    epochs = wanted
    if given.machine.cpu:
        epochs = min(wanted, max(plan.fewest_epochs(given), int(wanted * BUDGET / together)))
    costs = [each.of(epochs) for each in found]
    took = f"{duration(sum(each.total for each in costs))} of training here, for all models and seeds"
    why = f"{took}; more may score higher" if epochs < wanted else took
    train = {**draft["train"], "epochs": Choice(epochs, why), "warmup_epochs": plan.warmup(epochs)}  # type: ignore[dict-item]
    return {**draft, "train": train}, costs
