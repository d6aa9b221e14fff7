"""LLaVA and LLaVA-NeXT in their authors' layout and in transformers'."""

import json

import pytest
import torch
from official_checkpoints import clip_tower_shapes, llava_config, llava_weights
from safetensors.torch import load_file
from torch.testing import assert_close

from compalign.modeling import (
    LlavaCALConfig,
    LlavaCALForConditionalGeneration,
    LlavaNextCALConfig,
    LlavaNextCALForConditionalGeneration,
)
from compalign.modeling.conversion import check_complete, llava, make_tensors
from compalign.modeling.conversion.reference import expand_image_places

VISION = {"image_size": 28, "patch_size": 7, "hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 3}


@pytest.fixture(scope="module")
def fixtures(shared):
    """A tiny LLaVA-1.5 with what the original code answered."""
    return shared / "data" / "formats" / "llava"


@pytest.fixture(scope="module")
def converted(fixtures):
    """The model in transformers, float32, with the vocabulary grown from 80 to 128 rows."""
    official, weights = json.loads((fixtures / "config.json").read_text()), load_file(fixtures / "model.safetensors")
    plan = llava.plan_from_llava(weights)
    state = make_tensors(llava.extend_vocabulary(plan, make_tensors(plan, weights), 82), weights)
    vision = llava.vision_fields(official, state, "quick_gelu", None)
    config = LlavaCALConfig(**llava.llava_config(official, state, "llava_cal", vision, image_token=80, pad_token=81))
    model = LlavaCALForConditionalGeneration(config).eval()
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize(
    ("images", "prompt", "logits"), [("image", "prompt", "logits"), ("batch_images", "batch_prompt", "batch_logits")]
)
@torch.no_grad()
def test_logits_are_those_of_the_original(converted, fixtures, images, prompt, logits):
    reference = load_file(fixtures / "reference.safetensors")
    ids = expand_image_places(reference[prompt], features=16, image_token=80)
    answer = converted(input_ids=ids, pixel_values=reference[images]).logits
    assert_close(answer[..., :80], reference[f"{logits}_official"], rtol=1e-4, atol=2e-5)


@torch.no_grad()
def test_logits_of_text_alone_are_those_of_the_original(converted, fixtures):
    reference = load_file(fixtures / "reference.safetensors")
    answer = converted(input_ids=reference["text"]).logits
    assert_close(answer[..., :80], reference["text_only_logits_official"], rtol=1e-4, atol=2e-5)


def test_both_ways_lead_back_bit_for_bit(fixtures):
    weights = load_file(fixtures / "model.safetensors")
    plan = llava.plan_from_llava(weights)
    state = make_tensors(llava.extend_vocabulary(plan, make_tensors(plan, weights), 82), weights)
    assert state["lm_head.weight"].shape == (128, 32)
    back = make_tensors(llava.shorten_vocabulary(llava.plan_to_llava(state), 80), state)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in weights.items())


def test_names_on_disk_lead_back_too(tmp_path, converted, fixtures):
    """transformers saves LLaVA under other names than it has in memory."""
    converted.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert "language_model.model.norm.weight" in saved
    plan = llava.plan_to_llava(saved)
    assert plan.keys() == load_file(fixtures / "model.safetensors").keys()
    assert llava.name_in_memory("vision_tower.vision_model.encoder.x") == "model.vision_tower.encoder.x"
    assert llava.name_in_memory("image_newline") == "model.image_newline"


def test_rows_of_new_tokens_lie_around_the_mean_and_old_ones_stay():
    table = torch.randn(500, 16, generator=torch.Generator().manual_seed(0)).bfloat16() + 3
    longer = llava.with_rows(table, 564)
    assert (longer.dtype, longer.shape) == (torch.bfloat16, (564, 16))
    assert torch.equal(longer[:500], table)
    assert_close(longer[500:].float(), table.float().mean(0).expand(64, -1), rtol=0, atol=0.05)
    assert torch.equal(longer, llava.with_rows(table, 564))
    assert longer[500:].unique(dim=0).shape[0] > 1


def test_llava_15s_vocabulary_becomes_32064_rows():
    table = {name: torch.empty(32000, 8, device="meta") for name in ("model.embed_tokens.weight", "lm_head.weight")}
    plan = llava.plan_from_llava(table)
    grown = make_tensors(llava.extend_vocabulary(plan, make_tensors(plan, table), 32002), table)
    assert {tensor.shape[0] for tensor in grown.values()} == {32064}
    same = make_tensors(llava.extend_vocabulary(plan, make_tensors(plan, table), 32000), table)
    assert {tensor.shape[0] for tensor in same.values()} == {32000}


def test_llava_nexts_configuration_and_weights_fill_its_model():
    official = llava_config(64, 96, 2, tiled=True, rope_theta=5e5)
    weights = llava_weights(official)
    state = make_tensors(llava.plan_from_llava(weights), weights)
    vision = llava.vision_fields(official, state, "quick_gelu", 4)
    config = LlavaNextCALConfig(**llava.llava_config(official, state, "llava_next_cal", vision, 94, 95))
    assert config.image_grid_pinpoints == official["image_grid_pinpoints"]
    assert config.text_config.rope_parameters["rope_theta"] == 5e5
    assert (config.vision_config.num_attention_heads, config.vision_config.image_size) == (4, 28)
    with torch.device("meta"):
        check_complete(state, LlavaNextCALForConditionalGeneration(config).state_dict())
    assert state["model.image_newline"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("kind", "field", "value", "message"),
    [
        ("llava_cal", "mm_projector_type", "linear", "mm_projector_type is 'linear'; accepted: 'mlp2x_gelu'"),
        ("llava_cal", "mm_use_im_start_end", True, "mm_use_im_start_end is True; accepted: False, None"),
        ("llava_cal", "mm_patch_merge_type", "spatial_unpad", "accepted: 'flat', None"),
        ("llava_next_cal", "mm_patch_merge_type", "flat", "accepted: 'spatial_unpad'"),
        ("llava_next_cal", "image_grid_pinpoints", "(1x1)", r"image_grid_pinpoints='\(1x1\)': accepted is a list"),
        ("llava_cal", "mm_vision_select_feature", "pooled", "accepted: 'patch', 'cls_patch', None"),
        ("llava_cal", "model_type", "llava_mpt", "accepted: 'llava', 'llava_llama', 'llava_mistral', 'llava_qwen'"),
    ],
)
def test_a_part_that_transformers_runs_otherwise_is_refused(kind, field, value, message):
    official = {**llava_config(64, 96, 1, tiled=kind == "llava_next_cal"), field: value}
    state = {"model.language_model.embed_tokens.weight": torch.empty(96, 64, device="meta")}
    with pytest.raises(ValueError, match=message):
        llava.llava_config(official, state, kind, VISION, 96, 97)


def test_class_and_patch_features_count_the_class():
    official = llava_config(64, 96, 1, mm_vision_select_feature="cls_patch", mm_vision_select_layer=-1)
    state = {"model.language_model.embed_tokens.weight": torch.empty(96, 64, device="meta")}
    fields = llava.llava_config(official, state, "llava_cal", VISION, 96, 97)
    assert (fields["vision_feature_select_strategy"], fields["image_seq_length"]) == ("full", 17)
    assert fields["vision_feature_layer"] == -1


@pytest.mark.parametrize("prefix", ["vision_model.", "vision_model.vision_model.", ""])
def test_an_image_tower_of_its_own_checkpoint_takes_llavas_names(prefix):
    names = [name.removeprefix("vision_model.") for name in clip_tower_shapes(16, layers=1)]
    others = ["text_model.embeddings.token_embedding.weight", "visual_projection.weight", "logit_scale"]
    tower = llava.vision_tower_names([*(prefix + name for name in names), *others])
    assert tower == {llava.TOWER + name: prefix + name for name in names}
    with pytest.raises(ValueError, match="there is no image tower of CLIP"):
        llava.vision_tower_names(others)


def test_an_image_is_marked_once_and_expanded_at_its_place():
    text = torch.tensor([[1, -200, 5], [1, 6, -200]])
    assert expand_image_places(text, 3, 9).tolist() == [[1, 9, 9, 9, 5], [1, 6, 9, 9, 9]]
    assert torch.equal(expand_image_places(torch.tensor([[1, 2]]), 3, 9), torch.tensor([[1, 2]]))
