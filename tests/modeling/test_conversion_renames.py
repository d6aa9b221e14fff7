"""Tables of renames: every tensor has one place, both ways lead back, and nothing is lost unsaid."""

import pytest
import torch

from compalign.modeling.conversion import (
    Recipe,
    Rename,
    check_complete,
    choose_kind,
    find_activation,
    make_tensors,
    plan_to_ours,
    plan_to_released,
    recognise,
    unknown_activation,
)
from compalign.modeling.conversion.activation import Activation
from compalign.modeling.conversion.sharded_writing import common_dtype, split_by_size

TABLE = (
    Rename("scale", ("scale",)),
    Rename(
        "block.{layer}.qkv_{kind}", ("layers.{layer}.q.{kind}", "layers.{layer}.k.{kind}", "layers.{layer}.v.{kind}")
    ),
    Rename("proj", ("projection.weight",), transposed=True),
    Rename("mask", ()),
)
RELEASED = {
    "scale": torch.tensor(4.0),
    "block.10.qkv_weight": torch.arange(18.0).view(6, 3),
    "block.10.qkv_bias": torch.arange(6.0),
    "proj": torch.arange(6.0).view(2, 3),
}


def test_parts_are_rows_in_the_tables_order_and_projections_are_transposed():
    ours = make_tensors(plan_to_ours(TABLE, RELEASED), RELEASED)
    assert torch.equal(ours["layers.10.k.weight"], torch.tensor([[6.0, 7, 8], [9, 10, 11]]))
    assert torch.equal(ours["layers.10.v.bias"], torch.tensor([4.0, 5]))
    assert torch.equal(ours["projection.weight"], torch.tensor([[0.0, 3], [1, 4], [2, 5]]))
    assert ours["scale"].shape == ()


def test_both_ways_lead_back_bit_for_bit():
    ours = make_tensors(plan_to_ours(TABLE, RELEASED), RELEASED)
    back = make_tensors(plan_to_released(TABLE, reversed(ours)), ours)
    assert back.keys() == RELEASED.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in RELEASED.items())


def test_a_line_without_a_place_leaves_its_tensor_out():
    assert plan_to_ours(TABLE, ["mask"]) == {}


@pytest.mark.parametrize("plan", [plan_to_ours, plan_to_released])
def test_every_name_without_a_line_is_listed(plan):
    with pytest.raises(
        ValueError, match=r"2 tensors have no place in the other layout: visual\.extra, block\.x\.qkv_bias"
    ):
        plan(TABLE, ["scale", "visual.extra", "block.x.qkv_bias"])


def test_a_part_that_is_missing_is_told_by_the_whole():
    with pytest.raises(
        ValueError, match=r"block\.3\.qkv_bias is made of 3 tensors, but there is only layers\.3\.q\.bias"
    ):
        plan_to_released(TABLE, ["layers.3.q.bias"])


def test_two_tensors_never_claim_one_place():
    with pytest.raises(ValueError, match="claim one place"):
        plan_to_ours((Rename("a", ("c",)), Rename("b", ("c",))), ["a", "b"])


def test_shapes_are_known_without_values():
    meta = {name: tensor.to("meta") for name, tensor in RELEASED.items()}
    shapes = make_tensors(plan_to_ours(TABLE, meta), meta)
    assert shapes["projection.weight"].shape == (3, 2)
    assert {tensor.device.type for tensor in shapes.values()} == {"meta"}


def test_what_a_model_lacks_or_does_not_know_is_listed():
    made = {"a": torch.zeros(2), "c": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"b is missing; c is superfluous; a is \(2,\) instead of \(3,\)"):
        check_complete(made, {"a": torch.zeros(3), "b": torch.zeros(1)})


def test_shards_hold_every_tensor_once_in_order_and_no_more_than_asked():
    sizes = {"a": 3, "b": 3, "c": 9, "d": 1, "e": 5}
    assert split_by_size(sizes, 6) == [["a", "b"], ["c"], ["d", "e"]]
    assert split_by_size(sizes, 100) == [list(sizes)]
    assert split_by_size({}, 6) == [[]]


def test_the_common_dtype_is_that_of_most_values():
    tensors = {
        "a": torch.zeros(9, dtype=torch.int64),
        "b": torch.zeros(5).half(),
        "c": torch.zeros(4),
        "d": torch.zeros(()),
    }
    assert common_dtype(tensors) == torch.float16


def test_a_recipe_may_have_no_source():
    assert make_tensors({"zeros": Recipe((), lambda: torch.zeros(2))}, {})["zeros"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("names", "layout", "kinds"),
    [
        (["module.visual.conv1.weight", "module.logit_scale"], "open_clip", {"clip", "degla_clip", "ce_clip"}),
        (["logit_scale", "text_model.text_model.embeddings.x"], "transformers_clip", {"clip", "degla_clip", "ce_clip"}),
        (["text_model.embeddings.x", "rank_threshold"], "transformers_clip", {"ce_clip"}),
        (["model.norm.weight", "model.mm_projector.0.bias"], "llava", {"llava_cal"}),
        (["model.image_newline", "model.mm_projector.0.bias"], "llava", {"llava_next_cal"}),
        (["language_model.lm_head.weight", "multi_modal_projector.x"], "transformers_llava", {"llava_cal"}),
        (["transformer_encoder_box.layers.0.norm1.bias"], "comalign", {"comalign"}),
        (["image_head.layers.0.fc1.bias"], "transformers_comalign", {"comalign"}),
    ],
)
def test_layouts_are_told_by_names(names, layout, kinds):
    found = recognise(names)
    assert (found.name, set(found.kinds)) == (layout, kinds)
    assert found.seen in names


def test_an_unknown_layout_is_shown():
    with pytest.raises(ValueError, match=r"accepted: .* holds 2 tensors, among them encoder\.weight, encoder\.bias"):
        recognise(["encoder.weight", "encoder.bias"])


def test_a_kind_is_chosen_only_where_names_leave_no_choice():
    clip, llava = recognise(["visual.conv1.weight"]), recognise(["model.mm_projector.0.bias"])
    assert choose_kind(llava, None) == "llava_cal"
    assert choose_kind(clip, "ce_clip") == "ce_clip"
    with pytest.raises(ValueError, match="can become clip, degla_clip, ce_clip: say which with kind"):
        choose_kind(clip, None)
    with pytest.raises(ValueError, match=r"kind=comalign: .* can become llava_cal"):
        choose_kind(llava, "comalign")


def test_an_activation_is_stated_or_unknown_never_guessed():
    assert find_activation(None, ["epoch_5.pt", "ViT-B-32"]) is None
    assert find_activation(None, ["ViT-B-32-quickgelu"]).value == "quick_gelu"
    assert (
        find_activation(None, ["openai/clip-vit-base-patch32"]).known_by == "'openai' in 'openai/clip-vit-base-patch32'"
    )
    assert find_activation(None, ["ViT-B-32-quickgelu"], Activation("gelu", "config.json")).value == "gelu"
    message = str(unknown_activation(["epoch_5.pt"]))
    assert all(word in message for word in ("'epoch_5.pt'", "quick_gelu", "gelu", "reference"))


def test_an_activation_asked_for_is_taken_and_a_contradiction_said():
    assert find_activation("gelu") == Activation("gelu", "asked for")
    assert find_activation("gelu", ["openai"]).known_by == "asked for, against quick_gelu by 'openai' in 'openai'"
    with pytest.raises(ValueError, match="activation=relu; accepted: quick_gelu, gelu"):
        find_activation("relu")
