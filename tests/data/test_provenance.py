"""A result names the versions and the commit that it comes from, or that there is no commit."""

import subprocess
from importlib.metadata import version

import pytest

from compalign.data import provenance
from compalign.data.provenance import git_commit, versions


def test_versions_are_those_installed_and_absent_libraries_are_left_out():
    assert versions("torch", "no-such-library", "compalign") == {
        "torch": version("torch"),
        "compalign": version("compalign"),
    }


def git(folder, *arguments) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    done = subprocess.run(["git", "-C", folder, *names, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def commit(tmp_path) -> str:
    """The only commit of a repository in `tmp_path`."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "first")
    return git(tmp_path, "rev-parse", "HEAD")


def test_the_commit_of_a_repository_is_found_from_any_folder_in_it(tmp_path, commit):
    (tmp_path / "deep" / "down").mkdir(parents=True)
    assert len(commit) == 40
    assert git_commit(tmp_path) == git_commit(str(tmp_path / "deep" / "down")) == commit


def test_the_default_is_the_working_folder(tmp_path, commit, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert git_commit() == commit


def test_outside_a_repository_and_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert git_commit(tmp_path) is None


def test_a_git_that_does_not_answer_is_no_error(tmp_path, commit, monkeypatch):
    monkeypatch.setattr(provenance, "GIT_SECONDS", 0)
    assert git_commit(tmp_path) is None
