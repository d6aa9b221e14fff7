"""Trains each trainer with each kind of model for a few steps, all under one engine, and notes what came of each.

python run_cells.py ENGINE PRECISION OUTPUT_FOLDER LINES

LINES is a JSON list of pairs of `LINES`. Every process writes an outcome per line into its own file in OUTPUT_FOLDER,
and stops after one that fails, since the others may then wait for it.
"""

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import tiny
import tiny_cal
import tiny_comalign
import tiny_multimodal
import tiny_siglip
import torch
import torch.distributed as dist
from launch import REPOSITORY
from torch import Tensor
from transformers import Siglip2Config, Siglip2Model
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from compalign.trainers import CALArguments, CALTrainer
from compalign.trainers.cal_rows import join_rows
from compalign.trainers.trainer import BaseTrainer

DUAL_ENCODER_METHODS = {"NegCLIP": "negclip", "CE-CLIP": "ceclip", "DeGLA": "degla"}
DUAL_ENCODERS = ("CLIP", "SigLIP, and SigLIP2 of fixed resolution", "SigLIP2 NaFlex")
MULTIMODAL = {
    "LLaVA": "llava",
    "LLaVA-NeXT": "llava_next",
    "LLaVA over Mistral, windowed": "mistral_window",
    "Qwen2-VL": "qwen2_vl",
    "PaliGemma": "paligemma",
    "SmolVLM": "smolvlm",
    "Gemma 3": "gemma3",
    "Gemma 3, windowed": "gemma3_window",
    "Mllama": "mllama",
    "Mllama, `--cal false`": "mllama",
}
CAL_ROWS = {"CAL": "iiii", "CAL, text rows too": "iitt"}  # as in `tiny_cal`; the last two are the second process's
LINES = [
    *((method, model) for method in DUAL_ENCODER_METHODS for model in DUAL_ENCODERS),
    ("ComAlign", "heads over CLIP"),
    *((rows, model) for rows in CAL_ROWS for model in MULTIMODAL),
]
PRECISIONS = {"float32": {"bf16": False}, "bfloat16": {"bf16": True}}
SETTINGS = {
    "max_steps": 3,
    "optim": "sgd",  # linear in the gradient; Adam would turn rounding noise of small gradients into full steps
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "train_sampling_strategy": "sequential",
    "ddp_timeout": 60,  # seconds, after which a process that waits for another one fails
}


class Engine(NamedTuple):
    """How the weights of a training are held: processes, and arguments of the trainers."""

    processes: int = 1
    stage: int = 0  # of ZeRO
    fsdp: str | None = None

    def arguments(self, folder: Path) -> dict[str, Any]:
        """The arguments; stage 3 shards every weight, however small."""
        if not self.stage:
            return {"fsdp": self.fsdp} if self.fsdp else {}
        config = json.loads((REPOSITORY / "scripts" / "deepspeed" / f"zero{self.stage}.json").read_text())
        if self.stage == 3:
            config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        path = folder / f"zero{self.stage}.{os.getpid()}.json"
        path.write_text(json.dumps(config))
        return {"deepspeed": str(path)}


ENGINES = {
    "one process": Engine(),
    "DDP": Engine(2),
    "ZeRO-2": Engine(2, stage=2),
    "ZeRO-3": Engine(2, stage=3),
    "FSDP": Engine(2, fsdp="full_shard"),
}


def make_trainer(method: str, model: str, engine: str, precision: str, folder: Path) -> BaseTrainer:
    """The trainer of a line, whose global batch is the same under all engines."""
    settings = {**SETTINGS, **PRECISIONS[precision], **ENGINES[engine].arguments(folder)}
    processes = ENGINES[engine].processes
    if method in CAL_ROWS:
        return make_cal_trainer(method, model, folder, per_device_train_batch_size=4 // processes, **settings)
    settings |= {"num_negatives": 2, "per_device_train_batch_size": 8 // processes}
    if method == "ComAlign":
        return tiny_comalign.make_trainer(folder, comalign_features(), learning_rate=0.02, **settings)
    if method == "DeGLA":
        settings["teacher_decay"] = 0.9
    dual_encoder, processor = make_dual_encoder(DUAL_ENCODER_METHODS[method], model)
    return tiny.make_trainer(
        DUAL_ENCODER_METHODS[method],
        folder,
        scene_rows(),
        model=dual_encoder,
        processor=processor,
        crop_scale=None,
        learning_rate=0.0005,
        **settings,
    )


@cache
def scene_rows() -> list[dict]:
    """The rows of every dual encoder."""
    return tiny.make_rows(8, 2)


@cache
def comalign_features() -> tiny_comalign.ComponentFeatureRows:
    """The rows of ComAlign."""
    return tiny_comalign.make_features(tiny_comalign.make_rows(8))


@cache
def conversations(kinds: str) -> list[dict]:
    """The rows of CAL, of which only the kinds and numbers matter here."""
    return tiny_cal.make_rows(len(kinds), kinds)


def make_dual_encoder(method: str, model: str):
    """A dual encoder and its processor."""
    if model == "CLIP":
        extra = {"num_negatives": 2} if method == "ceclip" else {}
        return tiny.make_model(tiny.METHODS[method][0], **extra), tiny.make_processor()
    if model == "SigLIP2 NaFlex":
        tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = Siglip2Config(text_config={**tower, "vocab_size": 600}, vision_config=tower)
        return Siglip2Model(config), tiny_siglip.make_processor()
    return tiny_siglip.make_model(scale=20.0, bias=-5.0), tiny_siglip.make_processor()


def make_cal_trainer(method: str, model: str, folder: Path, **settings: Any) -> CALTrainer:
    """CAL on the rows of a family; LLaVA's processor stands in for those of families that have none here."""
    family, kinds = MULTIMODAL[model], CAL_ROWS[method]
    multimodal = tiny_multimodal.make_model(family).train()
    args = CALArguments(
        output_dir=str(folder),
        cal="--cal false" not in model,
        learning_rate=0.02,
        logging_steps=1,
        max_grad_norm=0.0,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to=[],
        **settings,
    )
    return CALTrainer(
        multimodal,
        args,
        train_dataset=conversations(kinds),
        processing_class=tiny_multimodal.make_processor("llava"),
        data_collator=FamilyCollator(family, kinds),
    )


class FamilyCollator:
    """Makes a batch of a family's own inputs, which depend on nothing but the numbers of its rows."""

    def __init__(self, family: str, kinds: str):
        self.family, self.kinds = family, kinds

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        parts = [self.image_row(row["row"]) if self.has_image(row) else self.text_row(row["row"]) for row in rows]
        return {**join_rows(parts, tiny_multimodal.PAD), "row": torch.tensor([row["row"] for row in rows])}

    def has_image(self, row: dict[str, Any]) -> bool:
        """Whether the row has images."""
        return self.kinds[row["row"]] == "i"

    def image_row(self, row: int) -> dict[str, Tensor]:
        """One or two images, and an answer whose length differs from row to row."""
        batch = tiny_multimodal.make_batch(self.family, images=(1 + row % 2,), seed=row)
        answer = (batch["labels"][0] != -100).nonzero().flatten()
        batch["labels"][0, answer[: row % 3]] = -100
        return batch

    def text_row(self, row: int) -> dict[str, Tensor]:
        """Words, of which the later ones are the answer."""
        words = torch.randint(8, tiny_multimodal.VOCABULARY, (1, 12), generator=torch.Generator().manual_seed(row))
        labels = words.masked_fill(torch.arange(12) < 4 + row, -100)
        batch = {"input_ids": words, "labels": labels, "attention_mask": torch.ones_like(words)}
        if self.family == "mllama":  # whose further input is about images
            return batch
        return batch | tiny_multimodal.FAMILIES[self.family].token_inputs(batch)


# Outcomes


def outcome(*cell: Any) -> dict[str, Any]:
    """Train; return the losses of the steps, the sentence of a refusal, or how the training failed.

    A refusal is an error that compalign itself raises.
    """
    try:
        trainer = make_trainer(*cell)
        trainer.train()
        return {"losses": [log["loss"] for log in trainer.state.log_history if "loss" in log]}
    except Exception as error:
        message = str(error).strip() or type(error).__name__
        if isinstance(error, ValueError) and raised_in(error).startswith("compalign."):
            return {"refused": message}
        traceback.print_exc()
        return {"fails": f"{type(error).__name__}: {message}"}
    finally:
        unset_hf_deepspeed_config()  # otherwise the next model would be made in shards


def raised_in(error: BaseException) -> str:
    """The module that raised an error."""
    frame = error.__traceback__
    while frame.tb_next is not None:
        frame = frame.tb_next
    return frame.tb_frame.f_globals["__name__"]


def main(engine: str, precision: str, folder: str, lines: str) -> None:
    """Run the lines one after the other in this process, and note each outcome at once."""
    torch.set_num_threads(1)
    path = Path(folder, f"rank{os.environ.get('RANK', '0')}.jsonl")
    for line in json.loads(lines):
        gc.freeze()  # to collect garbage among all that was imported takes longer than to train
        found = outcome(*line, engine, precision, Path(folder))
        with path.open("a") as file:
            print(json.dumps({**found, "ended": time.time()}), file=file)
        if "fails" in found:
            os._exit(1)
    if dist.is_initialized():
        dist.barrier()


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # all is on disk; threads that DeepSpeed leaves behind on gloo may abort an interpreter that winds up
