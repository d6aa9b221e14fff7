"""ComAlign: light heads over a frozen dual encoder learn to match entities with entities, relations with relations."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..modeling import ComAlignModel
from ..modeling.comalign import ComAlignOutput
from .base import AlignmentArguments, AlignmentTrainer
from .collators import split_captions
from .component_features import ComponentCollator, ComponentFeatureRows
from .distributed import gather_rows
from .losses import similarity_contrast

IMAGE_INPUTS = ("image_components", "image_global", "image_mask")
TEXT_INPUTS = ("text_components", "text_global", "text_mask")


@dataclass
class ComAlignArguments(AlignmentArguments):
    """A recipe for ComAlign's heads, ours, since the paper's is not public; what it changes stands here.

    Hard negatives follow the caption that an epoch draws: `negative_choice` does not apply, and no image is cropped,
    because features are cached.
    """

    learning_rate: float = field(default=5e-4, metadata={"help": "The heads are new: far above a fine-tuning rate."})
    num_train_epochs: float = field(default=10.0, metadata={"help": "Passes over the features."})
    num_negatives: int = field(default=0, metadata={"help": "Hard negative captions a row, K >= 0."})
    crop_scale: list[float] | None = field(default=None, metadata={"help": "None: features are cached."})
    entity_weight: float = field(default=1.0, metadata={"help": "Weight of the contrast of entities; 0: off."})
    relation_weight: float = field(default=1.0, metadata={"help": "Weight of the contrast of relations; 0: off."})
    global_weight: float = field(default=1.0, metadata={"help": "Weight of the contrast of global embeddings; 0: off."})
    chunk: int | None = field(
        default=None, metadata={"help": "Images, and captions, compared at a time; default: what fits in 64 MiB."}
    )


class ComAlignTrainer(AlignmentTrainer):
    """Trains the heads of a `ComAlignModel` on cached features of its frozen encoder.

    Args:
        model (`ComAlignModel`): The heads.
        args (`ComAlignArguments`): The recipe.
        train_dataset, eval_dataset (`ComponentFeatureRows`): Images and captions, as places in stores of features.
        data_collator (`Callable`, *optional*): Default: a `ComponentCollator` on the stores of `train_dataset`.
        kwargs: As for `transformers.Trainer`.

    Reference:
        ComAlign, https://huggingface.co/papers/2409.08206, for the similarities. The objective is ours.
    """

    def __init__(
        self,
        model: ComAlignModel,
        args: ComAlignArguments,
        train_dataset: ComponentFeatureRows | None = None,
        data_collator: Callable | None = None,
        **kwargs: Any,
    ):
        if data_collator is None:
            stores = train_dataset.image_features, train_dataset.text_features
            data_collator = ComponentCollator(*stores, args.num_negatives, args.seed)
        super().__init__(model, args, train_dataset=train_dataset, data_collator=data_collator, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Weighted sum of a contrast over entities, one over relations, and one over global embeddings."""
        args = self.args
        outputs, batch, exists = self.embed_components(model, inputs)
        entities, relations = self.accelerator.unwrap_model(model).role_similarities(batch, args.chunk)
        scale = batch.logit_scale

        def global_contrast():
            cosine = batch.image_embeds @ batch.text_embeds.T
            return similarity_contrast(cosine, cosine.T, scale, exists.expand_as(cosine))

        terms = {
            "entity": (args.entity_weight, lambda: similarity_contrast(*entities[:2], scale, entities.defined)),
            "relation": (args.relation_weight, lambda: similarity_contrast(*relations[:2], scale, relations.defined)),
            "global": (args.global_weight, global_contrast),
        }
        loss = self.weighted_sum(terms, inputs["row"])
        return (loss, outputs) if return_outputs else loss

    def embed_components(
        self, model: nn.Module, inputs: dict[str, Tensor]
    ) -> tuple[ComAlignOutput, ComAlignOutput, Tensor]:
        """Run the heads and gather the rows of all processes, with gradient.

        Returns:
            The own output; that of the global batch of B images and B + B*K captions, the captions first; and which of
            these captions exist, `(B + B*K,)`.
        """
        outputs = model(**{key: inputs[key] for key in IMAGE_INPUTS + TEXT_INPUTS})
        images = (outputs.image_components, outputs.image_embeds, outputs.image_mask)
        texts = (outputs.text_components, outputs.text_embeds, outputs.text_mask)
        exists = inputs["text_exists"]
        rows = len(outputs.image_embeds)
        captions, negatives = zip(*(split_captions(value.float(), rows) for value in (*texts, exists)), strict=True)
        gathered = gather_rows(*(value.float() for value in images), *captions, *negatives)
        whole, captions, negatives = gathered[:3], gathered[3:7], gathered[7:]
        joined = [torch.cat([own, other.flatten(0, 1)]) for own, other in zip(captions, negatives, strict=True)]
        batch = ComAlignOutput(
            image_components=whole[0],
            image_embeds=whole[1],
            image_mask=whole[2].bool(),
            text_components=joined[0],
            text_embeds=joined[1],
            text_mask=joined[2].bool(),
            logit_scale=outputs.logit_scale,
        )
        return outputs, batch, joined[3].bool()
