"""CAL: weights each answer token by how much the image raises its logit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin
from transformers.integrations import is_deepspeed_zero3_enabled

from ..data.chat import IGNORED_LABEL
from ..data.chat.encoder import conversation_encoder
from . import blank_image
from .adapters import PROJECTORS
from .cal_contrast import (
    LanguageModelCall,
    contrast_mode,
    image_tokens,
    states_without_image,
    watched_forward,
)
from .cal_head import chunked_cross_entropy_sum, label_gain
from .cal_rows import ConversationCollator, ConversationRows, ModalityLengthSampler, estimate_lengths, join_rows
from .cal_stream import StreamedConversations
from .distributed import sum_over_processes, world_size
from .losses import EPSILON, visual_token_weights
from .trainer import BaseArguments, BaseTrainer, sample_seed

PARTS = ("vision", "projector", "language")


@dataclass
class CALArguments(BaseArguments):
    """CAL's recipe for instruction tuning.

    These defaults differ from `BaseArguments`: learning rate 2e-5, one epoch, cosine schedule after 3 % of warm-up,
    evaluation computes losses only, and DDP looks for parameters without a gradient. The papers' global batch is 128
    rows (256 for the projector stage, at a learning rate of 1e-3).
    """

    learning_rate: float = field(default=2e-5, metadata={"help": "Peak learning rate of AdamW."})
    num_train_epochs: float = field(default=1.0, metadata={"help": "Passes over the data."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule after the warm-up."})
    warmup_steps: float = field(
        default=0.03, metadata={"help": "Linear warm-up, in steps, or as a share of all steps if below 1."}
    )
    prediction_loss_only: bool = field(
        default=True, metadata={"help": "Compute losses only in evaluation, and gather no logits."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=True,
        metadata={
            "help": "Let DDP train models of which some part has no gradient, such as LLaVA's last vision layer."
        },
    )
    cal: bool = field(
        default=True,
        metadata={"help": "Weight the tokens; without it every token weighs 1, which is plain fine-tuning."},
    )
    cal_clamp: list[float] = field(
        default_factory=lambda: [1.0, 5.0], metadata={"help": "Smallest and largest weight of a token."}
    )
    cal_window: int = field(default=3, metadata={"help": "Number of tokens over which weights are smoothed, odd."})
    cal_pooling: Literal["supervised", "row", "released"] = field(
        default="supervised",
        metadata={
            "help": "Tokens that the window sees: the supervised ones, those of the row, or, as the authors' "
            "code does, those of the "
            "flattened batch."
        },
    )
    cal_contrast: Literal["auto", "dropped", "masked"] = field(
        default="auto",
        metadata={
            "help": "How the pass without the image hides it: image tokens dropped or masked; auto drops where "
            "that is exact."
        },
    )
    train_parts: list[str] = field(
        default_factory=lambda: ["projector", "language"],
        metadata={"help": "Parts to train: vision, projector, language. Ignored with adapters."},
    )
    vision_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of the vision tower; by default that of the other parts."}
    )
    cal_normaliser: Literal["step", "released"] = field(
        default="step",
        metadata={
            "help": "Sum of weights that divides the loss: over a whole step or, as the authors' code does, over "
            "each micro-batch."
        },
    )
    loss_chunk: int = field(default=1024, metadata={"help": "Number of tokens whose logits are held at a time."})
    max_length: int | None = field(default=2048, metadata={"help": "Longest row in tokens, with image tokens."})
    on_long: Literal["drop", "truncate"] = field(
        default="drop", metadata={"help": "Drop or truncate longer rows; an image is never cut."}
    )
    group_by_modality: bool = field(
        default=False,
        metadata={"help": "Fill each step with rows of similar length, either all with images or all text."},
    )

    def __post_init__(self):
        super().__post_init__()
        reentrant = self.gradient_checkpointing and (self.gradient_checkpointing_kwargs or {}).get("use_reentrant")
        if reentrant and self.world_size > 1 and not self.deepspeed:
            raise ValueError(
                "gradient_checkpointing_kwargs: use_reentrant must be false on several processes, got true; reentrant "
                "checkpoints hide from DDP which parameters have a gradient"
            )


class CALTrainer(BaseTrainer):
    """Trains any image-text-to-text model on conversations; the reported loss is CAL's, its normaliser exact.

    The sum of weights that divides the loss runs over all rows of an optimizer step: over its micro-batches and
    processes. Under DeepSpeed, whose gradients cannot be rescaled before its step, it runs over the processes of each
    micro-batch. The evaluation loss is the plain cross-entropy.

    Reference:
        Prioritizing Visual Correlation by Contrastive Alignment, https://huggingface.co/papers/2405.17871, Eq. 1 to 5.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: CALArguments,
        processing_class: ProcessorMixin | None = None,
        data_collator: Callable | None = None,
        **kwargs: Any,
    ):
        self._encode = conversation_encoder(model, processing_class, args.max_length, args.on_long)
        super().__init__(
            model,
            args,
            processing_class=processing_class,
            data_collator=data_collator or ConversationCollator(processing_class),
            **kwargs,
        )
        self.model_accepts_loss_kwargs = True  # our loss is divided by what a whole optimizer step holds
        self._weight_sum: Tensor | float = 0.0
        self._returned: Tensor | float = 0.0
        self._blank: dict[str, Tensor] = {}
        if world_size() > 1 or is_deepspeed_zero3_enabled():
            self._blank = blank_image.model_inputs(replace(self._encode, max_length=None), self.data_collator)

    def index_rows(self, rows: Any, args: CALArguments) -> ConversationRows:
        """Conversations, encoded when they are read."""
        return ConversationRows(rows, self._encode, args.on_bad_row)

    def stream_rows(self, rows: Any, args: CALArguments) -> StreamedConversations:
        if args.group_by_modality:
            raise ValueError(
                "group_by_modality puts rows into an order of its own, and a stream has its own order already"
            )
        return StreamedConversations(rows, args.train_batch_size, self._encode, args.on_bad_row)

    def train(self, *args: Any, **kwargs: Any):
        result = super().train(*args, **kwargs)
        self.train_dataset.log_outcomes()
        return result

    def _get_train_sampler(self, *args: Any, **kwargs: Any):
        at_once = self.args.train_batch_size * self.args.world_size
        if self.args.world_size > 1 and len(self.train_dataset) < at_once:
            raise ValueError(
                f"{len(self.train_dataset)} rows are fewer than the {at_once} that {self.args.world_size} processes "
                "read at once, so some would be used twice in a step: lower per_device_train_batch_size"
            )
        if not self.args.group_by_modality:
            return super()._get_train_sampler(*args, **kwargs)
        lengths, has_image = estimate_lengths(self.train_dataset.conversations)
        step = at_once * self.args.gradient_accumulation_steps
        return ModalityLengthSampler(lengths, has_image, step, sample_seed(self.args), at_once)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Sum of weight times cross-entropy over the supervised tokens, by the sum of weights (Eq. 5)."""
        inputs = dict(inputs)
        labels, rows = inputs.pop("labels"), inputs.pop("row")
        plain = self.accelerator.unwrap_model(model)
        with_image = self.any_image(plain, inputs["input_ids"])
        outputs, call = self.run_model(model, plain, inputs, with_image)
        if self.args.cal and model.training:
            weights = self.token_weights(plain, inputs, labels, call, with_image)
        else:
            weights = torch.ones_like(labels[:, 1:], dtype=torch.float32)
        total, weight_sum = weighted_cross_entropy(plain, call, labels, weights, self.args.loss_chunk)
        loss = (
            self.normalised(total, weight_sum, num_items_in_batch) if model.training else total / (weight_sum + EPSILON)
        )
        supervised = labels[:, 1:] != IGNORED_LABEL
        terms = {
            "next_token": total.detach() / (weight_sum + EPSILON),
            "weight": weight_sum / supervised.sum().clamp_min(1),
        }
        self.record(terms, rows, broken=(supervised & ~weights.isfinite()).any(1))
        return (loss, outputs) if return_outputs else loss

    def any_image(self, model: PreTrainedModel, input_ids: Tensor) -> bool:
        """Return whether the batch of any process has an image; all of them then run the image tower."""
        shown = image_tokens(model, input_ids).any(1)  # (B,)
        with_image, text_alone = self.anywhere(shown.any(), ~shown.all())
        if with_image and text_alone:
            blank_image.check_mixture(model)
        return with_image

    def run_model(
        self, model: nn.Module, plain: PreTrainedModel, inputs: dict[str, Tensor], with_image: bool
    ) -> tuple[Any, LanguageModelCall]:
        """Run the main pass; text beside a blank image, where other processes have one or ZeRO-3 expects one."""
        tower_runs = with_image or (model.training and is_deepspeed_zero3_enabled())
        if not tower_runs or image_tokens(plain, inputs["input_ids"]).any():
            return watched_forward(model, plain, inputs)
        blank_image.check_mixture(plain)
        rows, length = inputs["input_ids"].shape
        both = join_rows([inputs, self._prepare_inputs(self._blank)], self.processing_class.tokenizer.pad_token_id)
        outputs, call = watched_forward(model, plain, both)
        outputs.logits = outputs.logits[:rows]
        return outputs, blank_image.first_rows(call, rows, length)

    def token_weights(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Tensor],
        labels: Tensor,
        call: LanguageModelCall,
        with_image: bool,
    ) -> Tensor:
        """Weights `(B, T)` of the predictions of a batch, from a second pass without the image (Eq. 1 to 4)."""
        args, supervised = self.args, labels[:, 1:] != IGNORED_LABEL
        if with_image:
            # The authors' pooling looks at unsupervised tokens, for which the dropped pass has no states.
            released = args.cal_pooling == "released"
            mode = contrast_mode(model, labels.shape[1], "masked" if released else args.cal_contrast)
            (masked,) = self.anywhere(torch.tensor(mode == "masked", device=labels.device))  # rows differ in length
            mode = "masked" if masked else "dropped"
            delta = label_deltas(model, inputs, labels, call, mode, released, args.loss_chunk)
        else:
            delta = torch.zeros(supervised.shape, device=labels.device)
        return visual_token_weights(delta, supervised, tuple(args.cal_clamp), args.cal_window, args.cal_pooling)

    def anywhere(self, *flags: Tensor) -> list[bool]:
        """Return which flags are set on any process, so that all of them run a pass, or no process does."""
        return (sum_over_processes(torch.stack(flags).float()) > 0).tolist()

    # The normaliser

    def normalised(self, total: Tensor, weight_sum: Tensor, num_items: Tensor | int | None) -> Tensor:
        """Scale the loss so that its gradients, averaged over processes and summed over micro-batches, are exact."""
        if self.rescales_gradients:
            self._weight_sum = self._weight_sum + weight_sum
            return total * world_size() / num_items
        if self.args.cal_normaliser == "step":
            total, weight_sum = total * world_size(), sum_over_processes(weight_sum)
        return total / (weight_sum + EPSILON) / (self.current_gradient_accumulation_steps if self.is_in_train else 1)

    @property
    def rescales_gradients(self) -> bool:
        """Whether the sum of weights is known only after the gradients: with several micro-batches per step."""
        known = self.args.cal_normaliser == "released" or self.is_deepspeed_enabled
        return self.args.gradient_accumulation_steps > 1 and not known

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Divide by the sum of weights of the whole step once the last of its micro-batches has shown its own."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not self.rescales_gradients:
            return loss
        if not self.accelerator.sync_gradients:
            self._returned = self._returned + loss
            return loss
        factor = num_items_in_batch / (sum_over_processes(self._weight_sum) + EPSILON)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
        corrected = factor * (self._returned + loss) - self._returned  # the Trainer adds up what each step returned
        self._weight_sum, self._returned = 0.0, 0.0
        return corrected

    # Parameters

    def create_optimizer(self, *args: Any, **kwargs: Any):
        exists = self.optimizer is not None
        optimizer = super().create_optimizer(*args, **kwargs)
        if exists or self.args.vision_learning_rate is None:
            return optimizer
        tower = {id(parameter) for parameter in self.model.get_encoder("image").parameters()}
        for group in list(optimizer.param_groups):
            inside = [parameter for parameter in group["params"] if id(parameter) in tower]
            if inside:
                group["params"] = [parameter for parameter in group["params"] if id(parameter) not in tower]
                optimizer.add_param_group({**group, "params": inside, "lr": self.args.vision_learning_rate})
        return optimizer


def weighted_cross_entropy(
    model: PreTrainedModel, call: LanguageModelCall, labels: Tensor, weights: Tensor, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """Sum of weight times cross-entropy over the supervised tokens of a batch, and the sum of their weights.

    Args:
        model (`PreTrainedModel`): The unwrapped model.
        call (`LanguageModelCall`): Record of the main pass by `watched_forward`.
        labels (`torch.LongTensor` of shape `(B, L)`): Token ids, -100 where not supervised.
        weights (`torch.Tensor` of shape `(B, L - 1)`): Weights of the predictions.
        chunk (`int`): Tokens whose logits exist at a time.
    """
    supervised = labels[:, 1:] != IGNORED_LABEL
    target, hidden, weights = labels[:, 1:][supervised], call.hidden[:, :-1][supervised], weights[supervised]
    head = model.get_output_embeddings()
    return chunked_cross_entropy_sum(head, hidden, target, weights, chunk, call.finish), weights.sum()


def label_deltas(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    labels: Tensor,
    call: LanguageModelCall,
    mode: Literal["dropped", "masked"],
    everywhere: bool = False,
    chunk: int = 1024,
) -> Tensor:
    """Compute by how much the image raises the logit of each label (Eq. 1 and 2), after the main pass of a batch.

    Args:
        model (`PreTrainedModel`): The unwrapped model.
        inputs (`dict`): The batch of the main pass.
        labels (`torch.LongTensor` of shape `(B, L)`): Token ids, -100 where not supervised.
        call (`LanguageModelCall`): Record of the main pass by `watched_forward`.
        mode (`str`): How the image is taken away, see `states_without_image`.
        everywhere (`bool`): Also at unsupervised positions, with token 0 as label, as the authors' code does.
        chunk (`int`): Number of tokens whose logits are held at a time, where the head is no plain linear layer.

    Returns:
        `torch.Tensor` of shape `(B, L - 1)`, float32; 0 where nothing was compared.
    """
    target = labels[:, 1:]
    asked = torch.ones_like(target).bool() if everywhere else target != IGNORED_LABEL
    asked = nn.functional.pad(asked, (0, 1), value=False)  # the last token predicts nothing
    compared, unseen = states_without_image(model, inputs, call, asked, mode)
    positions = compared[:, :-1]
    delta = torch.zeros(target.shape, dtype=torch.float32, device=target.device)
    delta[positions] = label_gain(
        model.get_output_embeddings(),
        call.hidden[compared],
        unseen,
        target[positions].clamp_min(0),
        chunk,
        call.finish,
    ).float()
    return delta


def freeze_untrained(model: PreTrainedModel, train_parts: Sequence[str]) -> None:
    """Train the named parts only: "vision", "projector", "language" (with embeddings and head).

    The projector is what lies between the image tower and the language model, also where a family keeps it inside the
    tower, as the merger of Qwen2-VL.

    Raises:
        ValueError: If a part is unknown or has no parameters in this model, or none is named.
    """
    if not train_parts or set(train_parts) - set(PARTS):
        raise ValueError(f"train_parts must name some of {', '.join(PARTS)}, got {list(train_parts)}")
    part_of = parts_of(model)
    if empty := set(train_parts) - set(part_of.values()):
        raise ValueError(f"train_parts: {type(model).__name__} has no parameters of its own in {', '.join(empty)}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of[name] in train_parts)


def parts_of(model: PreTrainedModel) -> dict[str, str]:
    """Name the part of `PARTS` that each parameter of an image-text-to-text model belongs to."""
    tower, decoder, head = model.get_encoder("image"), model.get_decoder(), model.get_output_embeddings()
    members = {"vision": tower.parameters(), "language": [*decoder.parameters(), *head.parameters()]}
    inside = {id(parameter): part for part, parameters in members.items() for parameter in parameters}
    return {
        name: "projector" if set(name.split(".")) & set(PROJECTORS) else inside.get(id(parameter), "projector")
        for name, parameter in model.named_parameters()
    }
