"""A tiny LLaVA that learns conversations about scenes with CAL, in the test or as a script under torchrun.

python tiny_cal.py BATCH ACCUMULATION OUTPUT_DIR [--kinds iiit] [--evaluate] [flags of CALArguments]
"""

import os
import sys
from dataclasses import dataclass

import tiny_multimodal
import torch

from compalign.data.scenes import SceneConversationDataset
from compalign.trainers import CALArguments, CALTrainer
from compalign.trainers.cal import freeze_untrained
from compalign.trainers.launch.recipe import parse_recipe

KINDS = "iiit" * 4  # i: a row with an image, t: a row of text alone


@dataclass
class RunArguments:
    """What a run needs besides the recipe."""

    kinds: str = KINDS
    evaluate: bool = False


def make_rows(count: int, kinds: str = "iiit") -> list[dict]:
    """Conversations of uneven length; their kinds repeat."""
    rows = list(SceneConversationDataset(count, image_size=tiny_multimodal.IMAGE_SIZE))
    for place, row in enumerate(rows):
        if kinds[place % len(kinds)] == "t":
            row["images"] = []
            content = row["messages"][0]["content"]
            row["messages"][0]["content"] = [part for part in content if part["type"] == "text"]
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
    """Two steps, if not told otherwise, on the same sixteen rows in their order, however they are cut."""
    torch.set_num_threads(1)
    model = tiny_multimodal.make_model("llava")  # before ZeRO-3 is known of, which draws other random weights
    extra, run = parse_recipe(CALArguments, RunArguments, arguments=["--output_dir", output_dir, *flags])
    given = {flag.removeprefix("--") for flag in flags if flag.startswith("--")} - vars(run).keys()
    settings = {"max_steps": 2, "train_sampling_strategy": "sequential", "per_device_eval_batch_size": 1}
    settings |= {name: getattr(extra, name) for name in given}
    if "train_parts" in given:
        freeze_untrained(model, extra.train_parts)
    rows = make_rows(len(run.kinds), run.kinds)
    trainer = make_trainer(
        output_dir,
        rows,
        model,
        rows,
        per_device_train_batch_size=int(batch),
        gradient_accumulation_steps=int(accumulation),
        **settings,
    )
    trainer.train()
    if run.evaluate:
        trainer.evaluate()
    trainer.save_model()
    if trainer.args.should_save:
        torch.save(trainer.state.log_history, f"{output_dir}/log.pt")
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # all is on disk; threads that DeepSpeed leaves behind on gloo may abort an interpreter that winds up
