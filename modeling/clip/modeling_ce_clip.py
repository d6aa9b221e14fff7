"""CE-CLIP's dual encoder: CLIP's weights and the adaptive thresholds of the cross-modal rank."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import initialization

from .configuration_ce_clip import CECLIPConfig
from .modeling_grouped_clip import GroupedCLIPModel, GroupedCLIPOutput


@dataclass
class CECLIPOutput(GroupedCLIPOutput):
    """Output of [`CECLIPModel`]: the fields of [`GroupedCLIPOutput`] and the thresholds.

    Args:
        rank_threshold (`torch.Tensor` of shape `(num_negatives,)`): The model's buffer itself, not a copy.
    """

    rank_threshold: Tensor | None = None


class CECLIPModel(GroupedCLIPModel):
    """CLIP and one buffer, `rank_threshold`: by how much a caption has to beat each kind of negative.

    The thresholds are training state. They start at 0, the trainer moves them, and they are saved with the weights so
    that a resumed run continues where it stopped. A CLIP checkpoint, which has none, loads with thresholds of 0; plain
    CLIP reads the checkpoint of this model and reports `rank_threshold` as unexpected.

    Reference:
        CE-CLIP, https://huggingface.co/papers/2306.08832 (cross-modal rank).
    """

    config: CECLIPConfig
    _keys_to_ignore_on_load_missing = ("rank_threshold",)

    def __init__(self, config: CECLIPConfig):
        super().__init__(config)
        self.rank_threshold = nn.Buffer(torch.zeros(config.num_negatives))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Also fill the thresholds that a checkpoint lacks; while CLIP's constructor runs, there are none yet."""
        super()._init_weights(module)
        if module is self:
            for buffer in module.buffers(recurse=False):
                initialization.zeros_(buffer)

    def make_output(self, **fields: Tensor | None) -> CECLIPOutput:
        """Add the thresholds to the fields of an output."""
        return CECLIPOutput(**fields, rank_threshold=self.rank_threshold)
