"""The comparison of ComAlign with its frozen encoder goes on where it stopped."""

import json

from compalign.scripts.scenes.compare_comalign import main


def test_a_comparison_goes_on_where_it_stopped(repository, tmp_path, capsys):
    flags = ["--config", str(repository / "scripts" / "recipes" / "comalign_scenes.yaml"), "--seeds", "1"]
    flags += ["--backbone", str(repository / "hub_cards" / "released" / "scenes_base"), "--items", "4"]
    flags += ["--scenes", "40", "--max_steps", "2", "--per_device_train_batch_size", "16"]
    flags += ["--features", str(tmp_path / "features"), "--output_dir", str(tmp_path / "out")]
    first = main(flags)
    assert [result.model for result in first] == ["base", "comalign, seed 0"]
    assert json.loads((tmp_path / "out" / "seed0" / "run.json").read_text())["arguments"]["max_steps"] == 2
    written = (tmp_path / "out" / "seed0" / "results.json").stat().st_mtime_ns
    again = main(flags)
    assert again[1].metrics == first[1].metrics
    assert (tmp_path / "out" / "seed0" / "results.json").stat().st_mtime_ns == written
    assert "| comalign, seed 0 " in capsys.readouterr().out
