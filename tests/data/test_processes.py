"""Values of all processes, by rank; one process alone needs no process group."""

import time

import torch
import two_processes

from compalign.data.processes import all_gathered, rank_and_world


def test_one_process_is_rank_0_of_1_and_gathers_its_own_value():
    assert rank_and_world() == (0, 1)
    assert all_gathered({"a": [1]}) == [{"a": [1]}]


def gather(folder) -> None:
    rank, world = rank_and_world()
    everything = all_gathered({"rank": rank, "ragged": list(range(rank + 1))})
    torch.save((rank, world, everything), folder / f"{rank}.pt")


def test_two_processes_gather_values_of_different_sizes_by_rank(tmp_path):
    two_processes.launch(gather, tmp_path)
    for rank in range(2):
        everything = [{"rank": 0, "ragged": [0]}, {"rank": 1, "ragged": [0, 1]}]
        assert torch.load(tmp_path / f"{rank}.pt") == (rank, 2, everything)


def wait_for_the_slow_one(folder) -> None:
    rank, _ = rank_and_world()
    if rank == 1:
        time.sleep(0.5)
        (folder / "written").touch()
    all_gathered(None)
    (folder / f"{rank}.{'after' if (folder / 'written').exists() else 'before'}").touch()


def test_no_process_goes_on_before_all_have_called(tmp_path):
    """The feature store relies on it: what one process wrote before the call is there for the others after it."""
    two_processes.launch(wait_for_the_slow_one, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"written", "0.after", "1.after"}
