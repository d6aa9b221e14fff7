"""A folder belongs to one run: it goes on by itself, and another is refused by what sets it apart."""

import json
import shutil

import pytest
import tiny
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from compalign.trainers import NegCLIPArguments
from compalign.trainers.launch.folder import open_folder
from compalign.trainers.launch.recipe import parse_recipe
from compalign.trainers.launch.record import differences, run_record
from compalign.trainers.launch.run import train_and_save

ROWS = tiny.make_rows(8)
SETTINGS = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "seed": 1}


class Stop(TrainerCallback):
    """Ends the process, as far as the run can tell, before its fourth step."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KeyboardInterrupt


def make_trainer(folder, method="negclip", rows=ROWS, callbacks=None, **arguments):
    return tiny.make_trainer(method, folder, rows, callbacks=callbacks, **{**SETTINGS, **arguments})


def steps_of(trainer):
    """The steps that were logged, those of the checkpoint included."""
    return [entry["step"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a finished run, with checkpoints at steps 2 and 4."""
    folder = tmp_path_factory.mktemp("whole")
    train_and_save(make_trainer(folder))
    return folder


@pytest.fixture
def finished(whole, tmp_path):
    """A copy of it."""
    return shutil.copytree(whole, tmp_path / "run")


def test_a_stopped_run_goes_on_by_itself(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_and_save(make_trainer(tmp_path, callbacks=[Stop()]))
    assert not (tmp_path / "model.safetensors").exists()
    again = make_trainer(tmp_path)
    seen = []
    again.add_callback(Steps(seen))
    train_and_save(again)
    assert seen == [3, 4]
    expected, actual = (load_file(folder / "model.safetensors") for folder in (whole, tmp_path))
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


class Steps(TrainerCallback):
    """Notes the steps that are trained."""

    def __init__(self, seen):
        self.seen = seen

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append(state.global_step)


def test_a_finished_run_is_saved_again_and_not_trained(finished):
    weights = load_file(finished / "model.safetensors")
    (finished / "model.safetensors").unlink()
    again = make_trainer(finished)
    seen = []
    again.add_callback(Steps(seen))
    train_and_save(again)
    assert seen == []
    assert all(torch.equal(value, weights[name]) for name, value in load_file(finished / "model.safetensors").items())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 2}, "seed was 1 and is 2"),
        ({"learning_rate": 1e-4}, r"learning_rate was 0\.001 and is 0\.0001"),
        ({"num_negatives": 2}, "num_negatives was 4 and is 2"),
        ({"optim": "sgd"}, "optim was its default and is sgd"),
        ({"max_steps": 6}, "max_steps was 4 and is 6"),
        ({"rows": tiny.make_rows(12)}, r"the training rows are others \(8 rows, now 12 rows\)"),
        ({"rows": tiny.make_rows(8, offset=50)}, r"the training rows are others \(8 rows, now 8 rows\)"),
        ({"method": "degla"}, "trainer was NegCLIPTrainer and is DeGLATrainer"),
    ],
    ids=["seed", "rate", "negatives", "optimizer", "steps", "more_rows", "other_rows", "method"],
)
def test_another_run_in_the_folder_is_refused_by_what_sets_it_apart(finished, change, named):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    with pytest.raises(ValueError, match=rf"run holds another run \(.*{named}.*--overwrite true"):
        train_and_save(make_trainer(finished, **change))
    with pytest.raises(ValueError, match=rf"checkpoint-2 belongs to another run \(.*{named}"):
        train_and_save(make_trainer(finished, resume=str(finished / "checkpoint-2"), **change))
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before, "something was written"


def test_other_weights_to_start_from_are_another_run(finished):
    model = tiny.make_model(tiny.METHODS["negclip"][0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01
    with pytest.raises(ValueError, match="the weights to start from are others"):
        train_and_save(make_trainer(finished, model=model))


def test_overwriting_removes_the_other_run_first(finished):
    train_and_save(make_trainer(finished, seed=2, overwrite=True, save_strategy="no"))
    assert not list(finished.glob("checkpoint-*"))
    assert json.loads((finished / "run.json").read_text())["arguments"]["seed"] == 2
    again = make_trainer(finished, seed=2, overwrite=True)  # in the command line of a job that is started again
    assert open_folder(again.args, run_record(again)) is None
    assert (finished / "model.safetensors").exists(), "a run may be repeated without overwriting"


def test_the_same_run_is_begun_anew_only_where_that_is_allowed(finished):
    with pytest.raises(ValueError, match="holds this run already, and resume is never"):
        train_and_save(make_trainer(finished, resume="never"))
    trainer = make_trainer(finished, resume="never", overwrite=True)
    assert open_folder(trainer.args, run_record(trainer)) is None
    assert not list(finished.glob("checkpoint-*"))


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_the_first_start_is_no_error(tmp_path, resume):
    trainer = make_trainer(tmp_path / "new", resume=resume)
    assert open_folder(trainer.args, run_record(trainer)) is None


def test_what_is_only_watched_or_stored_otherwise_is_the_same_run(finished, tmp_path):
    free = {"logging_steps": 3, "save_steps": 1, "save_total_limit": 2, "dataloader_num_workers": 1, "run_name": "x"}
    trainer = make_trainer(finished, **free)
    assert open_folder(trainer.args, run_record(trainer)) == finished / "checkpoint-4"
    moved = make_trainer(tmp_path / "elsewhere", resume=str(finished / "checkpoint-2"))
    assert open_folder(moved.args, run_record(moved)) == finished / "checkpoint-2"


def test_an_incomplete_checkpoint_and_a_run_without_one_are_passed_over(finished, tmp_path):
    (finished / "checkpoint-9").mkdir()
    trainer = make_trainer(finished)
    assert open_folder(trainer.args, run_record(trainer)) == finished / "checkpoint-4"
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "run.json").write_text("{}")  # of a run that left nothing else
    trainer = make_trainer(tmp_path / "failed")
    assert open_folder(trainer.args, run_record(trainer)) is None


def test_a_model_of_no_known_run_is_not_overwritten(tmp_path):
    model = tiny.make_model(tiny.METHODS["negclip"][0])
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"holds another run \(it has no run\.json\)"):
        train_and_save(make_trainer(tmp_path, model=model))


@pytest.mark.parametrize("resume", ["true", "no_such_folder", "."])
def test_what_is_no_checkpoint_is_refused(tmp_path, resume):
    with pytest.raises(ValueError, match=r"is no checkpoint.*accepted: auto, never, or a folder"):
        train_and_save(make_trainer(tmp_path, resume=resume))


def test_a_checkpoint_that_names_no_run_is_taken_where_it_is_asked_for(tmp_path, caplog):
    make_trainer(tmp_path, max_steps=2).train()
    trainer = make_trainer(tmp_path, resume=str(tmp_path / "checkpoint-2"), max_steps=3, save_steps=1)
    train_and_save(trainer)
    assert "does not say of which run it is" in caplog.text
    assert steps_of(trainer) == [1, 2, 3]
    with pytest.raises(ValueError, match=r"max_steps was 3 and is 4"):
        train_and_save(make_trainer(tmp_path))


def test_rows_that_cannot_be_read_do_not_hinder_a_record(tmp_path):
    class Rows(list):
        def __getitem__(self, index):
            if index == 0:
                raise OSError("damaged")
            return super().__getitem__(index)

    record = run_record(make_trainer(tmp_path, rows=Rows(ROWS)))
    assert record["data"]["rows"] == 8
    assert differences(record, record) == []


def test_the_trainers_own_flag_is_refused_with_the_name_of_ours():
    with pytest.raises(ValueError, match="command line: 'resume_from_checkpoint' is not read; use 'resume'"):
        parse_recipe(NegCLIPArguments, arguments=["--output_dir", "x", "--resume_from_checkpoint", "true"])
    (args,) = parse_recipe(
        NegCLIPArguments, arguments=["--output_dir", "x", "--resume", "never", "--overwrite", "true"]
    )
    assert (args.resume, args.overwrite) == ("never", True)


def test_the_help_names_our_flag_alone(capsys):
    with pytest.raises(SystemExit):
        parse_recipe(NegCLIPArguments, arguments=["--help"])
    assert "--resume TEXT" in (page := capsys.readouterr().out)
    assert "resume_from_checkpoint" not in page
