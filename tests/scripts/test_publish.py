"""`compalign publish` from the folder to the repository, and what it says on the way."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from loopback_hub import TOKEN, reachable_hub

from compalign.hub_cards import publishing as library
from compalign.scripts import publish as command


@pytest.fixture
def hub(monkeypatch):
    with reachable_hub(monkeypatch) as hub:
        monkeypatch.setattr(library, "HfApi", lambda: HfApi(hub.endpoint, TOKEN))
        monkeypatch.setattr(library, "check_loads_back", lambda source, folder: "loads")
        yield hub


@pytest.fixture
def folder(tmp_path, repository) -> Path:
    """The released model, with a leftover of its training."""
    folder = Path(shutil.copytree(repository / "hub_cards" / "released" / "scenes_base", tmp_path / "scenes"))
    (folder / "training_args.bin").write_bytes(b"a pickle")
    return folder


def run(folder: Path, *flags: str):
    """The command."""
    return command.main(["--folder", str(folder), "--repo_id", "me/scenes", *flags])


def test_a_folder_is_published_recorded_and_published_again_for_nothing(hub, folder, capsys):
    first = run(folder, "--tag", "v1")
    printed = capsys.readouterr().out
    assert "3,579,668 bytes  model.safetensors" in printed
    assert "left out: training_args.bin" in printed
    assert f"tagged {first.commit[:8]} as v1" in printed
    assert f"published: {hub.endpoint}/me/scenes, main at {first.commit}" in printed
    assert json.loads((folder / "publication.json").read_text())["commit"] == first.commit
    assert hub.repositories["me/scenes"].private
    again = run(folder, "--tag", "v1")
    assert (again.commit, again.changed) == (first.commit, False)
    assert "nothing to do: the same files are there already" in capsys.readouterr().out


@pytest.mark.parametrize("switch", [["--dry_run"], ["--dry_run", "true"], ["--dry-run"]])
def test_a_dry_run_prints_files_and_sends_nothing(switch, hub, folder, capsys):
    run(folder, *switch)
    printed = capsys.readouterr().out
    assert "bytes  config.json" in printed
    assert "dry run: me/scenes was not touched" in printed
    assert hub.requests == []
    assert not (folder / "publication.json").exists()


def test_a_dry_run_names_what_is_wrong_after_the_files(hub, folder, capsys):
    (folder / "notes.txt").write_text("see /home/someone/notes")
    with pytest.raises(ValueError, match=r"notes.txt, line 1: path of this machine"):
        run(folder, "--dry_run")
    assert "bytes  notes.txt" in capsys.readouterr().out
    run(folder, "--dry_run", "--leave_out", "notes.txt")


@pytest.mark.parametrize("switch", [["--private", "false"], ["--no_private"]])
def test_visibility_and_branch_are_as_asked(switch, hub, folder):
    publication = run(folder, *switch, "--revision", "next")
    assert not hub.repositories["me/scenes"].private
    assert hub.repositories["me/scenes"].branches["next"] == publication.commit
    assert set(hub.repositories["me/scenes"].files("main")) == {".gitattributes"}


@pytest.mark.parametrize("name", ["scenes", "me/a/b", "/home/me"])
def test_what_is_no_repository_is_refused(hub, folder, name):
    with pytest.raises(ValueError, match=name):
        command.main(["--folder", str(folder), "--repo_id", name])
    assert hub.requests == []


def test_a_folder_that_does_not_exist_is_named(hub, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        run(tmp_path / "nowhere")
