"""ComAlign's heads: masks, the frozen encoder that is no part of the model, inputs raw and cached, the processor."""

import copy
import math
import shutil

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from torch.nn.functional import normalize
from transformers import AutoModel, AutoProcessor, CLIPConfig, CLIPModel

from compalign.modeling import ComAlignConfig, ComAlignModel, ComAlignProcessor
from compalign.modeling.comalign import component_similarity

SIZES = {"hidden_size": 16, "entities": 3, "relations": 2}
CACHED = {"image": ("image_components", "image_global"), "text": ("text_components", "text_global")}


def make_model(**fields):
    """Heads of width 16 with random weights, in evaluation mode; what they learn counts in full."""
    torch.manual_seed(0)
    model = ComAlignModel(ComAlignConfig(**{**SIZES, **fields})).eval()
    for head in filter(None, (model.image_head, model.text_head)):
        if head.gate is not None:
            torch.nn.init.ones_(head.gate)
    return model


def cached(images=4, texts=3, seed=0):
    """Cached embeddings with ragged masks; image 1 and text 0 have no component."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for side, count, empty in (("image", images, 1), ("text", texts, 0)):
        mask = torch.rand(count, 5, generator=generator) > 0.4
        mask[empty] = False
        inputs |= {
            f"{side}_components": torch.randn(count, 5, 16, generator=generator) * mask[..., None],
            f"{side}_global": torch.randn(count, 16, generator=generator),
            f"{side}_mask": mask,
        }
    return inputs


@pytest.fixture(scope="module")
def backbone(tmp_path_factory, clip_folder, clip_sizes):
    """A saved CLIP that reads captions where its tokenizer ends them, with weights large enough to tell words apart."""
    folder = tmp_path_factory.mktemp("backbone")
    clip = AutoProcessor.from_pretrained(clip_folder)
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(**clip_sizes(clip.tokenizer.eos_token_id)))
    for parameter in model.parameters():
        parameter.data.mul_(4 if parameter.dim() > 1 else 1)
    model.save_pretrained(folder)
    clip.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def processor(backbone):
    clip = AutoProcessor.from_pretrained(backbone)
    return ComAlignProcessor(clip.image_processor, clip.tokenizer, entities=3, relations=2)


@pytest.fixture(scope="module")
def raw(processor):
    """Two images, the second without regions, and three captions, the first without phrases."""
    generator = torch.Generator().manual_seed(0)
    pixels = (torch.rand(2, 40, 50, 3, generator=generator) * 255).byte().numpy()
    regions = [{"entities": [(0, 0, 20, 20), (10.5, 5, 49.2, 39)], "relations": [(0, 0, 50, 40)]}, {}]
    phrases = [{}, {"entities": ["a red cube"], "relations": ["cube left of ball"]}, {"entities": ["a dog"]}]
    return processor(
        images=[Image.fromarray(picture) for picture in pixels],
        regions=regions,
        text=["a photo", "a red cube left of a ball", "a photo of a dog"],
        phrases=phrases,
    )


def test_embeddings_are_normalised_and_empty_slots_are_zero():
    inputs = cached()
    output = make_model()(**inputs)
    for side in ("image", "text"):
        components, mask = output[f"{side}_components"], inputs[f"{side}_mask"]
        assert torch.equal(output[f"{side}_mask"], mask)
        torch.testing.assert_close(components.norm(dim=-1), mask.float())
        torch.testing.assert_close(output[f"{side}_embeds"].norm(dim=-1), torch.ones(len(mask)))
        base = normalize(inputs[f"{side}_global"], dim=-1)
        torch.testing.assert_close(output[f"base_{side}_embeds"], base)
    assert output.logit_scale.item() == pytest.approx(math.exp(2.6592))


@pytest.mark.parametrize("content", [9.0, float("nan")])
def test_what_lies_in_an_empty_slot_changes_nothing(content):
    model, inputs = make_model(), cached()
    other = dict(inputs)
    for side in ("image", "text"):
        empty = ~inputs[f"{side}_mask"][..., None]
        other[f"{side}_components"] = inputs[f"{side}_components"].masked_fill(empty, content)
    for value, changed in zip(model(**inputs).values(), model(**other).values(), strict=True):
        assert torch.equal(value, changed)


def test_empty_slots_are_not_attended_to():
    """Whatever an empty slot holds comes from the table of positions, so another table there must not be felt."""
    model, inputs = make_model(), cached()
    first = {name: value[:1] for name, value in inputs.items() if name.startswith("image")}
    before = model(**first)
    empty = torch.nn.functional.pad(~first["image_mask"][0], (0, 1), value=False)
    assert 0 < empty.sum() < 5
    model.image_head.position_table[:, empty] += 5
    assert torch.equal(model(**first).image_embeds, before.image_embeds)
    model.image_head.position_table[:, ~empty] += 5
    assert not torch.equal(model(**first).image_embeds, before.image_embeds)


def test_the_released_form_attends_to_padding_and_counts_it():
    model, inputs = make_model(text_head=False, mask_padding=False), cached()
    output = model(**inputs)
    assert output.image_mask.all()
    assert output.text_mask.all()
    assert (output.image_components.norm(dim=-1) > 0.99).all()
    assert model.text_head is None
    torch.testing.assert_close(output.text_embeds, output.base_text_embeds)
    torch.testing.assert_close(output.text_components, normalize(inputs["text_components"], dim=-1))
    without = model(**{name: value for name, value in inputs.items() if not name.endswith("mask")})
    torch.testing.assert_close(output.image_components, without.image_components)


def test_rows_do_not_see_one_another():
    model, inputs = make_model(), cached()
    whole = model(**inputs)
    alone = model(**{name: value[:1] for name, value in inputs.items()})
    for name in ("image_components", "text_components", "image_embeds", "text_embeds"):
        torch.testing.assert_close(whole[name][:1], alone[name])


def test_items_without_any_component_train_without_nan():
    model, inputs = make_model().train(), cached()
    inputs["image_mask"][:] = False
    output = model(**inputs)
    i2t, t2i = component_similarity(
        output.image_components, output.text_components, output.image_mask, output.text_mask
    )
    loss = i2t.sum() + t2i.sum() + (output.image_embeds @ output.text_embeds.T).sum() + output.logit_scale
    loss.backward()
    assert loss.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert model.image_head.input_projection.weight.grad.abs().sum() > 0


def test_every_parameter_gets_a_gradient():
    model, inputs = make_model(), cached()
    output = model(**inputs)
    similarities = component_similarity(
        output.image_components, output.text_components, output.image_mask, output.text_mask
    )
    (output.logit_scale * (sum(s.square().sum() for s in similarities) + output.image_embeds.sum())).backward()
    # Added to every score of a softmax alike, a key's bias is the one parameter that never matters.
    without = {name for name, p in model.named_parameters() if p.grad.abs().max() < 1e-7}
    assert {name.rpartition(".self_attn.")[2] for name in without} <= {"k_proj.bias"}


@pytest.mark.parametrize("side", CACHED)
def test_one_side_alone_gives_the_same(side):
    model, inputs = make_model(), cached()
    both = model(**inputs)
    alone = model(**{name: value for name, value in inputs.items() if name.startswith(side)})
    other = "text" if side == "image" else "image"
    assert alone[f"{side}_components"] is not None
    assert getattr(alone, f"{other}_components") is None
    torch.testing.assert_close(alone[f"{side}_embeds"], both[f"{side}_embeds"])


def test_raw_inputs_equal_the_frozen_encoders_embeddings(backbone, raw):
    model = make_model(backbone=backbone)
    clip = CLIPModel.from_pretrained(backbone).eval()
    image_mask, text_mask = raw["image_mask"], raw["text_mask"]
    hidden = torch.ones_like(raw["attention_mask"])
    hidden[:, 1] = 0  # CLIP sees no padding anyway, but a hidden word it misses
    raw = {
        **raw,
        "attention_mask": raw["attention_mask"] * hidden,
        "phrase_attention_mask": raw["phrase_attention_mask"] * hidden[0],
    }
    with torch.no_grad():
        regions, phrases = torch.zeros(2, 5, 16), torch.zeros(3, 5, 16)
        regions[image_mask] = clip.get_image_features(raw["region_pixel_values"][image_mask]).pooler_output
        phrases[text_mask] = clip.get_text_features(
            raw["phrase_input_ids"][text_mask], raw["phrase_attention_mask"][text_mask]
        ).pooler_output
        by_hand = model(
            image_components=regions,
            image_global=clip.get_image_features(raw["pixel_values"]).pooler_output,
            image_mask=image_mask,
            text_components=phrases,
            text_global=clip.get_text_features(raw["input_ids"], raw["attention_mask"]).pooler_output,
            text_mask=text_mask,
        )
        output = model(**raw)
    assert (output.image_mask.sum(), output.text_mask.sum()) == (3, 3)
    for name, value in by_hand.items():
        torch.testing.assert_close(output[name], value)
    captions = output.base_text_embeds @ output.base_text_embeds.T
    assert captions.fill_diagonal_(0).max() < 0.99  # different captions, different embeddings


def test_the_frozen_encoder_is_no_part_of_the_model(backbone, raw, tmp_path):
    model = make_model(backbone=backbone).train()
    names = set(model.state_dict())
    model(**raw).image_embeds.sum().backward()
    model.train()
    assert model.backbone is model.backbone
    assert not model.backbone.training
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert set(model.state_dict()) == names
    assert not any("backbone" in name for name, _ in [*model.named_parameters(), *model.named_modules()])
    assert copy.deepcopy(model).num_parameters() == model.num_parameters()
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").stat().st_size > 1.5 * 4 * model.num_parameters()


def test_cached_embeddings_need_no_frozen_encoder():
    make_model(backbone="nobody/nowhere")(**cached())


def test_a_frozen_encoder_beside_the_checkpoint_is_found_wherever_both_are_moved(backbone, raw, tmp_path, monkeypatch):
    model = make_model(backbone="../encoder")
    model.save_pretrained(tmp_path / "before" / "heads")
    shutil.copytree(backbone, tmp_path / "before" / "encoder")
    (tmp_path / "before").rename(tmp_path / "after")
    expected = model.eval()
    expected.config.backbone = backbone
    with torch.no_grad():
        moved = ComAlignModel.from_pretrained(tmp_path / "after" / "heads")(**raw)
        monkeypatch.chdir(tmp_path / "after" / "heads")
        here = ComAlignModel.from_pretrained(".")(**raw)
        torch.testing.assert_close(moved.image_embeds, expected(**raw).image_embeds)
        torch.testing.assert_close(here.image_embeds, moved.image_embeds)


def test_a_checkpoint_without_the_frozen_encoder_beside_it_says_how_to_name_one(backbone, raw, tmp_path):
    make_model(backbone="../encoder").save_pretrained(tmp_path / "heads")
    with pytest.raises(ValueError, match=r"config\.backbone is '\.\./encoder'.*backbone=\.\.\."):
        ComAlignModel.from_pretrained(tmp_path / "heads")(**raw)
    ComAlignModel.from_pretrained(tmp_path / "heads", backbone=backbone)(**raw)


def test_pixels_without_a_frozen_encoder_are_refused(raw):
    with pytest.raises(ValueError, match=r"config\.backbone is None"):
        make_model()(**raw)


def test_a_saved_model_answers_the_same(tmp_path):
    model, inputs = make_model(num_hidden_layers=1, intermediate_size=24), cached()
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert isinstance(again, ComAlignModel)
    for name, value in model(**inputs).items():
        assert torch.equal(again(**inputs)[name], value)
    assert "position_table" not in " ".join(model.state_dict())


def test_weights_in_half_precision_meet_a_table_in_float32():
    """DeepSpeed brings the weights to bfloat16 and leaves the buffers."""
    model = make_model()
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    output = model(**cached())
    assert output.image_components.dtype == output.text_components.dtype == torch.bfloat16


def test_a_model_in_half_precision_leaves_zeros_zero():
    output = make_model().to(torch.bfloat16)(**cached())
    assert output.image_components.isfinite().all()
    output = make_model(text_head=False).half()(**cached())
    assert (output.text_components[0] == 0).all()


def test_the_score_is_the_papers_mean():
    model, inputs = make_model(), cached()
    output = model(**inputs)
    i2t, t2i = model.score(output)
    cosine = output.image_embeds @ output.text_embeds.T
    for a in range(4):
        for b in range(3):
            forth, back = [cosine[a, b]], [cosine[a, b]]
            for role in (slice(3), slice(3, 5)):
                image = output.image_components[a, role][inputs["image_mask"][a, role]]
                text = output.text_components[b, role][inputs["text_mask"][b, role]]
                if len(image) and len(text):
                    forth.append((image @ text.T).amax(1).mean())
                    back.append((image @ text.T).amax(0).mean())
            torch.testing.assert_close(i2t[a, b], torch.stack(forth).mean())
            torch.testing.assert_close(t2i[b, a], torch.stack(back).mean())
    torch.testing.assert_close(i2t[1], cosine[1])  # no component: the global cosine alone


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.clear(), "got neither"),
        (lambda i: i.pop("image_global"), "image_components and image_global or pixel_values and region_pixel_values"),
        (lambda i: i.pop("text_components"), "got text_global"),
        (lambda i: i.update(pixel_values=torch.zeros(4, 3, 8, 8)), "got .*pixel_values"),
        (lambda i: i.update(image_components=torch.zeros(4, 6, 16)), r"\(N, 5, 16\).*got \(4, 6, 16\)"),
        (lambda i: i.update(text_global=torch.zeros(2, 16)), "text_global"),
        (lambda i: i.update(image_mask=torch.ones(4, 4)), "image_mask"),
    ],
)
def test_incomplete_or_unfitting_inputs_are_named(change, message):
    inputs = cached()
    change(inputs)
    with pytest.raises(ValueError, match=message):
        make_model()(**inputs)


@pytest.mark.parametrize(
    "fields",
    [{"hidden_size": 10}, {"entities": -1}, {"entities": 0, "relations": 0}, {"dropout": 1.0}, {"score": "best"}],
)
def test_impossible_configurations_are_refused(fields):
    with pytest.raises(StrictDataclassError, match="|".join(fields)):
        ComAlignConfig(**{**SIZES, **fields})


def test_new_heads_score_as_the_frozen_encoder():
    """Components and globals are the frozen embeddings, normalised, until something is learned."""
    torch.manual_seed(0)
    model, inputs = ComAlignModel(ComAlignConfig(**SIZES)).eval(), cached()
    output = model(**inputs)
    for side in ("image", "text"):
        mask = output[f"{side}_mask"]
        frozen = torch.nn.functional.normalize(inputs[f"{side}_components"], dim=-1)
        torch.testing.assert_close(output[f"{side}_components"][mask], frozen[mask])
        torch.testing.assert_close(output[f"{side}_embeds"], output[f"base_{side}_embeds"])


def test_the_released_settings_are_four_fields():
    default, released = ComAlignConfig().to_dict(), ComAlignConfig.as_released().to_dict()
    assert {name: released[name] for name in default if default[name] != released[name]} == {
        "text_head": False,
        "residual": False,
        "mask_padding": False,
        "score": "released",
    }


def test_components_lie_in_the_slots_of_their_role(raw, processor):
    assert raw["image_mask"].tolist() == [[True, True, False, True, False], [False] * 5]
    assert raw["text_mask"].tolist() == [[False] * 5, [True, False, False, True, False], [True] + [False] * 4]
    assert raw["region_pixel_values"].shape == (2, 5, *raw["pixel_values"].shape[1:])
    assert (raw["region_pixel_values"][~raw["image_mask"]] == 0).all()
    ids = processor.tokenizer("cube left of ball", padding="max_length", return_tensors="pt")["input_ids"][0]
    assert torch.equal(raw["phrase_input_ids"][1, 3], ids)
    assert (raw["phrase_attention_mask"][~raw["text_mask"]] == 0).all()
    assert set(raw) == set(processor.model_input_names)


def test_a_region_is_a_crop_cut_at_the_border_and_widened_to_whole_pixels(processor):
    processor = copy.deepcopy(processor)
    processor.image_processor.do_convert_rgb = False
    generator = torch.Generator().manual_seed(1)
    picture = Image.fromarray((torch.rand(40, 50, 3, generator=generator) * 255).byte().numpy())
    boxes = [(-5, -5, 20, 20), (10.7, 5, 38.2, 99)]
    inputs = processor(images=[picture.convert("P")], regions=[{"entities": boxes}])
    rgb = picture.convert("P").convert("RGB")
    for slot, box in enumerate([(0, 0, 20, 20), (10, 5, 39, 40)]):
        expected = processor.image_processor(images=rgb.crop(box), return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(inputs["region_pixel_values"][0, slot], expected)


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 9), (9, 5, 5, 9), (60, 0, 70, 9), (0, 0, float("nan"), 9), (0, 0, float("inf"), 9), (1, 2, 3)]
)
def test_a_box_without_area_is_named(processor, box):
    with pytest.raises(ValueError, match=r"regions\[1\]\['relations'\]\[0\]"):
        processor(images=[Image.new("RGB", (50, 40))] * 2, regions=[{}, {"relations": [box]}])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither"),
        ({"text": "a dog"}, "single string"),
        ({"text": ["a dog"], "regions": [{}]}, "need their images"),
        ({"text": ["a dog"], "phrases": [{}, {}]}, "got 2"),
        ({"text": ["a dog"], "phrases": [{"entity": ["dog"]}]}, "entity"),
        ({"text": ["a dog"], "phrases": [{"relations": ["x"] * 3}]}, "holds 3, more than 2 slots"),
        ({"images": [torch.zeros(3, 8, 8)]}, r"images\[0\] must be a PIL image, got Tensor"),
    ],
)
def test_wrong_arguments_of_the_processor_are_named(processor, arguments, message):
    with pytest.raises(ValueError, match=message):
        processor(**arguments)


def test_a_saved_processor_gives_the_same(processor, tmp_path, raw):
    make_model().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(again, ComAlignProcessor)
    assert (again.entities, again.relations, again.padding) == (3, 2, "max_length")
    texts = {"text": ["a red cube left of a ball"], "phrases": [{"entities": ["a red cube"]}]}
    for name, value in processor(**texts).items():
        assert torch.equal(again(**texts)[name], value)
