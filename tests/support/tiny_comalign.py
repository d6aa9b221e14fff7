"""Tiny ComAlign heads over a tiny CLIP, in the test or as a script under torchrun.

python tiny_comalign.py BATCH OUTPUT_DIR
"""

import sys

import tiny
import torch
from transformers import CLIPModel

from compalign.data.components import CaptionComponents
from compalign.data.features.store import Features
from compalign.data.scenes.components import SceneComponentDataset
from compalign.modeling import ComAlignConfig, ComAlignModel
from compalign.trainers import ComAlignArguments, ComAlignTrainer
from compalign.trainers.comalign import ComponentFeatureRows

SLOTS = {"entities": 4, "relations": 3}


def make_rows(count: int, num_negatives: int = 2) -> list[dict]:
    """Scenes with components; the last but one has no region, the last a caption without phrases."""
    rows = list(SceneComponentDataset(count, image_size=tiny.IMAGE_SIZE, num_negatives=num_negatives))
    rows[-2].update(entities=[], relations=[])
    rows[-1]["captions"] = [CaptionComponents("nothing to see", [], [])]
    return rows


def make_features(rows: list[dict]) -> ComponentFeatureRows:
    """Their features, by a random CLIP."""
    backbone = tiny.make_model(CLIPModel)
    return ComponentFeatureRows(rows, backbone, tiny.make_processor(), Features(), Features(), **SLOTS, progress=False)


def make_model(**config) -> ComAlignModel:
    """Heads with fixed random weights, without dropout."""
    torch.manual_seed(0)
    return ComAlignModel(ComAlignConfig(hidden_size=16, dropout=0.0, **SLOTS, **config))


def make_trainer(output_dir, features: ComponentFeatureRows, model: ComAlignModel | None = None, **arguments):
    """A trainer with small, quick settings."""
    settings = {
        "per_device_train_batch_size": 4,
        "num_negatives": 2,
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": [],
        **arguments,
    }
    args = ComAlignArguments(output_dir=str(output_dir), **settings)
    return ComAlignTrainer(make_model() if model is None else model, args, train_dataset=features)


def main(batch: str, output_dir: str) -> None:
    """Two steps on the same eight rows, however many processes share them."""
    torch.set_num_threads(1)
    trainer = make_trainer(
        output_dir,
        make_features(make_rows(8)),
        per_device_train_batch_size=int(batch),
        max_steps=2,
        optim="sgd",  # linear in the gradient; Adam would turn rounding noise of small gradients into full steps
        learning_rate=0.01,
    )
    trainer.train()
    state = {"state": trainer.model.state_dict(), "log": trainer.state.log_history}
    torch.save(state, f"{output_dir}/rank{trainer.args.process_index}.pt")
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
