"""DeGLA: a global contrast kept in place by a slow teacher, and two local contrasts that learn composition."""

import os
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .base import AlignmentArguments, AlignmentTrainer
from .ema import ema_update, make_teacher
from .losses import clip_contrastive, image_grounded_contrast, self_distillation, text_grounded_contrast

TEACHER_FILE = "teacher.safetensors"


@dataclass
class DeGLAArguments(AlignmentArguments):
    """DeGLA's recipe on top of `AlignmentArguments`."""

    image_grounded_weight: float = field(default=0.1, metadata={"help": "Lambda 1; 0 switches the term off."})
    text_grounded_weight: float = field(default=0.1, metadata={"help": "Lambda 2; 0 switches the term off."})
    distillation_weight: float = field(
        default=0.005,
        metadata={"help": "Lambda 3. The term is a sum over the global batch: 0.005 belongs to 256 rows; 0: off."},
    )
    text_grounded_scale: float = field(default=10.0, metadata={"help": "Constant logit scale of the text term."})
    text_grounded_negatives: Literal["own", "released"] = field(
        default="own", metadata={"help": "A caption's own negatives, or those the published code picks by mistake."}
    )
    teacher_decay: float = field(default=0.9996, metadata={"help": "Share of the old teacher that a step keeps."})


class DeGLATrainer(AlignmentTrainer):
    """Trains a `DeGLACLIPModel`; the EMA teacher belongs to the trainer and travels in its checkpoints.

    Reference:
        Decoupled Global-Local Alignment, https://huggingface.co/papers/2504.16801, Eq. 4 to 10.
    """

    def __init__(self, model, args: DeGLAArguments, **kwargs: Any):
        super().__init__(model, args, **kwargs)
        self.teacher = make_teacher(model) if args.text_grounded_weight or args.distillation_weight else None

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Contrast + lambda 1 * image-grounded + lambda 2 * text-grounded + lambda 3 * self-distillation (Eq. 10)."""
        args, teacher = self.args, self.embed_teacher(inputs)
        outputs, student = self.embed(model, inputs)
        scale, mask = student.logit_scale, student.negative_mask

        def contrast():
            return clip_contrastive(student.image, student.caption, scale, student.negative, mask)

        def image_grounded():
            return image_grounded_contrast(student.image, student.caption, student.negative, scale, mask)

        def text_grounded():
            return text_grounded_contrast(
                student.caption,
                teacher.caption,
                student.negative,
                args.text_grounded_scale,
                mask,
                args.text_grounded_negatives,
            )

        def distillation():
            existing = mask[..., None]  # a masked negative adds nothing
            return (
                self_distillation(student.image, teacher.image)
                + self_distillation(student.caption, teacher.caption)
                + self_distillation(student.negative * existing, teacher.negative * existing)
            )

        terms = {
            "contrast": (1.0, contrast),
            "image_grounded": (args.image_grounded_weight, image_grounded),
            "text_grounded": (args.text_grounded_weight, text_grounded),
            "distillation": (args.distillation_weight, distillation),
        }
        loss = self.weighted_sum(terms, inputs["row"])
        return (loss, outputs) if return_outputs else loss

    @torch.no_grad()
    def embed_teacher(self, inputs):
        """The teacher's embeddings of the same batch; None when no term asks for them."""
        if self.teacher is None:
            return None
        with self.accelerator.autocast():
            return self.embed(self.teacher, inputs)[1]

    def after_optimizer_step(self) -> None:
        """Let the teacher follow (Eq. 6), then bound the student's logit scale, in the order of the release."""
        if self.teacher is not None:
            teacher, student = zip(*self.averaged().values(), strict=True)
            ema_update(teacher, student, self.args.teacher_decay)
        super().after_optimizer_step()

    def averaged(self) -> dict[str, tuple[Tensor, Tensor]]:
        """What the teacher averages, by name, with what it follows: all that the student trains.

        Of an adapted student these are the adapters, `A` and `B`, and not their products: the teacher's weights are
        `EMA(B) EMA(A)` instead of `EMA(B A)`. The two are equal where one factor rests, and else differ by terms of
        second order in how far the factors moved.
        """
        average = dict(self.teacher.named_parameters())
        student = self.accelerator.unwrap_model(self.model).named_parameters()
        return {name: (average[name], own) for name, own in student if own.requires_grad}

    def save_extra_state(self, folder: str) -> None:
        if self.teacher is not None:
            tensors = {name: average for name, (average, _) in self.averaged().items()}
            save_file(tensors, os.path.join(folder, TEACHER_FILE))

    def load_extra_state(self, folder: str) -> None:
        if self.teacher is None:
            return
        path = os.path.join(folder, TEACHER_FILE)
        if not os.path.exists(path):
            raise ValueError(
                f"{folder} holds no {TEACHER_FILE}: it was not saved by DeGLATrainer, or without a teacher"
            )
        self.teacher.load_state_dict(load_file(path), strict=False)
