"""CAL's loss and deltas are those of the model's own logits, whatever its head and its layers do; or it refuses."""

import pytest
import tiny_multimodal
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration, Qwen3_5Config

from compalign.trainers.cal import label_deltas, weighted_cross_entropy
from compalign.trainers.cal_contrast import (
    contrast_mode,
    refuse_packed,
    states_without_image,
    watched_forward,
    why_inexact,
    why_unmaskable,
)
from compalign.trainers.cal_head import UNCHANGED, Finish, label_gain


def make_batch(family="llava"):
    """A batch and its labels."""
    batch = dict(tiny_multimodal.make_batch(family))
    return batch, batch.pop("labels")


def cross_entropy(model, batch, labels):
    """The mean loss from the logits of a plain forward, in float32."""
    logits = model(**batch).logits[:, :-1].float()
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def own_gain(model, batch, labels):
    """The difference of the label's logit with and without the image, both from the logits of plain forwards."""
    image = batch["input_ids"] == model.config.image_token_id
    masked = {**batch, "attention_mask": batch["attention_mask"] * ~image}
    gathered = [
        model(**inputs).logits[:, :-1].gather(2, labels[:, 1:, None].clamp_min(0))[..., 0] for inputs in (batch, masked)
    ]
    return torch.where(labels[:, 1:] == -100, 0.0, gathered[0] - gathered[1])


@torch.no_grad()
def check(model, family="llava"):
    """Compare loss and deltas with those of the model's own logits, and return how it finishes them."""
    batch, labels = make_batch(family)
    _, call = watched_forward(model, model, batch)
    total, weight = weighted_cross_entropy(model, call, labels, torch.ones_like(labels[:, 1:], dtype=torch.float32))
    torch.testing.assert_close(total / weight, cross_entropy(model, batch, labels), rtol=1e-5, atol=1e-5)
    return call, batch, labels


@pytest.mark.parametrize("family", tiny_multimodal.FAMILIES)
def test_the_loss_is_that_of_the_models_own_logits(family):
    check(tiny_multimodal.make_model(family), family)


class Multiplied(LlavaForConditionalGeneration):
    """As HyperCLOVA-X."""

    def forward(self, *args, **kwargs):
        return self.finish(super().forward(*args, **kwargs))

    def finish(self, outputs):
        outputs.logits = outputs.logits * self.config.text_config.logits_scaling
        return outputs


class Divided(Multiplied):
    """As Granite."""

    def finish(self, outputs):
        outputs.logits = outputs.logits / self.config.text_config.logits_scaling
        return outputs


class Scaled(Multiplied):
    """As Cohere's own vision models with a scale."""

    def finish(self, outputs):
        outputs.logits = outputs.logits * self.config.text_config.logit_scale
        return outputs


class MultipliedAndCapped(Multiplied):
    """As Muse."""

    def finish(self, outputs):
        config = self.config.text_config
        logits = outputs.logits * config.output_multiplier
        outputs.logits = config.final_logit_softcapping * torch.tanh(logits / config.final_logit_softcapping)
        return outputs


class Cut(Multiplied):
    """As Inkling: rows of the head beyond the vocabulary are left out."""

    def finish(self, outputs):
        outputs.logits = outputs.logits[..., : tiny_multimodal.VOCABULARY - 10]
        return outputs


class DividedBefore(LlavaForConditionalGeneration):
    """As Inkling: the states are divided on their way to the head."""

    def __init__(self, config):
        super().__init__(config)
        self.lm_head.register_forward_pre_hook(lambda head, args: (args[0] / 4.0,), prepend=True)


LLAVAS = {
    "multiplied": (Multiplied, {"logits_scaling": 0.25}, Finish(0.25)),
    "divided": (Divided, {"logits_scaling": 8.0}, Finish(1 / 8.0)),
    "scaled": (Scaled, {"logit_scale": 0.0625}, Finish(0.0625)),
    "scale_ignored": (LlavaForConditionalGeneration, {"logit_scale": 0.0625}, UNCHANGED),
    "capped": (
        MultipliedAndCapped,
        {"output_multiplier": 2.0, "final_logit_softcapping": 3.0},
        Finish(2.0, 3.0),
    ),
    "cap_ignored": (LlavaForConditionalGeneration, {"final_logit_softcapping": 3.0}, UNCHANGED),
    "cut": (Cut, {}, Finish(width=tiny_multimodal.VOCABULARY - 10)),
}


def make_llava(model_class, dtype=torch.float32, **text):
    """A tiny LLaVA of a class, with further values in the configuration of its language model."""
    torch.manual_seed(0)
    return model_class(tiny_multimodal.llava_config(text=text)).to(dtype).eval()


@pytest.mark.parametrize("kind", LLAVAS)
def test_logits_that_a_model_changes_after_its_head_are_found_and_followed(kind):
    model_class, text, expected = LLAVAS[kind]
    model = make_llava(model_class, **text)
    call, batch, labels = check(model)
    assert call.finish == expected
    with torch.no_grad():
        deltas = label_deltas(model, batch, labels, call, "masked")
        torch.testing.assert_close(deltas, own_gain(model, batch, labels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", LLAVAS)
def test_a_change_of_the_logits_is_found_in_half_precision(kind):
    model_class, text, expected = LLAVAS[kind]
    model = make_llava(model_class, torch.bfloat16, **text)
    batch, _ = make_batch()
    batch["pixel_values"] = batch["pixel_values"].bfloat16()
    with torch.no_grad():
        assert watched_forward(model, model, batch)[1].finish == expected


def test_a_scale_before_the_head_is_found_where_the_head_has_no_bias():
    """The pre-hook stands for the model's own division: it must come before the one that records what the head got."""
    batch, _ = make_batch()
    model = make_llava(DividedBefore, logits_mup_width_multiplier=4.0)
    with torch.no_grad():
        assert watched_forward(model, model, batch)[1].finish == Finish(0.25)
        model.lm_head.bias = nn.Parameter(torch.ones(tiny_multimodal.VOCABULARY))
        with pytest.raises(ValueError, match="CAL cannot train DividedBefore"):
            watched_forward(model, model, batch)


class Tripled(Multiplied):
    """A factor that stands nowhere in the configuration."""

    def finish(self, outputs):
        outputs.logits = outputs.logits * 3
        return outputs


class Shifted(Multiplied):
    """A change that is no factor."""

    def finish(self, outputs):
        outputs.logits = outputs.logits + torch.arange(outputs.logits.shape[-1])
        return outputs


class Suppressed(Multiplied):
    """As Chameleon, whose image tokens can never be said."""

    def finish(self, outputs):
        outputs.logits[..., 5:9] = torch.finfo(outputs.logits.dtype).min
        return outputs


class Forbidden(Multiplied):
    """The same with negative infinity."""

    def finish(self, outputs):
        outputs.logits[..., 5:9] = -torch.inf
        return outputs


class Normalised(LlavaForConditionalGeneration):
    """A layer of its own between the language model and the head."""

    def __init__(self, config):
        super().__init__(config)
        self.lm_head.register_forward_pre_hook(lambda head, args: (nn.functional.layer_norm(args[0], [32]),))


@pytest.mark.parametrize("model_class", [Tripled, Shifted, Suppressed, Forbidden, Normalised])
def test_a_change_of_the_logits_that_the_configuration_does_not_tell_is_refused_by_name(model_class):
    model = make_llava(model_class, logit_scale=2.0)
    with pytest.raises(ValueError, match=rf"CAL cannot train {model_class.__name__}: .*logit_scale=2\.0"):
        watched_forward(model, model, make_batch()[0])


def test_padding_that_is_not_a_number_proves_nothing():
    model = make_llava(LlavaForConditionalGeneration)
    batch, _ = make_batch()
    model.get_decoder().register_forward_hook(_spoil_first_row)
    assert watched_forward(model, model, batch)[1].finish == UNCHANGED


def _spoil_first_row(module, args, output):
    """Padding ends the first row: attention of some kinds answers NaN there."""
    output.last_hidden_state[0, -1] = torch.nan
    return output


# Dropout


def test_dropout_in_an_adapted_head_adds_nothing_to_equal_states():
    adapted = get_peft_model(
        make_llava(LlavaForConditionalGeneration),
        LoraConfig(r=4, target_modules=["lm_head"], lora_dropout=0.5, init_lora_weights=False),
    ).train()
    head = adapted.get_output_embeddings()
    states = torch.randn(20, tiny_multimodal.WIDTH)
    assert not torch.equal(head(states), head(states)), "there is no dropout to switch off"
    assert not label_gain(head, states, states, torch.arange(20)).any()
    assert all(module.training for module in head.modules())


def test_dropout_in_the_language_model_is_named(caplog):
    model = make_llava(LlavaForConditionalGeneration, attention_dropout=0.25)
    batch, labels = make_batch()
    _, call = watched_forward(model, model, batch)
    label_deltas(model, batch, labels, call, "dropped")
    assert "dropout" not in caplog.text
    model.train()
    label_deltas(model, batch, labels, call, "dropped")
    assert "dropout of up to 0.25: CAL's deltas then hold its noise" in caplog.text


# Layers with a state


@pytest.fixture(scope="module")
def hybrid():
    """Qwen3.5: a layer of linear attention, then one of full attention; in float64."""
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "patch_size": 8}
    vision |= {"out_hidden_size": 32, "num_position_embeddings": 16, "initializer_range": 0.2}
    linear = {f"linear_{side}_head_dim": 8 for side in ("key", "value")}
    linear |= {f"linear_num_{side}_heads": 2 for side in ("key", "value")}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 0, 0], "partial_rotary_factor": 0.25}
    text = {**tiny_multimodal.TEXT, **linear, "head_dim": 8, "rope_parameters": rope}
    tokens = {"image_token_id": tiny_multimodal.IMAGE, "video_token_id": tiny_multimodal.VIDEO}
    tokens["vision_start_token_id"] = tiny_multimodal.IMAGE_START
    tokens["vision_end_token_id"] = tiny_multimodal.IMAGE_END
    config = Qwen3_5Config(
        vision_config=vision, text_config={**text, "layer_types": ["linear_attention", "full_attention"]}, **tokens
    )
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(config).double().eval()


@torch.no_grad()
def test_without_the_image_a_layer_with_a_state_sees_the_text_alone(hybrid):
    batch, labels = make_batch("qwen2_vl")
    batch["pixel_values"] = batch["pixel_values"].double()
    _, call = watched_forward(hybrid, hybrid, batch)
    asked = nn.functional.pad(labels[:, 1:] != -100, (0, 1))
    _, dropped = states_without_image(hybrid, batch, call, asked, "dropped")
    _, masked = states_without_image(hybrid, batch, call, asked, "masked")
    alone = []
    for row in range(len(labels)):
        text = (batch["attention_mask"][row] == 1) & (batch["input_ids"][row] != tiny_multimodal.IMAGE)
        states = hybrid.get_decoder()(
            input_ids=batch["input_ids"][row : row + 1, text],
            position_ids=call.positions[..., row : row + 1, text],
            attention_mask=torch.ones(1, int(text.sum()), dtype=torch.long),
        ).last_hidden_state
        alone.append(states[0, asked[row, text]])
    torch.testing.assert_close(dropped, torch.cat(alone), rtol=0, atol=1e-10)
    assert (masked - dropped).norm() / dropped.norm() > 0.01, "masked tokens do not change the state"


def test_layers_with_a_state_drop_the_image_and_refuse_to_mask_it(hybrid):
    assert contrast_mode(hybrid, 1000) == "dropped"
    assert why_inexact(hybrid, 1000) is None
    with pytest.raises(ValueError, match=r"'masked' is not exact .*linear_attention.*use 'auto' or 'dropped'"):
        contrast_mode(hybrid, 1000, "masked")


def test_where_neither_way_is_exact_both_are_refused():
    model = tiny_multimodal.make_model("mistral_window")
    text = model.config.text_config
    text.layer_types = ["sliding_attention", "linear_attention"]
    assert contrast_mode(model, 8) == "dropped"
    with pytest.raises(ValueError, match=r"not exact for Llava.*train it with --cal false"):
        contrast_mode(model, 9)
    text.layer_types = ["full_attention", "indexed_attention"]
    assert "indexed_attention" in why_unmaskable(model)
    with pytest.raises(ValueError, match=r"of a kind that CAL does not know \(indexed_attention\)"):
        contrast_mode(model, 8)


# Packed rows


def packed_forms():
    """Two samples of four tokens in one row, in the ways in which packing says so."""
    ids = torch.arange(8, 16)[None]
    positions, samples = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]]), torch.tensor([[1, 1, 1, 1, 2, 2, 2, 2]])
    ones = torch.ones_like(ids)
    yield "position_ids", {"input_ids": ids, "position_ids": positions}
    yield "position_ids", {"input_ids": ids, "position_ids": positions, "attention_mask": ones}
    yield "position_ids", {"input_ids": ids, "position_ids": positions.expand(3, 1, 8), "attention_mask": ones}
    yield "attention_mask", {"input_ids": ids, "attention_mask": samples}
    yield "attention_mask", {"input_ids": ids, "attention_mask": (samples[:, None] == samples[..., None])[:, None]}
    yield "cu_seq_lens_q", {"input_ids": ids, "cu_seq_lens_q": torch.tensor([0, 4, 8])}
    yield "seq_idx", {"input_ids": ids, "seq_idx": samples - 1}


@pytest.mark.parametrize(("name", "batch"), packed_forms())
def test_packed_rows_are_refused(name, batch):
    with pytest.raises(ValueError, match=rf"rows hold several samples \({name}\)"):
        refuse_packed(batch)


def test_packed_rows_are_refused_by_the_pass_that_would_mix_them():
    model = tiny_multimodal.make_model("llava")
    batch, labels = make_batch()
    length = labels.shape[1]
    batch["position_ids"] = torch.cat([torch.arange(6), torch.arange(length - 6)])[None].expand(len(labels), -1)
    _, call = watched_forward(model, model, batch)
    with pytest.raises(ValueError, match="rows hold several samples"):
        label_deltas(model, batch, labels, call, "dropped")


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_rows_of_one_sample_are_taken(family):
    batch, labels = make_batch(family)
    refuse_packed(batch)
    padded_left = {"input_ids": batch["input_ids"].flip(1), "attention_mask": batch["attention_mask"].flip(1)}
    positions = (padded_left["attention_mask"].cumsum(1) - 1).masked_fill(padded_left["attention_mask"] == 0, 1)
    refuse_packed({**padded_left, "position_ids": positions})
    assert len(labels)
