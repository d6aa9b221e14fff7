"""DeGLA's dual encoder: the weights of CLIP, answering B images and their B * (1 + K) captions in one forward."""

from dataclasses import dataclass

from torch import Tensor
from transformers import CLIPModel
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_degla_clip import DeGLACLIPConfig
from .grouped_text import encode_pairs


@dataclass
class DeGLACLIPOutput(ModelOutput):
    """Output of [`DeGLACLIPModel`].

    Args:
        logits_per_image (`torch.Tensor` of shape `(B, B * (1 + K))`): Cosines times `logit_scale`.
        logits_per_text (`torch.Tensor` of shape `(B * (1 + K), B)`): Its transpose.
        text_embeds (`torch.Tensor` of shape `(B * (1 + K), D)`): L2-normalised, in the order of `input_ids`.
        image_embeds (`torch.Tensor` of shape `(B, D)`): L2-normalised.
        logit_scale (`torch.Tensor` of shape `()`): Multiplier of the cosines, > 0. Not its logarithm.
    """

    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None
    logit_scale: Tensor | None = None


class DeGLACLIPModel(CLIPModel):
    """CLIP with the parameters of CLIP and nothing else, so that checkpoints go both ways unchanged.

    Its forward differs in two points: captions are never padded to the context length (see `grouped_text.py`), and the
    output carries the logit scale, so that a loss needs nothing but the output. `get_text_features` and
    `get_image_features` are those of CLIP.

    Reference:
        DeGLA, https://huggingface.co/papers/2504.16801.
    """

    config: DeGLACLIPConfig

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> DeGLACLIPOutput:
        """Embed images and captions.

        Args:
            input_ids (`torch.LongTensor` of shape `(B * (1 + K), T)`): The B captions, then the K negatives of sample
                0, those of sample 1, and so on. Any other number of texts is taken too, as by CLIP.
            pixel_values (`torch.FloatTensor` of shape `(B, channels, height, width)`): Normalised images.
            attention_mask (`torch.Tensor` of shape `(B * (1 + K), T)`, *optional*): 1 for tokens, 0 for padding.
                Superfluous where padding follows the end of a caption.
            position_ids (`torch.LongTensor` of shape `(1, T)` or `(B * (1 + K), T)`, *optional*): Positions other than
                0, 1, 2, ...
            interpolate_pos_encoding (`bool`): Accept images of another size than the configured one.

        Returns:
            [`DeGLACLIPOutput`], or a tuple of its fields with `return_dict=False`.

        Raises:
            ValueError: If `input_ids` or `pixel_values` is missing, or `input_ids` is not two-dimensional.
        """
        return DeGLACLIPOutput(
            **encode_pairs(self, input_ids, pixel_values, attention_mask, position_ids, interpolate_pos_encoding)
        )
