"""CLIP in open_clip's layout and in transformers': the same bits, the same sizes, the same features."""

import pytest
import torch
from official_checkpoints import CLIP_SIZES, open_clip_shapes
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import CLIPConfig, CLIPModel

from compalign.modeling import CECLIPConfig, CECLIPModel
from compalign.modeling.conversion import check_complete, make_tensors, open_checkpoint
from compalign.modeling.conversion.open_clip import (
    clip_config,
    heads_of_width,
    plan_from_open_clip,
    plan_to_open_clip,
    plan_within_transformers,
    resize_positions,
    resized_positions,
    wrapper_prefix,
)


@pytest.fixture(scope="module")
def fixtures(shared):
    """Tiny checkpoints with what the original code answered."""
    return shared / "data" / "formats" / "clip"


@pytest.fixture(scope="module")
def released(fixtures):
    """The checkpoint as DeGLA's and CE-CLIP's training code saves it."""
    source = open_checkpoint(fixtures / "epoch_5.pt")
    return source.read(source.places)


@pytest.fixture(scope="module")
def reference(fixtures):
    """Inputs and the original's features, float64."""
    return load_file(fixtures / "reference.safetensors")


def build(weights, hidden_act, model_class=CLIPModel, **fields):
    """A model with these weights, in float64."""
    config = model_class.config_class(**clip_config(weights, hidden_act, vision_heads=4, text_heads=4), **fields)
    model = model_class(config).double().eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["rank_threshold"] if fields else [], [])
    return model


def test_the_table_gives_transformers_own_layout(released, fixtures):
    ours = make_tensors(plan_from_open_clip(released), released)
    expected = load_file(fixtures / "hf_layout.safetensors")
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in expected.items())


def test_the_way_back_is_exact_in_names_shapes_dtypes_and_bits(released):
    ours = make_tensors(plan_from_open_clip(released), released)
    back = make_tensors(plan_to_open_clip(ours, wrapper_prefix(released)), ours)
    assert back.keys() == released.keys()
    for name, tensor in released.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor), name


@pytest.mark.parametrize(("hidden_act", "key"), [("quick_gelu", "quickgelu"), ("gelu", "gelu")])
@torch.no_grad()
def test_features_are_those_of_the_original(released, reference, hidden_act, key):
    model = build(make_tensors(plan_from_open_clip(released), released), hidden_act)
    image = model.get_image_features(reference["images"].double()).pooler_output
    text = model.get_text_features(reference["text"]).pooler_output
    assert_close(image, reference[f"{key}.image_features"], rtol=1e-8, atol=1e-9)
    assert_close(text, reference[f"{key}.text_features"], rtol=1e-8, atol=1e-9)


@torch.no_grad()
def test_our_models_answer_the_original_scaled_cosines(released, reference):
    model = build(make_tensors(plan_from_open_clip(released), released), "quick_gelu", CECLIPModel, num_negatives=2)
    answer = model(reference["text"], reference["images"].double())
    assert_close(answer.logits_per_image, reference["quickgelu.logits_per_image"], rtol=1e-8, atol=1e-7)


@torch.no_grad()
def test_texts_are_read_at_their_largest_id_whatever_the_vocabulary(released):
    """As the original does; the last id of the vocabulary need not end a text, nor occur in it at all."""
    model = build(make_tensors(plan_from_open_clip(released), released), "gelu")
    ids = torch.tensor([[5, 9, 300, 7, 7], [5, 511, 2, 8, 0]])
    read_at = model.text_model(ids)
    expected = read_at.last_hidden_state[torch.arange(2), ids.argmax(dim=-1)]
    assert_close(read_at.pooler_output, expected, rtol=0, atol=0)


@torch.no_grad()
def test_position_embeddings_are_resized_as_in_the_original(released, reference):
    plan = plan_from_open_clip(released)
    plan = resize_positions(plan, make_tensors(plan, released), 48)
    weights = make_tensors(plan, released)
    table = weights["vision_model.embeddings.position_embedding.weight"]
    assert_close(table, reference["resized48.positional_embedding"], rtol=1e-6, atol=1e-6)
    model = build(weights, "quick_gelu")
    assert model.config.vision_config.image_size == 48
    image = model.get_image_features(reference["images48"].double()).pooler_output
    assert_close(image, reference["resized48.image_features"], rtol=1e-6, atol=1e-6)


def test_an_image_size_must_be_a_multiple_of_the_patch_size(released):
    plan = plan_from_open_clip(released)
    with pytest.raises(ValueError, match="image_size must be a multiple of the patch size 8, got 50"):
        resize_positions(plan, make_tensors(plan, released), 50)


def test_resizing_keeps_the_class_token_a_constant_and_the_dtype():
    table = torch.cat([torch.full((1, 4), 7.0), torch.full((9, 4), 3.0)]).half()
    larger = resized_positions(table, 5)
    assert (larger.shape, larger.dtype) == ((26, 4), torch.float16)
    assert torch.equal(larger[0], table[0])
    assert_close(larger[1:], torch.full((25, 4), 3.0).half())
    assert resized_positions(table, 3) is table
    with pytest.raises(ValueError, match="8 image positions form no square grid"):
        resized_positions(table[:-1], 5)


@pytest.mark.parametrize("size", CLIP_SIZES)
def test_every_size_is_told_by_its_shapes_and_fills_its_model(size):
    shapes = open_clip_shapes(size)
    ours = make_tensors(plan_from_open_clip(shapes), shapes)
    config = CLIPConfig(**clip_config(ours, "quick_gelu"))
    width, layers, patch, side, text_width, text_layers, embedding, vocabulary = CLIP_SIZES[size]
    vision, text = config.vision_config, config.text_config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.patch_size) == (width, layers, patch)
    assert (vision.image_size, vision.num_attention_heads) == (side, 16 if width > 1024 else width // 64)
    assert (text.hidden_size, text.num_hidden_layers, text.num_attention_heads) == (
        text_width,
        text_layers,
        text_width // 64,
    )
    assert (config.projection_dim, text.vocab_size, text.max_position_embeddings) == (embedding, vocabulary, 77)
    with torch.device("meta"):
        check_complete(ours, CLIPModel(config).state_dict())
    back = make_tensors(plan_to_open_clip(ours, "module."), ours)
    assert {name: tensor.shape for name, tensor in back.items()} == {name: t.shape for name, t in shapes.items()}


def test_heads_that_no_rule_tells_are_asked_for():
    assert heads_of_width(768, None, {}, "text_heads") == 12
    assert heads_of_width(48, 4, {}, "vision_heads") == 4
    with pytest.raises(ValueError, match="the width 48 is no multiple of 64: give vision_heads"):
        heads_of_width(48, None, {}, "vision_heads")
    with pytest.raises(ValueError, match="vision_heads=5 does not divide the width 48"):
        heads_of_width(48, 5, {}, "vision_heads")


def test_a_convolutional_image_tower_is_refused_with_the_reason():
    names = ["module.visual.conv1.weight", "module.visual.layer1.0.conv1.weight", "module.visual.attnpool.k_proj.bias"]
    with pytest.raises(ValueError, match=r"ModifiedResNet \(RN50 .* its image tower is a vision transformer"):
        plan_from_open_clip(names)


def test_names_that_zero_doubles_are_read_as_the_proper_ones(released):
    ours = make_tensors(plan_from_open_clip(released), released)
    doubled = {
        f"{tower}.{name}" if (tower := name.partition(".")[0]) in ("text_model", "vision_model") else name: tensor
        for name, tensor in ours.items()
    }
    assert "text_model.text_model.final_layer_norm.bias" in doubled
    assert make_tensors(plan_within_transformers(doubled), doubled).keys() == ours.keys()
    back = make_tensors(plan_to_open_clip(doubled, "module."), doubled)
    assert all(torch.equal(back[name], tensor) for name, tensor in released.items())


def test_compiled_and_distributed_wrappers_leave_one_prefix():
    assert wrapper_prefix(["_orig_mod.module.logit_scale", "_orig_mod.module.visual.proj"]) == "_orig_mod.module."
    assert wrapper_prefix(["logit_scale"]) == ""
    assert plan_from_open_clip(["_orig_mod.module.logit_scale"])["logit_scale"].sources == (
        "_orig_mod.module.logit_scale",
    )
    with pytest.raises(ValueError, match=r"different prefixes: '', 'module\.'"):
        wrapper_prefix(["logit_scale", "module.visual.proj"])


def test_thresholds_have_no_place_in_a_released_file():
    config = CECLIPConfig(
        text_config={"num_hidden_layers": 1, "vocab_size": 8}, vision_config={"num_hidden_layers": 1}, num_negatives=2
    )
    with torch.device("meta"):
        names = CECLIPModel(config).state_dict()
    plan = plan_to_open_clip(names)
    assert {source for recipe in plan.values() for source in recipe.sources} == names.keys() - {"rank_threshold"}
