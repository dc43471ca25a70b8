"""`versus new`: a study of one's own images, with settings that fit them and this machine, and what it will cost."""

import argparse
import contextlib
from pathlib import Path

SUMMARY = "Write a study of your own images, with settings that fit them and this machine"
EXAMPLE = "versus new flowers --data ~/my-images --models resnet18,vit_tiny_patch16_224"
INTERRUPTED = "a study that is written stays: in its folder `dvc repro split` and `versus estimate` go on"
NEXT = """
studies/{name}/params.yaml says why each setting is as it is: change what you know better. Then

  cd studies/{name}
  versus launch        # trains, and writes reports/report.html"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the study, whose folder will be studies/NAME")
    images = "folder, archive or URL of <class>/ folders, or of train/<class>/ and test/<class>/"
    parser.add_argument("--data", required=True, metavar="IMAGES", help=images)
    models = "networks by their names in timm, or of cnn, vit and hybrid, which are compared without it"
    parser.add_argument("--models", default="", metavar="NAME,NAME", help=models)
    like = "take protocol and networks of that study, such as studies/rafdb, and nothing of its images and results"
    parser.add_argument("--like", type=Path, metavar="STUDY", help=like)


def run(given: argparse.Namespace) -> None:
    new(given.name, given.data, tuple(filter(None, given.models.replace(" ", "").split(","))), given.like)


def new(name: str, data: str, models: tuple[str, ...] = (), like: Path | None = None) -> None:
    """Write studies/NAME, prepare its images, time its networks, and print the cost and the next command.

    Raises StageError, and leaves no folder, where images or networks make no study.
    """
    from pipeline.base.lines import folded
    from pipeline.drafting import folder

    place = folder.place(name)  # before what takes seconds to import
    from pipeline.commands.estimate import in_words, measured
    from pipeline.drafting import choice, fit, plan

    given = fit.look_around(data, folder.source_seen_from(place, data), models, like)
    print(f"{data}: {given.survey.words}\n{folded(given.survey.in_detail)}", flush=True)
    draft, heading = plan.draft(given), plan.heading(given)
    settings = fit.in_order(draft)
    folder.write(place, choice.text(draft, heading))
    with contextlib.chdir(place):
        folder.prepare(place)
        costs = measured(settings)
        if like is None:
            draft, costs = fit.shortened(draft, costs, given)
            folder.write_settings(place, choice.text(draft, heading))
        print(f"\n{in_words(costs)}\n{NEXT.format(name=name)}")
