"""A blank image for a process whose rows have none while others' rows have: all then run the same modules in one order.

Processes that share a model gather its weights and reduce its gradients module by module, all of them at once. Rows of
text alone would leave out the image tower; beside a row with a blank image they do not. Nothing is learned from that
row: its states are cut off before the loss, so every gradient through it is zero.

Under ZeRO-3 a batch of text runs beside it even if no process has an image: DeepSpeed keeps the gradients of the step
before for whatever gets none, and would take its next step with them.
"""

from collections.abc import Callable
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from ..data.chat.encoder import TRUNCATED
from ..data.readers.conversation_formats import image_part, text_part
from .cal_contrast import LanguageModelCall

SIDE = 64  # pixels; more than the patch of any image tower


def blank_conversation() -> dict[str, Any]:
    """A question about a white image, and its answer. Some models take an image of zeros, as black may be, for none."""
    question, answer = [image_part(), text_part("What is it?")], [text_part("It is white.")]
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"images": [Image.new("RGB", (SIDE, SIDE), "white")], "messages": messages}


def model_inputs(encode: Callable[[dict], dict], collate: Callable[[list], dict]) -> dict[str, Tensor]:
    """The batch of the blank conversation alone, without labels.

    Args:
        encode (`Callable`): Turns a conversation into tensors, such as a `ConversationEncoder`.
        collate (`Callable`): Makes a batch of such rows, such as a `ConversationCollator`.
    """
    row = encode(blank_conversation())
    del row[TRUNCATED]
    batch = collate([{**row, "row": 0, "epoch": 0}])
    return {name: value for name, value in batch.items() if name not in ("labels", "row")}


def first_rows(call: LanguageModelCall, rows: int, length: int) -> LanguageModelCall:
    """Cut what was recorded of a language model down to the first rows and tokens of its batch."""
    positions = None if call.positions is None else call.positions[..., :rows, :length]
    cut = LanguageModelCall(positions, call.finish)
    cut.embeddings, cut.hidden = call.embeddings[:rows, :length], call.hidden[:rows, :length]
    return cut


def check_mixture(model: PreTrainedModel) -> None:
    """Refuse rows of text alone in one step with rows that have an image, where that changes the text's states.

    Raises:
        ValueError: If the model's cross-attention runs for all rows of a batch or for none.
    """
    if getattr(model.config.get_text_config(), "cross_attention_layers", None):
        raise ValueError(
            f"{type(model).__name__} runs its cross-attention for all rows of a batch or for none, so rows of text "
            "alone cannot share a step with rows that have an image, nor have one of their own under ZeRO-3: pass "
            "--group_by_modality without ZeRO-3, or leave out one kind of row"
        )
