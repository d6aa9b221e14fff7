"""DeGLA: a global contrast kept in place by a slow teacher, and two local contrasts that learn composition."""

import copy
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .distributed import gathered, held, held_in_float32, shard_frozen
from .dual_encoder import DualEncoderArguments, DualEncoderTrainer
from .losses import image_grounded_contrast, self_distillation, text_grounded_contrast

TEACHER_FILE = "teacher.safetensors"


@dataclass
class DeGLAArguments(DualEncoderArguments):
    """DeGLA's recipe on top of `DualEncoderArguments`."""

    image_grounded_weight: float = field(
        default=0.1, metadata={"help": "Weight of the image-grounded contrast (lambda 1); 0 switches it off."}
    )
    text_grounded_weight: float = field(
        default=0.1, metadata={"help": "Weight of the text-grounded contrast (lambda 2); 0 switches it off."}
    )
    distillation_weight: float = field(
        default=0.005,
        metadata={
            "help": "Weight of the self-distillation (lambda 3), a sum over the global batch: 0.005 is meant for "
            "256 rows; 0 switches it off."
        },
    )
    text_grounded_scale: float = field(
        default=10.0, metadata={"help": "Constant logit scale of the text-grounded contrast."}
    )
    text_grounded_negatives: Literal["own", "released"] = field(
        default="own",
        metadata={
            "help": "Compare a caption with its own negatives, or with those that the authors' code picks by mistake."
        },
    )
    teacher_decay: float = field(default=0.9996, metadata={"help": "Share of the old teacher that each step keeps."})


class DeGLATrainer(DualEncoderTrainer):
    """Trains a `DeGLACLIPModel` or any other dual encoder; the EMA teacher belongs to the trainer and its checkpoints.

    On SigLIP the contrast takes SigLIP's form. The image-grounded contrast stays a softmax with SigLIP's own scale: it
    compares the logits of one image, and a bias that is added to all of them makes no difference. The text-grounded
    contrast and the self-distillation know neither scale nor bias.

    Under ZeRO-3 each process holds a float32 shard of the teacher, averaged in place.

    Reference:
        Decoupled Global-Local Alignment, https://huggingface.co/papers/2504.16801, Eq. 4 to 10.
    """

    def __init__(self, model, args: DeGLAArguments, **kwargs: Any):
        super().__init__(model, args, **kwargs)
        self.teacher = self._place_teacher() if args.text_grounded_weight or args.distillation_weight else None

    def _place_teacher(self) -> nn.Module:
        """Make the teacher where the batches will be: the Trainer places the student later under some engines."""
        plugin = self.accelerator.state.deepspeed_plugin if self.is_deepspeed_enabled else None
        if plugin is not None and plugin.zero_stage == 3:
            return shard_frozen(make_teacher(self.model, shared=()), plugin.deepspeed_config["zero_optimization"])
        teacher = make_teacher(self.model)
        return teacher if self.is_model_parallel else teacher.to(self.args.device)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Contrast + lambda 1 * image-grounded + lambda 2 * text-grounded + lambda 3 * self-distillation (Eq. 10)."""
        args, teacher = self.args, self.embed_teacher(inputs)
        outputs, student = self.embed(model, inputs)
        scale, mask = student.logit_scale, student.negative_mask

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
            "contrast": (1.0, student.contrast),
            "image_grounded": (args.image_grounded_weight, image_grounded),
            "text_grounded": (args.text_grounded_weight, text_grounded),
            # A sum over the rows of a step, of which the Trainer divides each part by the number of parts.
            "distillation": (args.distillation_weight * self.parts_of_step, distillation),
        }
        loss = self.sum_terms(terms, inputs["row"])
        return (loss, outputs) if return_outputs else loss

    @property
    def parts_of_step(self) -> int:
        """The number of micro-batches that an optimizer step accumulates."""
        return self.current_gradient_accumulation_steps if self.is_in_train and self.model.training else 1

    @torch.no_grad()
    def embed_teacher(self, inputs):
        """Embed the same batch with the teacher; return None when no term needs it."""
        if self.teacher is None:
            return None
        half = torch.bfloat16 if self.args.bf16 else torch.float16
        with torch.autocast(self.args.device.type, half, enabled=self.args.bf16 or self.args.fp16):
            return self.embed(self.teacher, inputs)[1]

    def after_optimizer_step(self) -> None:
        """Let the teacher follow (Eq. 6), then bound the student's logit scale, in the order of the authors' code."""
        if self.teacher is not None:
            pairs = self.averaged().values()
            ema_update(
                [held(average) for average, _ in pairs],
                [held_in_float32(own) for _, own in pairs],
                self.args.teacher_decay,
            )
        super().after_optimizer_step()

    def averaged(self) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
        """Pair each average of the teacher with the student's parameter that it follows, by name.

        For an adapted student these are the adapters `A` and `B`, not their products: the teacher's weights are
        `EMA(B) EMA(A)` instead of `EMA(B A)`. The two are equal while one factor stays fixed, and otherwise differ by
        terms of second order in the distance that the factors moved.
        """
        average = dict(self.accelerator.unwrap_model(self.teacher).named_parameters())
        student = self.accelerator.unwrap_model(self.model).named_parameters()
        return {name: (average[name], own) for name, own in student if own.requires_grad}

    def save_extra_state(self, folder: str) -> None:
        if self.teacher is not None:
            tensors = {name: whole_copy(average).cpu() for name, (average, _) in self.averaged().items()}
            if self.args.should_save:
                save_file(tensors, os.path.join(folder, TEACHER_FILE))

    def load_extra_state(self, folder: str) -> None:
        if self.teacher is None:
            return
        path = os.path.join(folder, TEACHER_FILE)
        if not os.path.exists(path):
            raise ValueError(
                f"{folder} holds no {TEACHER_FILE}: it was not saved by DeGLATrainer, or without a teacher"
            )
        saved, averaged = load_file(path), self.averaged()
        if missing := averaged.keys() - saved.keys():
            raise ValueError(f"{path} lacks the averages of {len(missing)} trained weights, such as {min(missing)}")
        for name, (average, _) in averaged.items():
            with gathered(average, write=True):
                average.data.copy_(saved[name])


# The teacher


@torch.no_grad()
def ema_update(teacher: Sequence[Tensor], student: Sequence[Tensor], decay: float) -> None:
    """Move every teacher tensor towards the student's in place: `t <- decay * t + (1 - decay) * s`.

    One fused operation over all tensors, elementwise, hence right on local shards as well.

    Args:
        teacher (`Sequence[torch.Tensor]`): The averages, best kept in float32; changed in place.
        student (`Sequence[torch.Tensor]`): Tensors of the same shapes and order, of any floating dtype.
        decay (`float`): Share of the old average that stays, in [0, 1].

    Raises:
        ValueError: If `decay` lies outside [0, 1].

    Reference:
        DeGLA, Eq. 6, https://huggingface.co/papers/2504.16801.
    """
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"decay must lie in [0, 1], got {decay}")
    same_dtype = [value.to(average.dtype) for average, value in zip(teacher, student, strict=True)]
    get_ema_multi_avg_fn(decay)(list(teacher), same_dtype, None)


def make_teacher(student: nn.Module, shared: Collection[nn.Parameter] | None = None) -> nn.Module:
    """Make a whole frozen float32 copy of `student` in evaluation mode. Its buffers are never averaged.

    Args:
        student (`nn.Module`): Whole, or sharded by ZeRO-3; then all processes have to call this.
        shared (`Collection[nn.Parameter]`, *optional*): Parameters of which no copy is made. Default: frozen float32
            ones, so that the teacher of an adapted model takes no more memory than the adapters.
    """
    if shared is None:
        shared = [own for own in student.parameters() if not own.requires_grad and own.dtype == torch.float32]
    known: dict[int, Any] = {id(own): own for own in shared}
    for own in student.parameters():
        if id(own) not in known:
            known[id(own)] = nn.Parameter(whole_copy(own), requires_grad=False)
    return copy.deepcopy(student, known).float().eval().requires_grad_(False)


def whole_copy(parameter: nn.Parameter) -> Tensor:
    """Copy the values of a parameter in float32; of a sharded one, all processes have to ask."""
    with gathered(parameter):
        return parameter.detach().to(torch.float32, copy=True)
