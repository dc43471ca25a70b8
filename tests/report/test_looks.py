"""The report says how often its test images had been scored before, and whether what was registered was kept."""

import dataclasses
import json
from argparse import Namespace
from pathlib import Path

import pytest

from pipeline.base.errors import StageError
from pipeline.commands import register
from pipeline.params.read import load_params
from pipeline.records import looks, registration
from pipeline.records.evaluation import Evaluation
from pipeline.records.looks import Earlier, Look
from pipeline.report import page, results
from pipeline.report.section import Section
from pipeline.report.sections import looks as looks_section
from pipeline.stages import source
from pipeline.tracking import looks as tracking
from tests import fake_study, repo

IMAGES, EARLIER = "a7" * 32, "2026-01-01T00:00:00+00:00"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fake_study.write(tmp_path_factory.mktemp("study"), models=("cnn", "vit"), replicates=(0, 1), epochs=2)
    for number, path in enumerate(sorted((folder / "reports/evaluations").iterdir())):
        content = json.loads(path.read_text())
        content["run"]["weights_sha256"] = str(number) * 64
        path.write_text(json.dumps(content))
    return folder


@pytest.fixture(autouse=True)
def _in_the_study(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    looks.record().unlink(missing_ok=True)
    registration.FILE.unlink(missing_ok=True)


def evaluated(registered: str = "") -> list[Look]:
    """The looks of the study's evaluations."""
    paths = sorted(Path("reports/evaluations").iterdir())
    return [
        tracking.look(Evaluation.read(path), IMAGES, f"2026-02-01T00:00:0{number}+00:00", registration=registered)
        for number, path in enumerate(paths)
    ]


def section() -> Section | None:
    return looks_section.section(results.read(load_params()))


def said(found: Section | None) -> str:
    assert found is not None
    return f"{found.words['sentence']} {found.words['registered']}"


def test_a_report_of_before_the_record_says_nothing() -> None:
    assert section() is None


def test_looks_before_the_results_are_counted_with_their_settings_and_shown() -> None:
    ours = evaluated()
    tried = [
        dataclasses.replace(each, weights=f"t{index}", when=EARLIER, settings=each.model, commit="c" * 40)
        for index, each in enumerate(ours)
    ]
    rerun = dataclasses.replace(ours[0], weights="r", when="2026-01-02T00:00:00+00:00", experiment="<tidy>")
    later = dataclasses.replace(ours[0], weights="l", when="2026-03-01T00:00:00+00:00")
    looks.note(ours)
    assert said(section()).startswith("Before these results, this checkout had not scored these test images.")
    looks.note([*tried, rerun, later])
    found = section()
    assert "scored 5 times before these results, by 3 settings, 2 of which are not reported here" in said(found)
    assert found is not None
    (table,) = found.tables
    assert list(table.frame["looks"]) == [2, 2, 1]
    assert table.cells[0] == (
        "cnn",
        "digits",
        "–",
        "cccccccc",
        "as they are",
        "2",
        "2026-01-01",
        "2026-01-01",
        "no",
        "before",
    )
    text = str(page.text(page.templates(), "looks", found, results.read(load_params()), Path()))
    assert "&lt;tidy&gt;" in text
    assert "<details>" in text


@pytest.mark.parametrize(
    ("tried", "words"),
    [
        (["kept"], "scored once before these results, by 1 setting, all of which are reported here."),
        (["a", "b"], "scored 2 times before these results, by 2 settings, none of which is reported here."),
        (["a", "kept", "kept"], "scored 3 times before these results, by 2 settings, 1 of which is not reported here."),
    ],
)
def test_a_sentence_says_how_many_settings_are_left_out(tried: list[str], words: str) -> None:
    shown = Look(EARLIER, "i", "w", "kept", "t", "digits", "cnn", 0)
    looked = [dataclasses.replace(shown, weights=str(index), settings=name) for index, name in enumerate(tried)]
    assert looks_section.sentence(Earlier([shown], looked)).endswith(words)


def test_looks_of_other_settings_since_are_told_and_let_the_report_be_made_again() -> None:
    """After `dvc exp run -S` and the way back, the report is not the one of before the experiment."""
    settings = load_params()
    ours = [dataclasses.replace(each, settings=looks.asked(settings, each.model)) for each in evaluated()]
    looks.note(ours)
    assert said(section()).strip() == looks_section.CLEAN
    tried = [
        dataclasses.replace(ours[0], weights=f"t{n}", when="2026-03-01T00:00:00+00:00", settings="t") for n in "012"
    ]
    assert source.shown(settings) == "digits\n", "nothing is made again after a first run"
    looks.note(tried)
    assert source.shown(settings) == "digits\nsince 3 looks by 1 settings\n"
    other = settings.model_copy(update={"train": settings.train.model_copy(update={"lr": 0.5})})
    assert source.shown(other) == "digits\n", "its own results are not there yet"
    assert "had not scored these test images, but has 3 times by 1 other setting since: these results may" in said(
        section()
    )
    corrupted = dataclasses.replace(ours[0], kind="corruptions", when="2026-04-01T00:00:00+00:00")
    looks.note([corrupted])
    assert source.shown(settings) == "digits\nsince 3 looks by 1 settings\n", "since they were evaluated, as the report"
    looks.note([dataclasses.replace(ours[0], weights="b", when=EARLIER)])
    assert "all of which are reported here, and 3 times by 1 other setting since: these" in said(section())
    found = section()
    assert found is not None
    assert [row[-1] for row in found.tables[0].cells] == ["before", "since"]


def test_replicates_of_which_one_was_scored_before_and_one_since_have_a_row_each() -> None:
    ours = evaluated()
    tried = dataclasses.replace(ours[0], settings="tried", weights="a", when=EARLIER)
    looks.note([*ours, tried, dataclasses.replace(tried, weights="b", replicate=1, when="2026-03-01T00:00:00+00:00")])
    found = section()
    assert found is not None
    (table,) = found.tables
    assert [(row[5], row[-1]) for row in table.cells] == [("1", "before"), ("1", "since")]
    assert list(table.frame["since"]) == [False, True]


def test_kinds_of_looks_are_counted() -> None:
    ours = evaluated()
    looks.note(ours)
    assert "(" not in said(section())
    probe = dataclasses.replace(ours[0], weights="p", settings="p", when=EARLIER, kind="probe")
    looks.note([probe, dataclasses.replace(ours[0], weights="t", when=EARLIER)])
    assert "had been scored 2 times (1 as they are, 1 by a probe) before these results, by 2 settings" in said(
        section()
    )
    found = section()
    assert found is not None
    assert {row[4] for row in found.tables[0].cells} == {"as they are", "by a probe"}


def test_evaluating_or_reporting_again_changes_no_word() -> None:
    looks.note([*evaluated(), dataclasses.replace(evaluated()[0], weights="t", when=EARLIER)])
    before = section()
    looks.note([dataclasses.replace(each, when="2026-05-01T00:00:00+00:00", commit="later") for each in evaluated()])
    after = section()
    assert said(before) == said(after)
    assert before is not None
    assert after is not None
    assert before.tables[0].cells == after.tables[0].cells


def test_what_was_registered_first_and_kept_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    register.run(Namespace())
    assert "register: cnn, vit; 2 replicates, macro-F1, no margin" in capsys.readouterr().out
    looks.note(evaluated(registration.present()))
    assert "were registered, in a commit, before any of these networks was scored" in said(section())
    assert said(section()).endswith("All of it was kept.")
    text = source.shown(load_params())
    assert text == f"digits\nregistration {registration.present()}\n"  # so that report runs again when it changes


def test_a_setting_that_a_later_version_has_was_kept_at_its_default() -> None:
    register.run(Namespace())
    content = json.loads(registration.FILE.read_text())
    assert content["settings"].pop("train.teacher_temperature")
    registration.FILE.write_text(json.dumps(content))
    committed = registration.present()
    register.run(Namespace())
    assert registration.present() == committed, "looks say that this one was committed: another proves nothing of them"
    looks.note(evaluated(registration.present()))
    assert said(section()).endswith("All of it was kept.")


def test_what_was_registered_and_not_kept_is_named() -> None:
    register.run(Namespace())
    content = json.loads(registration.FILE.read_text())
    content["settings"] |= {"train.lr": 0.5, "models.resnet.family": "timm", "verdict.margin": 0.01}
    registration.FILE.write_text(json.dumps(content))
    looks.note(evaluated(registration.present()))
    found = section()
    assert said(found).endswith("Not all of it was kept:")
    assert found is not None
    assert set(found.words["departures"]) == {
        ("train.lr", "0.5", "0.001"),
        ("models.resnet.family", "timm", "–"),
        ("verdict.margin", "0.01", "0.0"),
    }
    with pytest.raises(StageError, match=r"has other settings than params.yaml \(first: "):
        register.run(Namespace())


def test_a_registration_that_came_later_binds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    register.run(Namespace())
    ours = evaluated(registration.present())
    looks.note([dataclasses.replace(ours[0], registered=""), *ours[1:]])
    assert "was not committed as it is when 1 of these 4 trained networks was first scored" in said(section())
    capsys.readouterr()
    register.run(Namespace())
    assert "scored" not in capsys.readouterr().out, "it is the same registration, made before"
    registration.FILE.unlink()
    register.run(Namespace())
    assert "register: these test images were scored 4 times before it" in capsys.readouterr().out


def test_a_registration_counts_from_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: Path) -> None:
    (tmp_path / "params.yaml").write_text((study / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    repo.call(tmp_path, "git", "init", "--quiet")
    register.run(Namespace())
    assert tracking.registered() == ""
    repo.commit(tmp_path)
    assert tracking.registered() == registration.present() != ""
    registration.FILE.write_text("{}")
    assert tracking.registered() != registration.present()
