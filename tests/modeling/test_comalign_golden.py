"""Every ComAlign fixture: positions, head, similarities, the released score and its recalls."""

import json

import golden
import pytest
import torch
from safetensors.torch import load_file

from compalign.evaluation import recall_at_k
from compalign.modeling import ComAlignModel
from compalign.modeling.comalign import component_similarity
from compalign.modeling.comalign.modeling_comalign import position_table
from compalign.modeling.conversion.comalign import UNUSED, to_released, to_transformers

# One query of this case is decided by a difference of 7.5e-6 between scores of about 10.
RECALL_OFF = {("comalign/retrieval_12x5", "text_to_image"): 1 / 60}


def load_head(state_dict, precision="float64"):
    """A model in evaluation mode with the published head; the weights are float32 whatever it runs in."""
    state_dict = {name: tensor.float() for name, tensor in state_dict.items()}
    config, state, _ = to_transformers(state_dict)
    model = ComAlignModel(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["logit_scale"], [])
    return model.eval().to(getattr(torch, precision))


@pytest.mark.parametrize("name", golden.names("comalign_posenc"))
def test_positions_are_those_of_the_released_code(name):
    expected = golden.load(name)["positional_encodings_official"]
    golden.assert_matches(name, "float32", position_table(*expected.shape[1:]), expected)


@pytest.mark.parametrize("precision", golden.PRECISIONS)
def test_head_and_its_gradients_equal_the_released_model(precision):
    name = "comalign/model_h64"
    tensors = golden.load(name, precision)
    model = load_head(golden.load(name, prefix="state_dict."), precision)
    leaves = {key: tensors[key].requires_grad_() for key in ("boxes", "image_global")}
    components, whole = model.image_head(*leaves.values(), torch.ones(3, 20, dtype=torch.bool))
    golden.assert_matches(name, precision, components, tensors["components_official"])
    golden.assert_matches(name, precision, whole, tensors["global_official"])
    value = components.square().sum() + whole.sum()
    golden.assert_gradients_match(name, precision, value, leaves, tensors, "_official")


def test_the_head_at_full_width_equals_the_released_model(shared):
    cases = json.loads((shared / "golden" / "manifest.json").read_text())["cases"]
    case = next(case for case in cases if case["name"] == "comalign/model_h512")
    tensors = load_file(shared / "golden" / case["file"])
    state_dict = {key.removeprefix("state_dict."): tensors[key] for key in tensors if key.startswith("state_dict.")}
    for key, packed in tensors.items():
        if key.startswith("state_dict_nibble."):
            nibbles = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(1)
            state_dict[key.removeprefix("state_dict_nibble.")] = (nibbles.float() - 8) / 128
    head = load_head(state_dict, "float32").image_head
    components, whole = head(tensors["boxes"], tensors["image_global"], torch.ones(2, 20, dtype=torch.bool))
    tolerance = case["tolerance"]["float32"]
    torch.testing.assert_close(components, tensors["components_official"], **tolerance)
    torch.testing.assert_close(whole.double(), tensors["global_official"], **tolerance)


@pytest.mark.parametrize("chunk", [None, 1, 4])
@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize("name", golden.names("comalign_sim"))
def test_similarities_equal_the_released_ones(name, precision, chunk):
    tensors = golden.load(name, precision)
    i2t, t2i = component_similarity(tensors["image_components"], tensors["text_components"], chunk=chunk)
    golden.assert_matches(name, precision, i2t, tensors["sim_image2text_official"])
    golden.assert_matches(name, precision, t2i, tensors["sim_text2image_official"])


@pytest.mark.parametrize("name", golden.names("comalign_retrieval"))
def test_the_released_pipeline_from_embeddings_to_recall(name):
    case, stored = golden.CASES[name], golden.load(name, "float32")
    model = load_head(golden.load(name, prefix="state_dict."), "float32")
    assert (model.config.score, model.config.mask_padding, model.text_head) == ("released", False, None)
    # The stored captions have fewer slots than images; the rest must not count, zero rows within them must.
    model.config.mask_padding = True
    phrases = torch.cat([_pad(stored["text_noun"]), _pad(stored["text_relation"])], dim=2).flatten(0, 1)
    slot, nouns, relations = torch.arange(10), *(stored[key].shape[2] for key in ("text_noun", "text_relation"))
    with torch.no_grad():
        output = model(
            image_components=torch.cat([stored["image_noun_boxes"], stored["image_relation_boxes"]], dim=1),
            image_global=stored["image_global"],
            text_components=phrases,
            text_global=stored["caption_global"].flatten(0, 1),
            text_mask=torch.cat([slot < nouns, slot < relations]).expand(len(phrases), -1),
        )
        image_to_text, text_to_image = model.score(output, chunk=7)

    sides = {"noun": (slice(10), slice(nouns)), "relation": (slice(10, 20), slice(10, 10 + relations))}
    results = {
        "image_encodings_normalized": output.base_image_embeds,
        "image_cls_normalized": output.image_embeds,
        "text_encodings_normalized": output.base_text_embeds,
        "score_image_to_text": image_to_text,
        "score_text_to_image": text_to_image,
    }
    for role, (image_slots, text_slots) in sides.items():
        image, text = output.image_components[:, image_slots], output.text_components[:, text_slots]
        results[f"all_images_{role}_normalized"], results[f"all_texts_{role}_normalized"] = image, text
        both = component_similarity(image, text)
        results[f"sim_{role}_image_2_text"], results[f"sim_{role}_text_2_image"] = both
    compared = [key for key in results if f"{key}_official" in stored]
    assert len(compared) >= 6
    for key in compared:
        golden.assert_matches(name, "float32", results[key], stored[f"{key}_official"])

    owner = stored["text_to_image_map"].tolist()
    found = {
        "text_to_image": recall_at_k(text_to_image.T, owner, case["flags"]["ks"])["text_to_image"],
        "image_to_text": recall_at_k(image_to_text, owner, case["flags"]["ks"])["image_to_text"],
    }
    for direction, recalls in found.items():
        expected = stored[f"recall_{direction}_official"].tolist()
        assert list(recalls.values()) == pytest.approx(expected, abs=RECALL_OFF.get((name, direction), 0) + 1e-9)


def _pad(phrases):
    """Ten slots a role, as in the model: `(images, captions, n, D) -> (images, captions, 10, D)`."""
    return torch.nn.functional.pad(phrases, (0, 0, 0, 10 - phrases.shape[2]))


def test_a_checkpoint_goes_there_and_back_bit_for_bit(shared):
    released = torch.load(shared / "data" / "formats" / "comalign" / "retrieval_model_h64.pt", weights_only=True)
    config, state, kept = to_transformers(released)
    model = ComAlignModel(config)
    model.load_state_dict(state, strict=False)
    again = to_released(model.state_dict(), kept)
    assert set(again) == set(released)
    assert all(torch.equal(again[name], tensor) for name, tensor in released.items())
    assert set(UNUSED) < set(kept)


def released_state_dict():
    return golden.load("comalign/model_h64", "float32", prefix="state_dict.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(extra=torch.zeros(1)), "extra"),
        (lambda s: s.pop("transformer_encoder_box.layers.1.norm2.bias"), "layers.1.layer_norm2.bias"),
        (lambda s: s.pop("bottleneck_box.0.weight"), "bottleneck_box.0.weight"),
        (lambda s: s.pop("encoder_pos_embedding.positional_encodings"), "positional_encodings"),
        (lambda s: s["encoder_pos_embedding.positional_encodings"].mul_(1.01), "not the table"),
        (lambda s: s.update({"bottleneck_box.0.bias": torch.zeros(63)}), "input_projection.bias should be"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(change, message):
    state = released_state_dict()
    change(state)
    with pytest.raises(ValueError, match=message):
        to_transformers(state)


def test_a_text_head_has_no_place_in_the_released_layout():
    config, _, kept = to_transformers(released_state_dict())
    config.text_head = True
    with pytest.raises(ValueError, match="text_head"):
        to_released(ComAlignModel(config).state_dict(), kept)
    with pytest.raises(ValueError, match="bottleneck_encoder"):
        to_released({}, {})
