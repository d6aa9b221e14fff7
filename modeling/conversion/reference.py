"""Comparing a converted model with outputs of the original model."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPModel, PreTrainedModel

from ..comalign import ComAlignModel

IMAGE_PLACE = -200  # LLaVA's mark in the token ids for the place of an image's features


@torch.no_grad()
def clip_differences(model: CLIPModel, reference: Mapping[str, Tensor]) -> dict[str, float]:
    """Largest difference from each reference output of a dual encoder.

    Args:
        model (`CLIPModel`): In evaluation mode.
        reference (mapping of `str` to `torch.Tensor`): Inputs `images` (preprocessed) and `text` (token ids), each
            needed for the outputs of its side: `image_features` and `text_features`, taken after the projection, or
            `image_embeds` and `text_embeds`, L2-normalised.

    Returns:
        `dict[str, float]`: largest absolute difference per output.

    Raises:
        ValueError: If there is no output to compare, or its input is missing.
    """
    sides = {"images": (model.get_image_features, "image"), "text": (model.get_text_features, "text")}
    differences = {}
    for given, (encode, side) in sides.items():
        wanted = {name: reference[name] for name in (f"{side}_features", f"{side}_embeds") if name in reference}
        if not wanted:
            continue
        features = encode(_input(reference, given)).pooler_output
        answers = {f"{side}_features": features, f"{side}_embeds": normalize(features, dim=-1)}
        differences |= {name: _largest(answers[name], expected) for name, expected in wanted.items()}
    return _any(differences, "image_features, text_features, image_embeds or text_embeds", reference)


@torch.no_grad()
def llava_differences(model: PreTrainedModel, reference: Mapping[str, Tensor]) -> dict[str, float]:
    """Largest difference from reference logits of LLaVA.

    Args:
        model: LLaVA or LLaVA-NeXT, in evaluation mode.
        reference (mapping of `str` to `torch.Tensor`): Inputs `text` `(B, T)`, with -200 in place of the row's only
            image or with one image token per feature, `images`, and `image_sizes` for LLaVA-NeXT; output `logits`
            `(B, L, V)`, with one position per token or feature. Tokens that the conversion added are not compared.

    Returns:
        `dict[str, float]`: largest absolute difference of the logits.

    Raises:
        ValueError: If an input or the output is missing.
    """
    text = _input(reference, "text")
    _any({name: 0.0 for name in ("logits",) if name in reference}, "logits", reference)
    logits = reference["logits"]
    ids = expand_image_places(text, logits.shape[1] - text.shape[1] + 1, model.config.image_token_index)
    images = {"pixel_values": reference.get("images"), "image_sizes": reference.get("image_sizes")}
    answer = model(input_ids=ids, **{name: value for name, value in images.items() if value is not None}).logits
    return {"logits": _largest(answer[..., : logits.shape[-1]], logits)}


@torch.no_grad()
def comalign_differences(model: ComAlignModel, reference: Mapping[str, Tensor]) -> dict[str, float]:
    """Largest difference from reference outputs of ComAlign's image head.

    Args:
        model ([`ComAlignModel`]): In evaluation mode.
        reference (mapping of `str` to `torch.Tensor`): Inputs `image_components` `(B, P, D)` and `image_global`
            `(B, D)`, with every slot visible; outputs `components` and `global` of the same shapes, not normalised.

    Returns:
        `dict[str, float]`: largest absolute difference per output.

    Raises:
        ValueError: If there is no output to compare, or an input is missing.
    """
    inputs = [_input(reference, name) for name in ("image_components", "image_global")]
    components, whole = model.image_head(*inputs, torch.ones(inputs[0].shape[:2], dtype=torch.bool))
    answers = {"components": components, "global": whole}
    differences = {name: _largest(answers[name], reference[name]) for name in answers if name in reference}
    return _any(differences, "components or global", reference)


def expand_image_places(text: Tensor, features: int, image_token: int) -> Tensor:
    """Put one image token per feature where the original code marks an image.

    Args:
        text (`torch.LongTensor` of shape `(B, T)`): Token ids, with -200 once per row or nowhere.
        features (`int`): Features per image.
        image_token (`int`): Id of the image token.

    Returns:
        `torch.LongTensor` of shape `(B, T - 1 + features)`, or `text` where nothing is marked.
    """
    marked = text == IMAGE_PLACE
    if not marked.any():
        return text
    times = torch.where(marked, features, 1).flatten()
    return text.masked_fill(marked, image_token).flatten().repeat_interleave(times).unflatten(0, (text.shape[0], -1))


def _largest(answer: Tensor, expected: Tensor) -> float:
    """Largest absolute difference of two tensors of one shape."""
    if answer.shape != expected.shape:
        raise ValueError(f"the reference has shape {tuple(expected.shape)}, the model's output {tuple(answer.shape)}")
    return (answer.double() - expected.double()).abs().max().item()


def _input(reference: Mapping[str, Tensor], name: str) -> Tensor:
    """An input of the reference, which must be there."""
    if name not in reference:
        raise ValueError(f"the reference has no input {name!r}; it has {', '.join(reference)}")
    return reference[name]


def _any(differences: dict[str, float], accepted: str, reference: Mapping[str, Tensor]) -> dict[str, float]:
    """The differences; there must be at least one."""
    if not differences:
        raise ValueError(f"the reference has no output; accepted: {accepted}; it has {', '.join(reference)}")
    return differences
