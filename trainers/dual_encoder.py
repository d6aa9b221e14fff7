"""The trainers of dual encoders: the recipe on which the papers agree, batches, embeddings of the global batch."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin, TrainingArguments
from transformers.utils import ModelOutput

from ..data.features.encode import check_image_format
from ..data.images import open_image
from ..data.tokenization import caption_format
from ..modeling.clip.modeling_grouped_clip import GroupedCLIPOutput
from .adapters import plain_model
from .columns import column_names, column_of
from .distributed import clamp_parameter, gather_rows, whole_shape
from .losses import clip_contrastive, sigmoid_contrast
from .sampling import images_apart
from .streaming import StreamedRows
from .trainer import BaseArguments, BaseTrainer, sample_seed

LARGEST_LOGIT_SCALE = 100.0  # CLIP's bound; beyond it cosines are amplified into noise
MODEL_INPUTS = ("input_ids", "attention_mask", "pixel_values")
PEEKED = 100  # first rows of a stream, which tell whether it has negatives
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
    logit_bias: Tensor | None = None  # (1,), of SigLIP

    def contrast(self, masked: bool = True) -> Tensor:
        """Contrast images with all captions and negatives, in the form in which the model was pretrained.

        That is CLIP's softmax, or, for a model with a logit bias, SigLIP's sigmoid. In the latter a negative is one
        more text that belongs to no image.

        Args:
            masked (`bool`): Whether negatives that do not exist are left out.
        """
        mask = self.negative_mask if masked else torch.ones_like(self.negative_mask)
        if self.logit_bias is None:
            return clip_contrastive(self.image, self.caption, self.logit_scale, self.negative, mask)
        text = torch.cat([self.caption, self.negative.flatten(0, 1)])  # (N * (1 + K), D)
        positive = torch.eye(len(self.image), len(text), dtype=torch.bool, device=text.device)
        exists = torch.cat([mask.new_ones(len(self.caption)), mask.flatten()])
        ignore = (exists == 0).expand_as(positive)
        return sigmoid_contrast(self.image, text, positive, self.logit_scale, self.logit_bias, ignore)


class DualEncoderTrainer(BaseTrainer):
    """A `BaseTrainer` for dual encoders, whose terms contrast the global batch.

    A subclass overrides `compute_loss` with its terms. Note that a contrastive loss depends on the batch size: never
    compare eval losses across batch sizes.

    Args:
        model (`PreTrainedModel`): A dual encoder such as CLIP or SigLIP: `forward` returns `image_embeds` and
            `text_embeds`, and there is a `logit_scale`.
        args (`DualEncoderArguments`): The recipe.
        train_dataset, eval_dataset: Map-style rows with `image`, `caption` and `negative_captions`, see
            `DualEncoderCollator`; for evaluation also a dictionary of several.
        processing_class (`ProcessorMixin`): The model's processor.
        kwargs: As for `transformers.Trainer`.

    Raises:
        ValueError: If the launched processes would run without synchronising gradients, a batch would leave nothing to
            contrast, or the model has no logit scale or takes images of no fixed size.
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
        output_scale(model)
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
        check_image_format(model.config)
        return DualEncoderCollator(
            processor,
            num_negatives=args.num_negatives,
            negative_choice=args.negative_choice,
            crop_scale=None if args.crop_scale is None else (args.crop_scale[0], args.crop_scale[1]),
            seed=sample_seed(args),
            **caption_format(model.config, processor.tokenizer),
        )

    def evaluation_collator(self, rows: Any) -> Callable:
        if isinstance(self.data_collator, DualEncoderCollator):
            return replace(self.data_collator, crop_scale=None)
        return self.data_collator

    def embed(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Any, EmbeddedBatch]:
        """One forward of images, captions and negatives; the rows of all processes, with gradient."""
        outputs = model(**{key: inputs[key] for key in MODEL_INPUTS if key in inputs})
        image = outputs.image_embeds.float()
        caption, negative = split_captions(outputs.text_embeds.float(), len(image))
        mask = inputs["negative_mask"].to(image.dtype)
        scale, bias = outputs.logit_scale.float(), outputs.get("logit_bias")
        image, caption, negative, mask = gather_rows(image, caption, negative, mask)
        return outputs, EmbeddedBatch(image, caption, negative, mask, scale, None if bias is None else bias.float())

    def train(self, *args: Any, **kwargs: Any):
        if self.train_dataset is not None:  # the Trainer itself says that it is missing
            if not isinstance(self.train_dataset, StreamedRows):
                check_batches(len(self.train_dataset), self.args)
            self.check_negatives()
        return super().train(*args, **kwargs)

    def _get_train_sampler(self, *args: Any, **kwargs: Any):
        apart = images_apart(getattr(self.train_dataset, "rows", None), self.args, sample_seed(self.args))
        return apart or super()._get_train_sampler(*args, **kwargs)

    def check_negatives(self) -> None:
        """Say which share of the rows has negatives, and refuse to train on negatives that are not there.

        Raises:
            ValueError: If no row has a negative and `num_negatives` is not 0.
        """
        streamed = isinstance(self.train_dataset, StreamedRows)
        rows = self.train_dataset.first(PEEKED) if streamed else getattr(self.train_dataset, "rows", None)
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
        return [name for name, parameter in model.named_parameters() if len(whole_shape(parameter)) >= 2]

    def after_optimizer_step(self) -> None:
        """Keep the logit scale of a CLIP within its bounds, 1 and 100.

        That of a SigLIP has no bound in its training, and a frozen one belongs to the base.
        """
        model = plain_model(self.accelerator.unwrap_model(self.model))
        if model.logit_scale.requires_grad and logit_bias(model) is None:
            clamp_parameter(model.logit_scale, 0.0, math.log(LARGEST_LOGIT_SCALE))


# The scale and the bias of the logits


def logit_bias(model: nn.Module) -> nn.Parameter | None:
    """Return the bias that SigLIP adds to its logits, None for CLIP: what tells one kind from the other."""
    return getattr(model, "logit_bias", None)


def output_scale(model: nn.Module) -> None:
    """Let each output of a dual encoder carry its logit scale, exponentiated, and SigLIP's bias.

    Models of transformers use them and do not return them; outside forward, parameters may be shards.

    Args:
        model (`nn.Module`): Gets a forward hook, which runs before those that shard the parameters again.

    Raises:
        ValueError: If the model has no logit scale.
    """
    plain = plain_model(model)
    if not hasattr(plain, "logit_scale"):
        raise ValueError(f"{type(plain).__name__} has no logit_scale to contrast with; accepted: CLIP, SigLIP and kin")
    plain.register_forward_hook(_add_scale, prepend=True)


@dataclass
class ScaledOutput(GroupedCLIPOutput):
    """Output of a dual encoder of transformers, with the scale, exponentiated, and the bias of its logits.

    DistributedDataParallel makes outputs anew from their fields, so that what is added to an output needs a field.
    """

    logit_bias: Tensor | None = None


def _add_scale(model: nn.Module, args: tuple, outputs: Any) -> Any:
    """The forward hook."""
    if not isinstance(outputs, ModelOutput) or "logit_scale" in outputs:
        return outputs
    bias = logit_bias(model)
    kept = {name: outputs[name] for name in ScaledOutput.__dataclass_fields__ if name in outputs}
    return ScaledOutput(**kept, logit_scale=model.logit_scale.exp(), logit_bias=None if bias is None else bias.clone())


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
    attention_mask (B*(1+K), T)    unless the model sees padding
    negative_mask  (B, K)          1 where the negative exists
    row            (B,)            where each sample stands in the dataset
    ```

    Args:
        processor (`ProcessorMixin`): Tokenizer and image processor of a CLIP-like model.
        num_negatives (`int`): K. A row with fewer is filled with masked slots.
        negative_choice (`str`): Which of more than K negatives: the `"first"` or a `"random"` one each epoch.
        padding (`str`): `"longest"`, exact for causal text towers such as CLIP's, or `"max_length"`.
        max_length (`int`, *optional*): Tokens that the model reads at most; default: the tokenizer's.
        return_attention_mask (`bool`, *optional*): Whether padding is hidden; default: the tokenizer's.
        crop_scale (`tuple[float, float]`, *optional*): Area range of a random resized crop, shares of the image in
            (0, 1]. None: the processor's own resizing.
        seed (`int`): Root of every random choice.
    """

    processor: ProcessorMixin
    num_negatives: int
    negative_choice: Literal["first", "random"] = "first"
    padding: str = "longest"
    max_length: int | None = None
    return_attention_mask: bool | None = None
    crop_scale: tuple[float, float] | None = None
    seed: int = 0

    def __call__(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        draws = [random.Random(f"{self.seed}/{row['epoch']}/{row['row']}") for row in rows]
        chosen = [self._negatives(row, draw) for row, draw in zip(rows, draws, strict=True)]
        texts = [row["caption"] for row in rows] + [text for negatives in chosen for text, _ in negatives]
        encoded = self.processor.tokenizer(
            texts,
            padding=self.padding,
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=self.return_attention_mask,
            return_tensors="pt",
        )
        mask = torch.tensor([[valid for _, valid in negatives] for negatives in chosen], dtype=torch.long)
        mask = mask.reshape(len(rows), self.num_negatives)
        # A difference beyond the context length is cut off: what is left is the caption, and no negative.
        captions, negatives = split_captions(encoded["input_ids"], len(rows))
        mask = mask * (negatives != captions[:, None]).any(-1)
        return {
            "pixel_values": self._pixels([row["image"] for row in rows], draws),
            **{name: encoded[name] for name in MODEL_INPUTS if name in encoded},
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


def count_negatives(rows: Any) -> list[int] | None:
    """Count the usable negatives of each row, without reading an image.

    Args:
        rows: A list of rows or a `datasets.Dataset`; of other rows nothing is known before they are read.

    Returns:
        `list[int]`, or None where nothing is known.
    """
    if column_names(rows) is None:
        return None
    nothing = [None] * len(rows)
    masks = column_of(rows, "negative_mask") or nothing
    texts = (column_of(rows, "negative_captions") if None in masks else None) or nothing  # far larger than their mask
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
