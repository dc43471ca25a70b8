"""`versus register`: fix models, replicates, settings, metric and margin before the test images are looked at.

Writes registration.json, which counts from the commit that has it. Every look at test images says which registration
was committed by then (pipeline/records/looks.py), and the report whether it was kept.
"""

import argparse

SUMMARY = "Fix models, replicates, settings and margin before the test images are looked at"
EXAMPLE = "versus register"
INTERRUPTED = "registration.json is as it was"


def arguments(_parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_given: argparse.Namespace) -> None:
    from pipeline.base.errors import StageError
    from pipeline.base.lines import folded
    from pipeline.base.places import REPORT
    from pipeline.params.read import load_params
    from pipeline.records import looks
    from pipeline.records.dataset import Dataset
    from pipeline.records.registration import FILE, Registration
    from pipeline.report.sections.looks import times

    settings = load_params()
    before = Registration.read()
    if before and before.departures(settings):
        raise StageError(
            f"register: {FILE} has other settings than params.yaml (first: {next(iter(before.departures(settings)))});"
            " the report will say so. To register anew, remove it first: earlier looks at the test images stay known"
        )
    if before is None:  # else it holds: written anew by a later version, it would be another
        Registration.of(settings).write()
    replicates = f"{len(settings.replicates)} replicate{'s' * (len(settings.replicates) > 1)}"
    margin = f"margin {settings.verdict.margin}" if settings.verdict.margin else "no margin"
    print(folded(f"register: {', '.join(settings.models)}; {replicates}, macro-F1, {margin}: {FILE}"))
    print(f"register: it counts from the commit that has it: git add {FILE} && git commit")
    if REPORT.exists() and not before and (found := looks.at(Dataset.read())):
        print(f"register: these test images were scored {times(len(found))} before it, as the report will say")
