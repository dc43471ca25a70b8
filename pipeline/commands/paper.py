"""`versus paper`: the set-up paragraph of a paper and a reproducibility checklist, from what the study's files say.

It needs the committed reports alone. Leaves reports/paper/: setup and checklist, each in Markdown and LaTeX.
"""

import argparse

SUMMARY = "Write a paper's set-up paragraph and the reproducibility checklist from the study's files"
EXAMPLE = "versus paper"
INTERRUPTED = "reports/paper is as it was"


def arguments(_parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_given: argparse.Namespace) -> None:
    import textwrap

    from pipeline.base.errors import legible
    from pipeline.base.files import written_whole
    from pipeline.params.read import load_params
    from pipeline.report import paper, results

    found = results.read(load_params())
    text, answers = paper.setup(found), paper.checklist(found)
    with written_whole(paper.FOLDER) as folder:
        folder.mkdir(parents=True)
        for name, content in {**paper.setup_texts(text), **paper.checklist_texts(answers)}.items():
            (folder / name).write_text(content, encoding="utf-8")
    unknown = [each.question for each in answers if not each.answer]
    print(textwrap.fill(legible(text), 100, break_long_words=False))
    print(f"\npaper: {len(answers) - len(unknown)} of {len(answers)} questions answered: {paper.FOLDER}")
    for question in unknown:
        print(f"  not known: {question}")
