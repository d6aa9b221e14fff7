"""CE-CLIP's dual encoder: the weights of CLIP and the adaptive thresholds of the cross-modal rank."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import CLIPModel, initialization
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_ce_clip import CECLIPConfig
from .grouped_text import encode_pairs


@dataclass
class CECLIPOutput(ModelOutput):
    """Output of [`CECLIPModel`].

    Args:
        logits_per_image (`torch.Tensor` of shape `(B, B * (1 + K))`): Cosines times `logit_scale`.
        logits_per_text (`torch.Tensor` of shape `(B * (1 + K), B)`): Its transpose.
        text_embeds (`torch.Tensor` of shape `(B * (1 + K), D)`): L2-normalised, in the order of `input_ids`.
        image_embeds (`torch.Tensor` of shape `(B, D)`): L2-normalised.
        logit_scale (`torch.Tensor` of shape `()`): Multiplier of the cosines, > 0. Not its logarithm.
        rank_threshold (`torch.Tensor` of shape `(num_negatives,)`): The model's buffer itself, not a copy.
    """

    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None
    logit_scale: Tensor | None = None
    rank_threshold: Tensor | None = None


class CECLIPModel(CLIPModel):
    """CLIP with one buffer more: `rank_threshold`, by how much a caption has to beat each kind of negative.

    The thresholds are state of the training, 0 at its start and moved by the trainer; they are saved with the weights,
    so that a resumed run goes on where it was. A CLIP checkpoint loads with that key missing, and plain CLIP reads the
    checkpoint of this model with that key unexpected. Captions are never padded to the context length (see
    `grouped_text.py`); `get_text_features` and `get_image_features` are those of CLIP.

    Reference:
        CE-CLIP, https://huggingface.co/papers/2306.08832 (cross-modal rank).
    """

    config: CECLIPConfig

    def __init__(self, config: CECLIPConfig):
        super().__init__(config)
        self.rank_threshold = nn.Buffer(torch.zeros(config.num_negatives))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Also fill the thresholds where a checkpoint has none; the loop is empty while CLIP's constructor runs."""
        super()._init_weights(module)
        if module is self:
            for buffer in module.buffers(recurse=False):
                initialization.zeros_(buffer)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> CECLIPOutput:
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
            [`CECLIPOutput`], or a tuple of its fields with `return_dict=False`.

        Raises:
            ValueError: If `input_ids` or `pixel_values` is missing, or `input_ids` is not two-dimensional.
        """
        return CECLIPOutput(
            **encode_pairs(self, input_ids, pixel_values, attention_mask, position_ids, interpolate_pos_encoding),
            rank_threshold=self.rank_threshold,
        )
