"""The operations that the speed of CAL counts are those of the formulas."""

import pytest
import torch

from compalign.scripts.speed import cal as speed_cal


@pytest.fixture(scope="module")
def small():
    """One row of LLaVA-1.5's shape, of little width."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed_cal, "NARROW", sizes)
        patch.setattr(speed_cal, "NARROW_TOWER", sizes)
        model = speed_cal.make_model(576, wide=False)
    return model, speed_cal.make_batch(1, 576, model)


def test_the_dropped_pass_costs_what_the_formula_says(small):
    """On a CPU torch's counter leaves attention out; one row of logits is asked for besides."""
    model, _ = small
    counted = {mode: speed_cal.count_flops(*small, mode) for mode in speed_cal.MODES}
    config, tokens = model.config.text_config, speed_cal.PROMPT + speed_cal.ANSWER
    attention = config.num_hidden_layers * 4 * tokens**2 * config.hidden_size
    logits = 2 * config.hidden_size * config.vocab_size
    added = counted["dropped"] - counted["plain"]
    assert added == speed_cal.dropped_formula(model, 1) - attention + logits
    assert counted["masked"] - counted["plain"] > 3 * added


def test_the_plain_step_is_that_of_the_trainer_without_cal(small):
    model, batch = small
    labels = batch["labels"]
    with torch.no_grad():
        logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
        expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        torch.testing.assert_close(speed_cal.loss(model, batch, "plain"), expected, rtol=1e-4, atol=0)


def test_a_step_at_the_widths_of_7b_is_counted_without_weights():
    """The shares of the table of methods: 3.2 to 9.8 % and 0.6 to 2.4 %, and a third."""
    figures = speed_cal.full_size()
    shares = {name: value for name, value in figures.items() if "pass" in name and "plain" in name}
    one, two = ("LLaVA-1.5, 576 image tokens", "LLaVA-NeXT, 2,928 image tokens")
    assert 0.032 < shares[f"{one}: dropped pass / plain step"] < 0.098
    assert 0.006 < shares[f"{two}: dropped pass / plain step"] < 0.024
    assert all(shares[f"{name}: masked pass / plain step"] == pytest.approx(1 / 3, abs=0.01) for name in (one, two))
    assert 6.4 < figures["language model, billions of parameters"] < 6.8
    assert (
        figures[f"{two}: kept for the backward pass, GiB per row"]
        > figures[f"{one}: kept for the backward pass, GiB per row"]
    )


def test_the_chunked_loss_needs_less_memory():
    peaks = speed_cal.loss_peaks(torch.device("cpu"))
    assert peaks["chunked"] < 0.6 * peaks["all logits at once"]
