"""Trains a tiny model with a CompositionCallback under torchrun, and writes what each process knows.

python run_composition.py OUTPUT_DIR
"""

import json
import os
import sys
from pathlib import Path

import tiny
import torch

from compalign.evaluation import SceneComposition, SceneZeroShot
from compalign.evaluation.callback import CompositionCallback


def main(output_dir: str) -> None:
    """Five steps, evaluated every two."""
    torch.set_num_threads(1)
    trainer = tiny.make_trainer("negclip", output_dir, tiny.make_rows(8), max_steps=5, per_device_train_batch_size=2)
    trainer.add_callback(CompositionCallback(trainer, [SceneComposition(4), SceneZeroShot(16)], every_steps=2))
    trainer.train()
    state = {"logs": trainer.state.log_history, "best": trainer.state.best_model_checkpoint}
    Path(output_dir, f"rank{trainer.args.process_index}.json").write_text(json.dumps(state))
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # all is on disk; threads that gloo leaves behind may abort an interpreter that winds up
