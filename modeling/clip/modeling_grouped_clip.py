"""CLIP with one forward for B images and B * (1 + K) captions: what the dual encoders of DeGLA and CE-CLIP share."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import CLIPModel
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_grouped_clip import GroupedCLIPConfig
from .grouped_text import encode_captions


@dataclass
class GroupedCLIPOutput(ModelOutput):
    """Output of [`GroupedCLIPModel`].

    Args:
        loss (`torch.Tensor` of shape `()`): CLIP's contrastive loss, where `return_loss` asks for it.
        logits_per_image (`torch.Tensor` of shape `(B, B * (1 + K))`): Cosines times `logit_scale`.
        logits_per_text (`torch.Tensor` of shape `(B * (1 + K), B)`): Its transpose.
        text_embeds (`torch.Tensor` of shape `(B * (1 + K), D)`): L2-normalised, in the order of `input_ids`.
        image_embeds (`torch.Tensor` of shape `(B, D)`): L2-normalised.
        logit_scale (`torch.Tensor` of shape `()`): Multiplier of the cosines, > 0. Not its logarithm.
    """

    loss: Tensor | None = None
    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None
    logit_scale: Tensor | None = None


class GroupedCLIPModel(CLIPModel):
    """CLIP with CLIP's parameters and another forward.

    The forward differs in two points: captions are never padded to the context length (see `grouped_text.py`), and the
    output carries the logit scale, so that a loss needs nothing but the output. `get_text_features` and
    `get_image_features` are those of CLIP.
    """

    config: GroupedCLIPConfig

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        return_loss: bool | None = None,
    ) -> GroupedCLIPOutput:
        """Embed images and captions.

        Args:
            input_ids (`torch.LongTensor` of shape `(B * (1 + K), T)`): The B captions, then the K negatives of sample
                0, those of sample 1, and so on. As with CLIP, any other number of texts is accepted too.
            pixel_values (`torch.FloatTensor` of shape `(B, channels, height, width)`): Normalised images.
            attention_mask (`torch.Tensor` of shape `(B * (1 + K), T)`, *optional*): 1 for tokens, 0 for padding.
                Superfluous where padding follows the end of a caption.
            position_ids (`torch.LongTensor` of shape `(1, T)` or `(B * (1 + K), T)`, *optional*): Positions other than
                0, 1, 2, ...
            interpolate_pos_encoding (`bool`): Accept images of another size than the configured one.
            return_loss (`bool`, *optional*): Add CLIP's contrastive loss of B images with their B captions.

        Returns:
            [`GroupedCLIPOutput`], or a tuple of its fields with `return_dict=False`.

        Raises:
            ValueError: If `input_ids` or `pixel_values` is missing, or `input_ids` is not two-dimensional; if a loss is
                asked for with another number of texts than of images.
        """
        if input_ids is None or pixel_values is None:
            missing = "input_ids" if input_ids is None else "pixel_values"
            raise ValueError(
                f"forward needs input_ids and pixel_values, got {missing}=None; "
                "encode one side alone with get_text_features or get_image_features"
            )
        # Text first: its lengths have to be waited for, which is cheap only while little work is queued on the device.
        text_features = encode_captions(self, input_ids, attention_mask, position_ids)
        image_features = self.get_image_features(
            pixel_values, interpolate_pos_encoding=interpolate_pos_encoding
        ).pooler_output
        text_embeds = normalize(text_features, dim=-1)  # (B * (1 + K), D)
        image_embeds = normalize(image_features, dim=-1).to(text_embeds.device)  # (B, D)
        logit_scale = self.logit_scale.exp().to(text_embeds.device)
        logits_per_text = text_embeds @ image_embeds.T * logit_scale
        return self.make_output(
            loss=contrastive_loss(logits_per_text) if return_loss else None,
            logits_per_image=logits_per_text.T,
            logits_per_text=logits_per_text,
            text_embeds=text_embeds,
            image_embeds=image_embeds,
            logit_scale=logit_scale,
        )

    def make_output(self, **fields: Tensor | None) -> GroupedCLIPOutput:
        """Wrap the fields of an output; a model with further state adds it here."""
        return GroupedCLIPOutput(**fields)


def contrastive_loss(logits_per_text: Tensor) -> Tensor:
    """CLIP's loss: the mean of the cross-entropies of choosing an image for each text, and a text for each image.

    Args:
        logits_per_text (`torch.Tensor` of shape `(B, B)`): Row i belongs to the caption of image i.

    Raises:
        ValueError: If there are not as many texts as images.
    """
    texts, images = logits_per_text.shape
    if texts != images:
        raise ValueError(
            f"return_loss contrasts each image with its caption, got {texts} texts for {images} images; losses with "
            "negative captions are the trainers'"
        )
    own = torch.arange(texts, device=logits_per_text.device)
    return (cross_entropy(logits_per_text, own) + cross_entropy(logits_per_text.T, own)) / 2
