"""A report says of which commit trainings are, and what of them no commit has."""

from pathlib import Path

import pytest

from pipeline.report import commits
from tests import repo


def test_settings_that_the_commit_does_not_have_are_said_to_be_uncommitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "studies/mine"
    study.mkdir(parents=True)
    monkeypatch.chdir(study)
    repo.call(tmp_path, "git", "init", "--quiet")
    (tmp_path / "README.md").write_text("of before the study")
    repo.commit(tmp_path)
    before = repo.call(tmp_path, "git", "rev-parse", "HEAD").strip()
    (study / "params.yaml").write_text("train: {lr: 0.1}\n")
    repo.commit(tmp_path)
    own = repo.call(tmp_path, "git", "rev-parse", "HEAD").strip()
    said = " with changes that are not committed: "
    assert commits.named([own, own]) == own
    assert commits.named([before], 7) == f"{before[:7]}{said}params.yaml"
    assert commits.named([f"{before}-dirty"]) == f"{before}{said}code and params.yaml"
    commits.has_settings.cache_clear()
    (study / "params.yaml").write_text("# a remark\ntrain: {lr: 0.1}\nverdict: {margin: 0.1}\n")
    assert commits.named([own]) == own, "these decide no training"
    commits.has_settings.cache_clear()
    (study / "params.yaml").write_text("train: {lr: 0.2}\n")
    assert commits.named([own, before]) == f"{own}{said}params.yaml and {before}{said}params.yaml"
    assert commits.named(["0" * 40, ""]) == f"{'0' * 40} and not known", "of another clone"
