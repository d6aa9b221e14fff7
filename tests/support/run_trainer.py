"""Trains a tiny model for a few steps, alone or under torchrun, and saves what came out.

python run_trainer.py METHOD NUM_NEGATIVES BATCH OUTPUT_DIR [use_cpu]
"""

import sys

import tiny
import torch


def main(method: str, num_negatives: str, batch: str, output_dir: str, use_cpu: str = "true") -> None:
    """Two steps on the same eight rows, however many processes share them."""
    torch.set_num_threads(1)
    rows = tiny.make_rows(8, int(num_negatives))
    trainer = tiny.make_trainer(
        method,
        output_dir,
        rows,
        num_negatives=int(num_negatives),
        per_device_train_batch_size=int(batch),
        max_steps=2,
        use_cpu=use_cpu == "true",
        optim="sgd",  # linear in the gradient; Adam would turn rounding noise of small gradients into full steps
        learning_rate=0.01,
    )
    trainer.train()
    state = dict(trainer.model.state_dict())
    if method == "degla":
        state |= {f"teacher.{name}": value for name, value in trainer.teacher.state_dict().items()}
    torch.save({"state": state, "log": trainer.state.log_history}, f"{output_dir}/rank{trainer.args.process_index}.pt")
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
