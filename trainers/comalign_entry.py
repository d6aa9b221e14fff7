"""What `train_comalign.py` needs besides the entry helpers of all methods: a frozen encoder, features of parts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoProcessor

from ..data.components import load_components
from ..data.encoding import feature_stores
from ..data.scenes import SceneComponentDataset
from ..modeling import ComAlignConfig, ComAlignModel, ComAlignProcessor
from .comalign import ComAlignArguments, ComAlignTrainer
from .component_features import ComponentFeatureRows


@dataclass
class ComponentModelArguments:
    """Which encoder is frozen, and what stands on it."""

    backbone: str = field(
        default="openai/clip-vit-base-patch32", metadata={"help": "The frozen dual encoder: a Hub id or a folder."}
    )
    backbone_revision: str | None = field(default=None, metadata={"help": "Its commit, branch or tag."})
    entities: int = field(default=10, metadata={"help": "Entity slots of an image and of a caption."})
    relations: int = field(default=10, metadata={"help": "Relation slots of an image and of a caption."})
    text_head: bool = field(default=True, metadata={"help": "false: captions keep their frozen embeddings."})
    num_hidden_layers: int = field(default=2, metadata={"help": "Transformer layers of a head."})
    num_attention_heads: int = field(default=4, metadata={"help": "Attention heads of a layer."})


@dataclass
class ComponentDataArguments:
    """Where images, captions and their components come from."""

    train: str | None = field(
        default=None, metadata={"help": "What `compalign components` wrote: its folder or its .jsonl file."}
    )
    images: str | None = field(default=None, metadata={"help": "Folder of the images; default: beside the file."})
    features: str = field(default="features", metadata={"help": "Folder that keeps the frozen encoder's features."})
    scenes: int = field(default=0, metadata={"help": "So many generated scenes instead."})
    scene_size: int = field(default=64, metadata={"help": "Side of their images in pixels."})
    encode_batch_size: int = field(default=256, metadata={"help": "Images, and texts, a forward pass of the encoder."})


def make_comalign_trainer(
    start: ComponentModelArguments, data: ComponentDataArguments, args: ComAlignArguments
) -> ComAlignTrainer:
    """The trainer of a recipe: its frozen encoder, the features, and new heads."""
    located = {"revision": start.backbone_revision}
    backbone = AutoModel.from_pretrained(start.backbone, dtype=torch.float32, **located).to(args.device)
    processor = AutoProcessor.from_pretrained(start.backbone, **located)
    slots = {"entities": start.entities, "relations": start.relations}
    rows = ComponentFeatureRows(
        load_component_rows(data, args),
        backbone,
        processor,
        *feature_stores(data.features, backbone, processor),
        **slots,
        batch_size=data.encode_batch_size,
    )
    config = ComAlignConfig(
        backbone=start.backbone,
        backbone_revision=start.backbone_revision,
        hidden_size=rows.image_features.take(rows[0]["image_slots"][:1]).shape[-1],
        num_hidden_layers=start.num_hidden_layers,
        num_attention_heads=start.num_attention_heads,
        text_head=start.text_head,
        **slots,
    )
    torch.manual_seed(args.seed)
    return ComAlignTrainer(
        model=ComAlignModel(config),
        args=args,
        train_dataset=rows,
        processing_class=ComAlignProcessor(processor.image_processor, processor.tokenizer, **slots),
    )


def load_component_rows(data: ComponentDataArguments, args: ComAlignArguments) -> Sequence[dict[str, Any]]:
    """The training rows.

    Raises:
        ValueError: If neither a file nor a number of scenes is given, or both are.
    """
    if (data.train is None) == (not data.scenes):
        raise ValueError(f"give either train or scenes, got train={data.train} and scenes={data.scenes}")
    if data.scenes:
        return SceneComponentDataset(data.scenes, "train", data.scene_size, args.seed, num_negatives=args.num_negatives)
    return load_components(Path(data.train), data.images, on_bad_row=args.on_bad_row)
