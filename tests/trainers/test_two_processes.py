"""The real trainers under torchrun with two processes (gloo) end where one process with the whole batch ends."""

import pytest
import run_trainer
import torch
from launch import REPOSITORY, TWO_PROCESSES, run_python, succeed

SCRIPT = run_trainer.__file__


@pytest.mark.parametrize(
    ("method", "num_negatives"), [("degla", 4), ("degla", 1), ("degla", 0), ("ceclip", 4), ("negclip", 1)]
)
def test_two_processes_train_as_one(method, num_negatives, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    run_trainer.main(method, str(num_negatives), "8", str(tmp_path / "one"))
    succeed(*TWO_PROCESSES, SCRIPT, method, num_negatives, 4, tmp_path / "two")
    one = torch.load(tmp_path / "one" / "rank0.pt", weights_only=True)
    for rank in range(2):
        two = torch.load(tmp_path / "two" / f"rank{rank}.pt", weights_only=True)
        for name, value in one["state"].items():
            torch.testing.assert_close(
                two["state"][name], value, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
            )
    for single, double in zip(one["log"][:2], two["log"][:2], strict=True):
        for term in ("loss", "contrast"):
            assert double[term] == pytest.approx(single[term], rel=1e-5)


def test_processes_that_would_not_train_together_are_refused(tmp_path):
    """Without use_cpu the Trainer counts itself alone while two processes run."""
    if torch.cuda.is_available():
        pytest.skip("with a GPU the processes do train together")
    done = run_python(*TWO_PROCESSES, SCRIPT, "degla", 1, 4, tmp_path, "false")
    assert done.returncode != 0
    assert "2 processes were launched but the trainer counts 1" in done.stderr


def test_the_accelerate_configuration_starts_processes_that_train_together(tmp_path):
    """Two processes on the CPU in the place of eight on GPUs."""
    if torch.cuda.is_available():
        pytest.skip("the configuration would take the GPUs")
    configuration = REPOSITORY / "scripts" / "accelerate" / "multi_gpu.yaml"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    run_trainer.main("negclip", "1", "8", str(tmp_path / "one"))
    launcher = ("-m", "accelerate.commands.launch", "--config_file", configuration, "--num_processes", 2)
    succeed(*launcher, SCRIPT, "negclip", 1, 4, tmp_path / "two", ACCELERATE_USE_CPU="true")
    one = torch.load(tmp_path / "one" / "rank0.pt", weights_only=True)["state"]
    two = torch.load(tmp_path / "two" / "rank1.pt", weights_only=True)["state"]
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6, msg=name)
