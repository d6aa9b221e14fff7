"""PaliGemma has no chat template: its processor is told where the answer begins."""

import pytest
import tiny_cal
import tiny_multimodal as tiny
import torch

from compalign.data.chat.encoder import PrefixEncoder
from compalign.data.readers.bad_rows import RowProblem
from compalign.trainers import CALArguments, CALTrainer

IMAGE_TOKENS = tiny.SIDE**2


@pytest.fixture
def processor():
    return tiny.make_paligemma_processor()


def one_exchange(index=0):
    row = tiny_cal.make_rows(3)[index]
    return {**row, "messages": row["messages"][:2]}


def test_the_answer_alone_is_supervised_and_read_from_left_to_right(processor):
    row = one_exchange()
    encoded = PrefixEncoder(processor, [processor.image_token_id])(row)
    labels, ids, types = (encoded[name][0] for name in ("labels", "input_ids", "token_type_ids"))
    answer = row["messages"][1]["content"][0]["text"]
    assert processor.tokenizer.decode(labels[labels != -100], skip_special_tokens=True).strip() == answer
    assert labels[-1] == processor.tokenizer.eos_token_id
    assert (ids == processor.image_token_id).sum() == IMAGE_TOKENS
    assert torch.equal(types == 1, labels != -100)


@pytest.mark.parametrize("change", ["no image", "two exchanges"])
def test_what_it_cannot_read_is_refused_with_the_row(processor, change):
    row = one_exchange()
    if change == "no image":
        row["images"] = []
    else:
        row["messages"] = row["messages"] * 2
    with pytest.raises(RowProblem, match="not one question about an image"):
        PrefixEncoder(processor, [processor.image_token_id])(row)


def test_it_trains_with_cal(processor, tmp_path):
    model = tiny.make_model("paligemma")
    model.resize_token_embeddings(len(processor.tokenizer))
    args = CALArguments(
        str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=3,
        learning_rate=1e-2,
        logging_steps=1,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
    )
    rows = [one_exchange(index) for index in range(3)]
    trainer = CALTrainer(model, args, train_dataset=rows, processing_class=processor)
    trainer.train()
    first, *_, last = (log for log in trainer.state.log_history if "weight" in log)
    assert last["loss"] < first["loss"]
    assert any(log["weight"] > 1 for log in trainer.state.log_history if "weight" in log)
