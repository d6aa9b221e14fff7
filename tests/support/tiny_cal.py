"""A tiny LLaVA that learns conversations about scenes with CAL, in the test or as a script under torchrun.

python tiny_cal.py BATCH ACCUMULATION OUTPUT_DIR [flags of CALArguments]
"""

import os
import sys

import tiny_multimodal
import torch
from transformers import HfArgumentParser

from compalign.data.scenes import SceneConversationDataset
from compalign.trainers import CALArguments, CALTrainer


def make_rows(count: int) -> list[dict]:
    """Conversations of uneven length; every fourth is text only."""
    rows = list(SceneConversationDataset(count, image_size=tiny_multimodal.IMAGE_SIZE))
    for row in rows[3::4]:
        row["images"] = []
        row["messages"][0]["content"] = [part for part in row["messages"][0]["content"] if part["type"] == "text"]
    return rows


def make_trainer(output_dir, rows, model=None, eval_rows=None, callbacks=None, **arguments) -> CALTrainer:
    """A trainer with small, quick settings."""
    settings = {
        "per_device_train_batch_size": 4,
        "learning_rate": 0.1,
        "optim": "sgd",  # linear in the gradient; Adam would hide a wrong scale
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "logging_steps": 1,
        "max_grad_norm": 0.0,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": [],
        **arguments,
    }
    return CALTrainer(
        model=tiny_multimodal.make_model("llava") if model is None else model,
        args=CALArguments(output_dir=str(output_dir), **settings),
        train_dataset=rows,
        eval_dataset=eval_rows,
        processing_class=tiny_multimodal.make_processor("llava"),
        callbacks=callbacks,
    )


def main(batch: str, accumulation: str, output_dir: str, *flags: str) -> None:
    """Two steps on the same sixteen rows, however they are cut."""
    torch.set_num_threads(1)
    model = tiny_multimodal.make_model("llava")  # before ZeRO-3 is known of, which draws other random weights
    (extra,) = HfArgumentParser(CALArguments).parse_args_into_dataclasses(["--output_dir", output_dir, *flags])
    given = {flag.removeprefix("--") for flag in flags if flag.startswith("--")}
    trainer = make_trainer(
        output_dir,
        make_rows(16),
        model,
        per_device_train_batch_size=int(batch),
        gradient_accumulation_steps=int(accumulation),
        max_steps=2,
        train_sampling_strategy="sequential",
        **{name: getattr(extra, name) for name in given},
    )
    trainer.train()
    trainer.save_model()
    if trainer.args.should_save:
        torch.save(trainer.state.log_history, f"{output_dir}/log.pt")
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # all is on disk; threads that DeepSpeed leaves behind on gloo may abort an interpreter that winds up
