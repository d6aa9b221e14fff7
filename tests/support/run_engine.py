"""Trains a dual encoder for a few steps under an engine of DeepSpeed, or under none, and saves what came out.

python run_engine.py METHOD KIND START OUTPUT_DIR BATCH [flags of the method's arguments]

KIND is clip or siglip. START is whole, for a model that exists before DeepSpeed is known of, or the folder of a saved
one, which DeepSpeed shards while it is loaded.
"""

import os
import sys
from pathlib import Path

import tiny
import tiny_siglip
import torch
from transformers import AutoModel, SiglipModel

from compalign.modeling import load_model
from compalign.trainers.degla import whole_copy
from compalign.trainers.distributed import held_in_float32, is_sharded
from compalign.trainers.launch.recipe import parse_recipe

SETTINGS = {
    "max_steps": "3",
    "optim": "sgd",  # linear in the gradient; Adam would turn rounding noise of small gradients into full steps
    "learning_rate": "0.01",
    "weight_decay": "0.1",
    "lr_scheduler_type": "constant",
    "warmup_steps": "0",
    "train_sampling_strategy": "sequential",
    "num_negatives": "2",
    "logging_steps": "1",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": "true",
    "use_cpu": "true",
}


def main(method: str, kind: str, start: str, output_dir: str, batch: str, *flags: str) -> None:
    """Train on the same rows, however many processes share them."""
    torch.set_num_threads(1)
    model_class, trainer_class, arguments_class = tiny.METHODS[method]
    processor = tiny_siglip.make_processor() if kind == "siglip" else tiny.make_processor()
    model = make_model(method, kind) if start == "whole" else None
    settings = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
    if method == "degla":
        settings += ["--teacher_decay", "0.9"]
    settings += ["--output_dir", output_dir, "--per_device_train_batch_size", batch]
    (arguments,) = parse_recipe(arguments_class, arguments=[*settings, *flags])  # DeepSpeed is known of from here on
    if model is None:
        loaded = {"num_negatives": 2} if method == "ceclip" else {}
        model = load_model(start, AutoModel if kind == "siglip" else model_class, **loaded)
    trainer = trainer_class(
        model=model, args=arguments, train_dataset=tiny.make_rows(24, 2), processing_class=processor
    )
    trainer.train(resume_from_checkpoint=None if arguments.resume == "auto" else arguments.resume)
    torch.save(result(trainer), f"{output_dir}/rank{arguments.process_index}.pt")
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


def make_model(method: str, kind: str):
    """The model that training starts from."""
    model_class = tiny.METHODS[method][0]
    if kind == "siglip":
        return tiny_siglip.make_model(scale=20.0, bias=-5.0)
    return tiny.make_model(model_class, **({"num_negatives": 2} if method == "ceclip" else {}))


def result(trainer) -> dict:
    """What training left: the log, the scale as the optimizer knows it, the teacher, the thresholds, what decays."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    teacher = getattr(trainer, "teacher", None)
    averages = [] if teacher is None else trainer.averaged().items()
    return {
        "log": trainer.state.log_history,
        "master": held_in_float32(model.logit_scale).detach().clone(),
        "scale": whole_copy(model.logit_scale),
        "bias": whole_copy(model.logit_bias) if isinstance(model, SiglipModel) else None,
        "teacher": {name: whole_copy(average) for name, (average, _) in averages},
        "teacher_sharded": [is_sharded(average) for _, (average, _) in averages],
        "thresholds": getattr(model, "rank_threshold", None),
        "decays": sorted(trainer.get_decay_parameter_names(model)),
    }


if __name__ == "__main__":
    Path(sys.argv[4]).mkdir(parents=True, exist_ok=True)
    main(*sys.argv[1:])
    os._exit(0)  # all is on disk; threads that DeepSpeed leaves behind on gloo may abort an interpreter that winds up
