"""ComAlign: light heads over a frozen dual encoder learn to match entities with entities, relations with relations."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel, ProcessorMixin

from ..data.features.encode import store_images, store_texts
from ..data.features.slots import EMPTY, ComponentSlots, read_slots
from ..data.features.store import Features
from ..modeling import ComAlignModel
from ..modeling.comalign import ComAlignOutput
from .distributed import gather_rows
from .dual_encoder import ContrastiveArguments, DualEncoderTrainer, split_captions
from .losses import similarity_contrast
from .streaming import is_stream
from .trainer import sample_seed

IMAGE_INPUTS = ("image_components", "image_global", "image_mask")
TEXT_INPUTS = ("text_components", "text_global", "text_mask")


@dataclass
class ComAlignArguments(ContrastiveArguments):
    """Our recipe for ComAlign's heads, since the paper's is not public.

    The fields below differ from `ContrastiveArguments` or are new. Features are cached, so no image is cropped.
    """

    learning_rate: float = field(
        default=5e-4, metadata={"help": "Peak learning rate; new heads take far more than a fine-tuning rate."}
    )
    num_train_epochs: float = field(default=10.0, metadata={"help": "Passes over the features."})
    num_negatives: int = field(default=0, metadata={"help": "Hard negatives per row, K >= 0."})
    entity_weight: float = field(default=1.0, metadata={"help": "Weight of the contrast of entities; 0: off."})
    relation_weight: float = field(default=1.0, metadata={"help": "Weight of the contrast of relations; 0: off."})
    global_weight: float = field(default=1.0, metadata={"help": "Weight of the contrast of global embeddings; 0: off."})
    chunk: int | None = field(
        default=None,
        metadata={"help": "Number of images and of captions compared at a time; by default as many as fit in 64 MiB."},
    )


class ComAlignTrainer(DualEncoderTrainer):
    """Trains the heads of a `ComAlignModel` on cached features of its frozen encoder.

    Args:
        model (`ComAlignModel`): The heads.
        args (`ComAlignArguments`): The recipe.
        train_dataset, eval_dataset (`ComponentFeatureRows`): Images and captions, as places in stores of features.
        data_collator (`Callable`, *optional*): Default: a `ComponentCollator` on the stores of `train_dataset`.
        kwargs: As for `transformers.Trainer`.

    Raises:
        ValueError: If neither `train_dataset` nor `data_collator` is given, or a dataset is a stream.

    Reference:
        ComAlign, https://huggingface.co/papers/2409.08206, for the similarities. The objective is ours.
    """

    def __init__(
        self,
        model: ComAlignModel,
        args: ComAlignArguments,
        train_dataset: "ComponentFeatureRows | None" = None,
        data_collator: Callable | None = None,
        **kwargs: Any,
    ):
        if is_stream(train_dataset) or is_stream(kwargs.get("eval_dataset")):
            raise ValueError(
                "ComAlign trains on stored features: read the stream once with ComponentFeatureRows(stream, ...), "
                "which encodes its images and captions, and give that as the dataset"
            )
        if data_collator is None:
            if train_dataset is None:
                raise ValueError(
                    "ComAlignTrainer reads features from the stores of its rows: give train_dataset, or a "
                    "data_collator such as ComponentCollator(image_features, text_features)"
                )
            stores = train_dataset.image_features, train_dataset.text_features
            data_collator = ComponentCollator(*stores, args.num_negatives, sample_seed(args))
        super().__init__(model, args, train_dataset=train_dataset, data_collator=data_collator, **kwargs)

    def evaluation_collator(self, rows: Any) -> Callable:
        """Read the features of these rows from their own stores."""
        features = getattr(rows, "rows", None)
        if isinstance(features, ComponentFeatureRows) and isinstance(self.data_collator, ComponentCollator):
            return replace(
                self.data_collator,
                image_features=features.image_features,
                text_features=features.text_features,
            )
        return self.data_collator

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
        loss = self.sum_terms(terms, inputs["row"])
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


# Rows and batches of frozen features


class ComponentFeatureRows(Dataset):
    """Images with their captions, as places in two feature stores.

    Every distinct image, region, caption and phrase is encoded once, or not at all where a store knows it. An item has
    `image_slots` (`numpy.ndarray` of shape `(1 + P,)`), `caption_slots` (a list of such arrays, `(1 + Q,)` each) and
    `negative_slots` (likewise): the place of the whole, then those of its entities, then those of its relations; -1
    where there are fewer.

    Args:
        rows (iterable of `dict`): With `image`, `entities`, `relations`, `captions` and optionally `negative_captions`,
            as from `load_components` or `SceneComponentDataset`; at least one caption each.
        backbone (`PreTrainedModel`): The frozen dual encoder.
        processor (`ProcessorMixin`): Its processor.
        image_features, text_features (`Features`): Stores to read from and to add to, of this encoder.
        entities, relations (`int`): Slots of each; components beyond them are left out.
        options: `batch_size`, `progress`, as for `store_images`.

    Raises:
        ValueError: If there is no row, or one has no caption.
    """

    def __init__(
        self,
        rows: Iterable[dict[str, Any]],
        backbone: PreTrainedModel,
        processor: ProcessorMixin,
        image_features: Features,
        text_features: Features,
        entities: int = 10,
        relations: int = 10,
        **options: Any,
    ):
        self.image_features, self.text_features = image_features, text_features
        images, texts = ComponentSlots(entities, relations), ComponentSlots(entities, relations)
        self._captions: list[tuple[range, range]] = []  # of each row: its captions and its negatives among the texts
        for number, row in enumerate(rows):
            if not row["captions"]:
                raise ValueError(f"row {number} ({row.get('image_id', 'no name')}) has no caption")
            images.add_image(row["image"], row["entities"], row["relations"])
            captions = texts.add_captions(row["captions"])
            self._captions.append((captions, texts.add_captions(row.get("negative_captions") or ())))
        if not self._captions:
            raise ValueError("there is no row to encode")
        image_keys = store_images(backbone, processor, images.parts, image_features, **options).keys
        text_keys = store_texts(backbone, processor, texts.parts, text_features, **options).keys
        self._images = images.places(image_features.rows(image_keys))
        self._texts = texts.places(text_features.rows(text_keys))

    def __len__(self) -> int:
        return len(self._captions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        captions, negatives = self._captions[index]
        return {
            "image_slots": self._images[index],
            "caption_slots": [self._texts[place] for place in captions],
            "negative_slots": [self._texts[place] for place in negatives],
        }


@dataclass
class ComponentCollator:
    """Reads the features of a batch from the stores; which caption of several is drawn is a function of the epoch.

    With B rows, K negatives, P and Q component slots and embedding width D:

    ```
    image_components (B, P, D)        zero where empty
    image_global     (B, D)
    image_mask       (B, P)           1 where the slot holds a component
    image_exists     (B,)             1
    text_components  (B*(1+K), Q, D)  the captions first, then the negatives of row 0, of row 1, ...
    text_global      (B*(1+K), D)
    text_mask        (B*(1+K), Q)
    text_exists      (B*(1+K),)       0 for a negative that its row lacks
    row              (B,)             where each sample stands in the dataset
    ```

    Args:
        image_features, text_features (`Features`): The stores that the rows point into.
        num_negatives (`int`): K. A row with fewer is filled with slots that do not exist.
        seed (`int`): Root of the choice of captions.
    """

    image_features: Features
    text_features: Features
    num_negatives: int = 0
    seed: int = 0

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        draws = [random.Random(f"caption/{self.seed}/{row['epoch']}/{row['row']}") for row in rows]
        captions = [draw.choice(row["caption_slots"]) for draw, row in zip(draws, rows, strict=True)]
        nothing = np.full_like(captions[0], EMPTY)
        negatives = [
            slots
            for row in rows
            for slots in (*row["negative_slots"], *[nothing] * self.num_negatives)[: self.num_negatives]
        ]
        return {
            **_inputs(self.image_features, np.stack([row["image_slots"] for row in rows]), "image"),
            **_inputs(self.text_features, np.stack([*captions, *negatives]), "text"),
            "row": torch.tensor([row["row"] for row in rows]),
        }


def _inputs(features: Features, slots: np.ndarray, side: str) -> dict[str, Tensor]:
    """The model's inputs of one side."""
    found = read_slots(features, slots)
    names = {"global": found.whole, "components": found.components, "mask": found.mask, "exists": found.exists}
    return {f"{side}_{name}": value for name, value in names.items()}
