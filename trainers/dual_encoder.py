"""The trainers of dual encoders: the recipe on which the papers agree, batches, embeddings of the global batch."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin, TrainingArguments

from ..data.images import open_image
from ..data.tokenization import caption_padding
from .distributed import gather_rows
from .trainer import BaseArguments, BaseTrainer, sample_seed

LARGEST_LOGIT_SCALE = 100.0  # CLIP's bound; beyond it cosines are amplified into noise
SIDE_RATIOS = (3 / 4, 4 / 3)  # of a random crop, width to height


@dataclass
class ContrastiveArguments(BaseArguments):
    """Arguments of every trainer with contrastive terms.

    These defaults differ from `BaseArguments`: the optimizer and schedule are those on which the papers agree
    (AdamW with betas 0.9 and 0.98, epsilon 1e-6, weight decay 0.1 on matrices only, 50 warm-up steps, cosine to 0, no
    gradient clipping, 5 epochs, a global batch of 256), and an incomplete last batch is dropped.
    `per_device_train_batch_size` is 256: divide it by the number of processes.
    """

    per_device_train_batch_size: int = field(
        default=256, metadata={"help": "Rows per process and step. The papers' global batch is 256."}
    )
    learning_rate: float = field(default=1e-6, metadata={"help": "Peak learning rate of AdamW."})
    num_train_epochs: float = field(default=5.0, metadata={"help": "Passes over the data."})
    weight_decay: float = field(
        default=0.1, metadata={"help": "Weight decay, on parameters with two or more axes only."}
    )
    adam_beta2: float = field(default=0.98, metadata={"help": "Decay of AdamW's second moment."})
    adam_epsilon: float = field(default=1e-6, metadata={"help": "AdamW's epsilon."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule after the warm-up."})
    warmup_steps: float = field(
        default=50, metadata={"help": "Linear warm-up, in steps, or as a share of all steps if below 1."}
    )
    max_grad_norm: float = field(default=0.0, metadata={"help": "Gradient clipping; 0 switches it off."})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "Drop an incomplete last batch."})
    num_negatives: int = field(default=4, metadata={"help": "Hard negatives per caption, K >= 0."})

    def __post_init__(self):
        super().__post_init__()
        if self.num_negatives < 0:
            raise ValueError(f"num_negatives must be 0 or more, got {self.num_negatives}")


@dataclass
class DualEncoderArguments(ContrastiveArguments):
    """Arguments of every trainer that fine-tunes a dual encoder on images and captions."""

    negative_choice: Literal["first", "random"] = field(
        default="first",
        metadata={"help": "Which K of more negatives to take: the first ones, or random ones in each epoch."},
    )
    crop_scale: list[float] | None = field(
        default_factory=lambda: [0.9, 1.0],
        metadata={
            "help": "Area range of the random resized crop, two shares in (0, 1]; null in a recipe: "
            "the processor resizes."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if self.crop_scale and not (len(self.crop_scale) == 2 and 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1):
            raise ValueError(f"crop_scale must be two shares of the area, 0 < low <= high <= 1, got {self.crop_scale}")


@dataclass
class EmbeddedBatch:
    """L2-normalised float32 embeddings of the global batch: N rows of all processes, K negatives per row, width D."""

    image: Tensor  # (N, D)
    caption: Tensor  # (N, D)
    negative: Tensor  # (N, K, D)
    negative_mask: Tensor  # (N, K)
    logit_scale: Tensor  # () or (1,), exponentiated


class DualEncoderTrainer(BaseTrainer):
    """A `BaseTrainer` for dual encoders, whose terms contrast the global batch.

    A subclass overrides `compute_loss` with its terms. Note that a contrastive loss depends on the batch size: never
    compare eval losses across batch sizes.

    Args:
        model (`PreTrainedModel`): A CLIP-like model: `forward` returns `image_embeds` and `text_embeds`.
        args (`DualEncoderArguments`): The recipe.
        train_dataset, eval_dataset: Map-style rows with `image`, `caption` and `negative_captions`, see
            `DualEncoderCollator`; for evaluation also a dictionary of several.
        processing_class (`ProcessorMixin`): The model's processor.
        kwargs: As for `transformers.Trainer`.

    Raises:
        ValueError: If the launched processes would run without synchronising gradients, or a batch would leave nothing
            to contrast.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: ContrastiveArguments,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: ProcessorMixin | None = None,
        data_collator: Callable | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            data_collator=data_collator or self.make_collator(processing_class, model, args),
            **kwargs,
        )
        # Otherwise the Trainer takes a batch mean for a loss that is already divided by the accumulation steps.
        self.model_accepts_loss_kwargs = False
        if args.gradient_accumulation_steps > 1:
            self.accelerator.print(
                f"Note: {args.gradient_accumulation_steps} accumulation steps contrast {args.train_batch_size} rows at "
                "a time; that is another objective than one batch of the accumulated size."
            )

    @staticmethod
    def make_collator(
        processor: ProcessorMixin, model: PreTrainedModel, args: DualEncoderArguments
    ) -> "DualEncoderCollator":
        """Make the default collator of this trainer."""
        return DualEncoderCollator(
            processor,
            num_negatives=args.num_negatives,
            negative_choice=args.negative_choice,
            padding=caption_padding(model.config),
            crop_scale=None if args.crop_scale is None else (args.crop_scale[0], args.crop_scale[1]),
            seed=sample_seed(args),
        )

    def evaluation_collator(self, rows: Any) -> Callable:
        if isinstance(self.data_collator, DualEncoderCollator):
            return replace(self.data_collator, crop_scale=None)
        return self.data_collator

    def embed(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Any, EmbeddedBatch]:
        """One forward of images, captions and negatives; the rows of all processes, with gradient."""
        keys = ("input_ids", "attention_mask", "pixel_values")
        outputs = model(**{key: inputs[key] for key in keys})
        image = outputs.image_embeds.float()
        caption, negative = split_captions(outputs.text_embeds.float(), len(image))
        mask = inputs["negative_mask"].to(image.dtype)
        scale = outputs.get("logit_scale")
        if scale is None:  # a plain CLIP-like model does not return it
            scale = self.accelerator.unwrap_model(model).logit_scale.exp()
        image, caption, negative, mask = gather_rows(image, caption, negative, mask)
        return outputs, EmbeddedBatch(image, caption, negative, mask, scale.float())

    def train(self, *args: Any, **kwargs: Any):
        if self.train_dataset is not None:  # the Trainer itself says that it is missing
            check_batches(len(self.train_dataset), self.args)
            self.check_negatives()
        return super().train(*args, **kwargs)

    def check_negatives(self) -> None:
        """Say which share of the rows has negatives, and refuse to train on negatives that are not there.

        Raises:
            ValueError: If no row has a negative and `num_negatives` is not 0.
        """
        rows = getattr(self.train_dataset, "rows", None)
        if self.args.num_negatives == 0 or (counts := count_negatives(rows)) is None:
            return
        having = sum(count > 0 for count in counts)
        if having == 0:
            raise ValueError(
                f"none of {len(counts)} rows has a negative in negative_captions, so this would train without "
                f"negatives; the columns are {', '.join(column_names(rows) or ())}. Propose some (compalign negatives, "
                "or --negatives rules), or set num_negatives to 0"
            )
        self.accelerator.print(
            f"{having / len(counts):.1%} of {len(counts):,} rows have negatives, {sum(counts) / having:.1f} on average"
        )

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Matrices only: no gain, bias, class embedding or temperature decays."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim >= 2]

    @torch.no_grad()
    def after_optimizer_step(self) -> None:
        """Keep the logit scale within CLIP's bounds, 1 and 100; a frozen one belongs to the base."""
        scale = self.accelerator.unwrap_model(self.model).logit_scale
        if scale.requires_grad:
            scale.clamp_(0.0, torch.tensor(LARGEST_LOGIT_SCALE).log().item())


# From rows to tensors


def split_captions(text: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Give flat text rows their negatives axis back; the inverse of the layout that `DualEncoderCollator` makes.

    Args:
        text (`torch.Tensor` of shape `(B*(1+K), ...)`): B captions, then the K negatives of caption 0, of 1, ...
        batch (`int`): B.

    Returns:
        `tuple`: captions `(B, ...)` and negatives `(B, K, ...)`.

    Raises:
        ValueError: If the number of rows is no multiple of the batch.
    """
    if batch == 0 or len(text) % batch:
        raise ValueError(f"{len(text)} text rows are no whole number of captions and negatives for {batch} images")
    return text[:batch], text[batch:].reshape(batch, len(text) // batch - 1, *text.shape[1:])


@dataclass
class DualEncoderCollator:
    """Make a training batch of images, captions and hard negative captions.

    A row has `image` (PIL, of any mode), `caption` (str), optionally `negative_captions` (list of str) and
    `negative_mask` (list of int), and `row` and `epoch` (int), which the trainer adds. With B rows, K negatives and T
    tokens in the longest text:

    ```
    pixel_values   (B, 3, H, W)    float
    input_ids      (B*(1+K), T)    captions first, then the negatives of row 0, of row 1, ...
    attention_mask (B*(1+K), T)
    negative_mask  (B, K)          1 where the negative exists
    row            (B,)            where each sample stands in the dataset
    ```

    Args:
        processor (`ProcessorMixin`): Tokenizer and image processor of a CLIP-like model.
        num_negatives (`int`): K. A row with fewer is filled with masked slots.
        negative_choice (`str`): Which of more than K negatives: the `"first"` or a `"random"` one each epoch.
        padding (`str`): `"longest"`, exact for causal text towers such as CLIP's, or `"max_length"`.
        crop_scale (`tuple[float, float]`, *optional*): Area range of a random resized crop, shares of the image in
            (0, 1]. None: the processor's own resizing.
        seed (`int`): Root of every random choice.
    """

    processor: ProcessorMixin
    num_negatives: int
    negative_choice: Literal["first", "random"] = "first"
    padding: str = "longest"
    crop_scale: tuple[float, float] | None = None
    seed: int = 0

    def __call__(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        draws = [random.Random(f"{self.seed}/{row['epoch']}/{row['row']}") for row in rows]
        chosen = [self._negatives(row, draw) for row, draw in zip(rows, draws, strict=True)]
        texts = [row["caption"] for row in rows] + [text for negatives in chosen for text, _ in negatives]
        encoded = self.processor.tokenizer(texts, padding=self.padding, truncation=True, return_tensors="pt")
        mask = torch.tensor([[valid for _, valid in negatives] for negatives in chosen], dtype=torch.long)
        mask = mask.reshape(len(rows), self.num_negatives)
        # A difference beyond the context length is cut off: what is left is the caption, and no negative.
        captions, negatives = split_captions(encoded["input_ids"], len(rows))
        mask = mask * (negatives != captions[:, None]).any(-1)
        return {
            "pixel_values": self._pixels([row["image"] for row in rows], draws),
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "negative_mask": mask,
            "row": torch.tensor([row["row"] for row in rows]),
        }

    def _negatives(self, row: dict[str, Any], draw: random.Random) -> list[tuple[str, int]]:
        """K texts with their validity; an absent one is the caption itself, masked: it costs no longer batch."""
        texts = row.get("negative_captions") or []
        texts = [texts] if isinstance(texts, str) else texts
        mask = row.get("negative_mask") or [1] * len(texts)
        slots = list(zip(texts, mask, strict=True))
        if self.negative_choice == "random" and len(slots) > self.num_negatives:
            valid = [slot for slot in slots if slot[1]]
            slots = draw.sample(valid, min(self.num_negatives, len(valid)))
        slots = [(text if valid else row["caption"], int(valid)) for text, valid in slots[: self.num_negatives]]
        return slots + [(row["caption"], 0)] * (self.num_negatives - len(slots))

    def _pixels(self, images: list[Image.Image], draws: list[random.Random]) -> Tensor:
        """The images as the model wants them, each cut by its own draw."""
        processor = self.processor.image_processor
        images = [open_image(image) for image in images]
        if self.crop_scale is None:
            return processor(images, return_tensors="pt")["pixel_values"]
        height, width = _input_size(processor)
        images = [
            image.resize((width, height), Image.Resampling.BICUBIC, crop_box(image.size, self.crop_scale, draw))
            for image, draw in zip(images, draws, strict=True)
        ]
        return processor(images, do_resize=False, do_center_crop=False, return_tensors="pt")["pixel_values"]


def crop_box(
    size: tuple[int, int], scale: tuple[float, float], draw: random.Random
) -> tuple[float, float, float, float]:
    """A random crop of the given area share and a side ratio within 3/4 and 4/3, as in Inception's augmentation.

    Args:
        size (`tuple[int, int]`): Width and height in pixels.
        scale (`tuple[float, float]`): Smallest and largest share of the area, in (0, 1].
        draw (`random.Random`): Source of the choice.

    Returns:
        `tuple`: left, upper, right, lower in pixels, inside the image, far edges excluded. Of an image too
        narrow for such a crop, its middle as far as the ratio allows.
    """
    width, height = size
    narrowest, widest = SIDE_RATIOS
    for _ in range(10):
        area = draw.uniform(*scale) * width * height
        ratio = narrowest * (widest / narrowest) ** draw.random()  # log-uniform
        crop_width, crop_height = (area * ratio) ** 0.5, (area / ratio) ** 0.5
        if crop_width <= width and crop_height <= height:
            left, upper = draw.uniform(0, width - crop_width), draw.uniform(0, height - crop_height)
            return left, upper, left + crop_width, upper + crop_height
    crop_width, crop_height = min(width, height * widest), min(height, width / narrowest)
    left, upper = (width - crop_width) / 2, (height - crop_height) / 2
    return left, upper, left + crop_width, upper + crop_height


def _input_size(image_processor: Any) -> tuple[int, int]:
    """Height and width of the model's input."""
    size = image_processor.crop_size if image_processor.do_center_crop else image_processor.size
    return size["height"], size["width"]


def column_names(rows: Any) -> list[str] | None:
    """Name the columns of a dataset, or the keys of a list of rows; None where they are known on reading only."""
    if isinstance(rows, list):
        return list(dict.fromkeys(name for row in rows for name in row))
    names = getattr(rows, "column_names", None)
    return names if isinstance(names, list) else None


def count_negatives(rows: Any) -> list[int] | None:
    """Count the usable negatives of each row, without reading an image.

    Args:
        rows: A list of rows or a `datasets.Dataset`; of other rows nothing is known before they are read.

    Returns:
        `list[int]`, or None where nothing is known.
    """
    names = column_names(rows)
    if names is None:
        return None

    def column(name: str) -> list[Any]:
        if isinstance(rows, list):
            return [row.get(name) for row in rows]
        return rows.select_columns(name).with_format("arrow")[:][name].to_pylist()  # decodes no other column

    nothing = [None] * len(rows)
    masks = column("negative_mask") if "negative_mask" in names else nothing
    wanted = None in masks and "negative_captions" in names  # texts are many times the size of their mask
    texts = column("negative_captions") if wanted else nothing
    return [
        int(bool(some)) if isinstance(some, str) else sum(mask or [1] * len(some or ()))
        for some, mask in zip(texts, masks, strict=True)
    ]


def check_batches(rows: int, args: TrainingArguments) -> None:
    """Refuse batches that leave nothing to contrast."""
    batch = args.train_batch_size * args.world_size
    if batch == 1:
        raise ValueError("a batch of one row has nothing to contrast; raise per_device_train_batch_size")
    if args.dataloader_drop_last and rows < batch:
        raise ValueError(
            f"{rows} rows make no batch of {batch} ({args.train_batch_size} rows x {args.world_size} processes); lower "
            "per_device_train_batch_size or set dataloader_drop_last to false"
        )
    if not args.dataloader_drop_last and rows % batch == 1:
        raise ValueError(
            f"the last of {-(-rows // batch)} batches would hold a single row ({rows} rows in batches of {batch}), "
            "which has nothing to contrast; set dataloader_drop_last to true or change the batch size"
        )
