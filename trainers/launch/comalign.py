"""The start of a ComAlign training: a frozen encoder, its features of images, captions and components, new heads."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from ...data.components import load_components
from ...data.features.encode import feature_stores
from ...data.scenes import SceneComponentDataset
from ...modeling import ComAlignConfig, ComAlignModel, ComAlignProcessor
from ...modeling.kinds import load_model, load_processor
from ..comalign import ComAlignArguments, ComAlignTrainer, ComponentFeatureRows


@dataclass
class ComponentModelArguments:
    """Which encoder is frozen, and the shape of the heads on it."""

    GROUP: ClassVar[str] = "model"

    backbone: str = field(
        default="openai/clip-vit-base-patch32", metadata={"help": "The frozen dual encoder: a Hub id or a folder."}
    )
    backbone_revision: str | None = field(default=None, metadata={"help": "Commit, branch or tag of the encoder."})
    entities: int = field(default=10, metadata={"help": "Entity slots per image and per caption."})
    relations: int = field(default=10, metadata={"help": "Relation slots per image and per caption."})
    text_head: bool = field(
        default=True, metadata={"help": "Give captions a head; without it they keep their frozen embeddings."}
    )
    num_hidden_layers: int = field(default=2, metadata={"help": "Transformer layers per head."})
    num_attention_heads: int = field(default=4, metadata={"help": "Attention heads per layer."})


@dataclass
class ComponentDataArguments:
    """Where images, captions and their components come from."""

    GROUP: ClassVar[str] = "data"

    train: str | None = field(
        default=None, metadata={"help": "Output of `compalign components`: its folder or its .jsonl file."}
    )
    images: str | None = field(default=None, metadata={"help": "Folder of the images; by default that of the file."})
    features: str = field(default="features", metadata={"help": "Folder that keeps the frozen encoder's features."})
    scenes: int = field(default=0, metadata={"help": "Number of generated scenes to use instead of --train."})
    scene_size: int = field(default=64, metadata={"help": "Side of the generated images in pixels."})
    encode_batch_size: int = field(
        default=256, metadata={"help": "Images, and texts, per forward pass of the encoder."}
    )


def make_comalign_trainer(
    start: ComponentModelArguments, data: ComponentDataArguments, args: ComAlignArguments
) -> ComAlignTrainer:
    """Make the trainer of a recipe: its frozen encoder, the features, and new heads."""
    backbone = load_model(start.backbone, revision=start.backbone_revision).to(args.device)
    processor = load_processor(start.backbone, revision=start.backbone_revision)
    slots: dict[str, Any] = {"entities": start.entities, "relations": start.relations}
    rows = ComponentFeatureRows(
        training_rows(data, args),
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


def training_rows(data: ComponentDataArguments, args: ComAlignArguments) -> Sequence[dict[str, Any]]:
    """Load the training rows.

    Raises:
        ValueError: If neither a file nor a number of scenes is given, or both are.
    """
    if data.scenes and data.train is None:
        return SceneComponentDataset(data.scenes, "train", data.scene_size, args.seed, num_negatives=args.num_negatives)
    if data.train is None or data.scenes:
        raise ValueError(f"give either train or scenes, got train={data.train} and scenes={data.scenes}")
    return load_components(Path(data.train), data.images, on_bad_row=args.on_bad_row)
