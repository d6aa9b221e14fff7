"""QLoRA: four-bit weights of the language model, adapters on them, a projector trained in full."""

import pytest
import tiny_cal
import tiny_multimodal as tiny
import torch

from compalign.trainers import CALArguments, CALTrainer
from compalign.trainers.launch.cal import ConversationModelArguments, start_model, start_processor


def test_adapters_and_projector_train_on_four_bit_weights(tmp_path):
    pytest.importorskip("bitsandbytes", reason="needs the extra [qlora]")
    tiny.make_model("llava").save_pretrained(tmp_path / "start")
    tiny.make_processor("llava").save_pretrained(tmp_path / "start")
    start = ConversationModelArguments(model=str(tmp_path / "start"), load_in_4bit=True, lora_rank=4)
    args = CALArguments(
        str(tmp_path / "out"),
        max_steps=6,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        logging_steps=1,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
    )
    processor = start_processor(start)
    model = start_model(start, args, processor)
    quantised = {name for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"}
    assert quantised
    assert all("language_model" in name for name in quantised)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "multi_modal_projector" in name for name in trained)
    before = {name: parameter.data.clone() for name, parameter in model.named_parameters()}
    trainer = CALTrainer(model, args, train_dataset=tiny_cal.make_rows(8), processing_class=processor)
    trainer.train()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter.data, before[name])}
    assert moved <= trained
    assert any("multi_modal_projector" in name for name in moved)
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert losses[-1] < losses[0]


def test_four_bits_without_adapters_are_refused(tmp_path):
    start = ConversationModelArguments(model="anything", load_in_4bit=True)
    with pytest.raises(ValueError, match="set lora_rank"):
        start_model(start, CALArguments(str(tmp_path), use_cpu=True), None)
