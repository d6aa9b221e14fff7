"""A stream trains as rows do: each row once per pass, whatever the processes and workers; an evaluation holds it."""

import itertools
import logging
from collections import Counter

import datasets
import pytest
import tiny
import tiny_cal
import tiny_comalign
import torch
import two_processes
from datasets.distributed import split_dataset_by_node
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader, IterableDataset

from compalign.trainers import CALArguments, CALTrainer, ComAlignArguments, ComAlignTrainer
from compalign.trainers.cal_stream import StreamedConversations
from compalign.trainers.streaming import HeldRows, StreamedRows, plain_rows


class Stream(IterableDataset):
    """Rows as they come from anywhere; some cannot be used."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        yield from self.rows


def numbered(count):
    """Rows that name themselves."""
    return [{"name": number} for number in range(count)]


STREAMS = {
    "of_pytorch": lambda rows: Stream(rows),
    "of_datasets": lambda rows: datasets.Dataset.from_list(rows).to_iterable_dataset(num_shards=1),
    "of_three_shards": lambda rows: datasets.Dataset.from_list(rows).to_iterable_dataset(num_shards=3),
    "as_tensors": lambda rows: datasets.Dataset.from_list(rows).to_iterable_dataset(num_shards=2).with_format("torch"),
}


def items_of(stream, processes, workers, batch_size, batches):
    """The items that all processes read in some batches each."""
    items = []
    for rank in range(processes):
        rows = StreamedRows(stream, batch_size)
        rows.process = (rank, processes)
        loader = DataLoader(rows, batch_size, num_workers=workers, collate_fn=list)
        items += [item for batch in itertools.islice(loader, batches) for item in batch]
    return items


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (2, 0), (1, 2), (2, 3)])
@pytest.mark.parametrize("kind", STREAMS)
def test_each_row_comes_once_per_pass(kind, processes, workers):
    """24 rows; two passes in batches of two."""
    stream = STREAMS[kind](numbered(24))
    items = items_of(stream, processes, workers, 2, 24 // processes)
    counts = Counter((item["epoch"], item["name"]) for item in items)
    assert counts == dict.fromkeys(itertools.product((0, 1), range(24)), 1)
    assert all(type(item["name"]) is int and item["row"] == item["name"] for item in items)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_number_of_rows_that_nothing_divides_loses_none(workers):
    """13 rows, in two processes, in batches of three: the next pass begins within a batch."""
    items = items_of(STREAMS["of_pytorch"](numbered(13)), 2, workers, 3, 10)
    assert {item["name"] for item in items if item["epoch"] == 0} == set(range(13))
    assert max(Counter((item["epoch"], item["name"]) for item in items).values()) == 1


def test_a_shuffled_stream_has_one_order_per_pass_in_all_workers():
    stream = datasets.Dataset.from_list(numbered(24)).to_iterable_dataset(num_shards=2).shuffle(seed=1, buffer_size=8)
    items = items_of(stream, 2, 2, 2, 12)
    assert Counter((item["epoch"], item["name"]) for item in items) == dict.fromkeys(
        itertools.product((0, 1), range(24)), 1
    )
    in_order = sorted(items, key=lambda item: item["row"])
    orders = [[item["name"] for item in in_order if item["epoch"] == epoch] for epoch in (0, 1)]
    assert orders[0] != orders[1]


def test_a_worker_decodes_the_images_of_its_own_rows_alone(monkeypatch):
    table = datasets.Dataset.from_list([{"image": Image.new("RGB", (4, 4)), "name": number} for number in range(12)])
    decoded = []
    plain = datasets.Image.decode_example
    monkeypatch.setattr(
        datasets.Image, "decode_example", lambda *args, **kwargs: decoded.append(1) or plain(*args, **kwargs)
    )
    rows = StreamedRows(table.to_iterable_dataset(), 2)
    rows.process = (1, 3)
    mine = list(itertools.islice(rows, 4))
    assert [row["name"] for row in mine] == [1, 4, 7, 10]
    assert all(isinstance(row["image"], Image.Image) for row in mine)
    assert len(decoded) == 4


def test_a_row_that_cannot_be_used_is_left_out_and_named_once(caplog):
    def prepare(row):
        if row["name"] == 1:
            raise OSError("damaged")
        return row

    rows = StreamedRows(Stream(numbered(4)), 2, prepare=prepare)
    assert [row["name"] for row in itertools.islice(rows, 6)] == [0, 2, 3, 0, 2, 3]
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "row 1 of the stream cannot be read and is left out: damaged"
    ]
    with pytest.raises(ValueError, match="row 1 of the stream cannot be read: damaged"):
        list(itertools.islice(StreamedRows(Stream(numbered(4)), 2, "raise", prepare), 4))


def test_a_stream_that_ends_too_soon_or_is_split_already_is_refused():
    with pytest.raises(ValueError, match=r"gives 3 usable rows to one of 1 workers.*a batch takes 4"):
        list(itertools.islice(StreamedRows(Stream(numbered(3)), 4), 4))
    with pytest.raises(ValueError, match="gives 0 usable rows"):
        next(iter(StreamedRows(Stream([]), 1)))
    split = split_dataset_by_node(STREAMS["of_datasets"](numbered(8)), rank=0, world_size=2)
    with pytest.raises(ValueError, match="the stream is split by process already"):
        StreamedRows(split, 2)


# In the trainers


def make_stream(rows, shards=2):
    """Rows of captions with images as `datasets` streams them."""
    columns = ("image", "caption", "negative_captions", "negative_mask")
    table = datasets.Dataset.from_list([{name: row[name] for name in columns if name in row} for row in rows])
    return table.to_iterable_dataset(num_shards=shards)


ROWS = tiny.make_rows(10)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("method", tiny.METHODS)
def test_dual_encoders_train_on_a_stream(tmp_path, method, workers, capsys):
    trainer = tiny.make_trainer(method, tmp_path, make_stream(ROWS), max_steps=3, dataloader_num_workers=workers)
    trainer.train()
    assert [entry["step"] for entry in trainer.state.log_history if "contrast" in entry] == [1, 2, 3]
    assert "of 10 rows have negatives" in capsys.readouterr().out


def test_a_stream_trains_to_the_weights_of_the_same_rows_in_order(tmp_path):
    """A stream and a list differ in nothing that is learned."""
    settings = {"max_steps": 2, "train_sampling_strategy": "sequential"}
    weights = []
    for rows in (ROWS, make_stream(ROWS)):
        trainer = tiny.make_trainer("negclip", tmp_path, rows, **settings)
        trainer.train()
        weights.append(trainer.model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-6)


def test_a_resumed_run_goes_on_in_the_midst_of_a_pass(tmp_path):
    """Ten rows in batches of four: the fourth step lies in the second pass."""
    settings = {"save_strategy": "steps", "save_steps": 4, "max_steps": 6}
    whole = tiny.make_trainer("negclip", tmp_path / "whole", make_stream(ROWS), **settings)
    whole.train()
    resumed = tiny.make_trainer("negclip", tmp_path / "resumed", make_stream(ROWS), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_an_evaluation_sees_each_row_of_a_stream_once(tmp_path):
    held = tiny.make_trainer("negclip", tmp_path, ROWS, eval_rows=make_stream(ROWS))
    plain = tiny.make_trainer("negclip", tmp_path, ROWS, eval_rows=ROWS)
    several = tiny.make_trainer("negclip", tmp_path, ROWS, eval_rows={"a": make_stream(ROWS)})
    expected = plain.evaluate()["eval_loss"]
    assert held.evaluate()["eval_loss"] == pytest.approx(expected)
    assert several.evaluate()["eval_a_loss"] == pytest.approx(expected)
    assert plain.evaluate(make_stream(ROWS))["eval_loss"] == pytest.approx(expected)


def test_a_stream_without_negatives_is_refused_as_rows_are(tmp_path):
    stream = make_stream([{name: row[name] for name in ("image", "caption")} for row in ROWS])
    trainer = tiny.make_trainer("negclip", tmp_path, stream, max_steps=2)
    with pytest.raises(ValueError, match="none of 10 rows has a negative"):
        trainer.train()


def test_what_needs_a_length_or_another_order_is_refused(tmp_path):
    with pytest.raises(ValueError, match="max_steps"):
        tiny.make_trainer("negclip", tmp_path, make_stream(ROWS), num_train_epochs=1)
    neighbors = Stream([{**row, "neighbors": [1]} for row in ROWS])
    with pytest.raises(ValueError, match="neighbors"):
        tiny.make_trainer("negclip", tmp_path, neighbors, max_steps=1)
    with pytest.raises(ValueError, match="a stream has no epochs"):
        tiny.make_trainer("ceclip", tmp_path, make_stream(ROWS), max_steps=1, as_released=True)
    with pytest.raises(ValueError, match="a stream has its own order already"):
        tiny_cal.make_trainer(tmp_path, Stream(tiny_cal.make_rows(4)), max_steps=1, group_by_modality=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_cal_trains_on_a_stream_and_counts_what_it_leaves_out(tmp_path, workers, caplog):
    rows = tiny_cal.make_rows(12)
    rows[1] = {**rows[1], "images": ["no_such_image.png"]}
    trainer = tiny_cal.make_trainer(
        tmp_path, Stream(rows), max_steps=5, per_device_train_batch_size=2, dataloader_num_workers=workers
    )
    trainer.train()
    assert isinstance(trainer.train_dataset, StreamedConversations)
    assert trainer.train_dataset.outcomes["unusable"] == 1
    assert "of the conversations of the stream: 1 unusable" in caplog.text


def test_comalign_reads_a_stream_once_and_refuses_to_train_on_it_unread(tmp_path):
    args = ComAlignArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    with pytest.raises(ValueError, match=r"read the stream once with ComponentFeatureRows\(stream"):
        ComAlignTrainer(model=None, args=args, train_dataset=Stream([]))
    rows = tiny_comalign.make_rows(4)
    read, expected = tiny_comalign.make_features(Stream(rows)), tiny_comalign.make_features(rows)
    for place in range(4):
        assert (read[place]["image_slots"] == expected[place]["image_slots"]).all()


# Formats


def test_a_format_of_tensors_is_taken_off_and_a_transform_stays(tmp_path):
    columns = ("image", "caption", "negative_captions", "negative_mask")
    table = datasets.Dataset.from_list([{name: row[name] for name in columns} for row in ROWS])
    assert not isinstance(table.with_format("torch")[0]["negative_mask"], list)
    row = plain_rows(table.with_format("torch"))[0]
    assert isinstance(row["image"], Image.Image)
    assert row["negative_mask"] == ROWS[0]["negative_mask"]
    assert set(plain_rows(table.with_format("torch", columns=["caption"]))[0]) == {"caption"}
    transformed = table.with_transform(lambda batch: {"caption": ["a cat"] * len(batch["caption"])})
    assert plain_rows(transformed)[0] == {"caption": "a cat"}
    weights = []
    for rows in (table, table.with_format("torch"), table.with_format("numpy")):
        trainer = tiny.make_trainer("negclip", tmp_path, rows, max_steps=1)
        trainer.train()
        weights.append(trainer.model.logit_scale.item())
    assert weights[0] == weights[1] == weights[2]


def test_held_rows_keep_images_as_bytes_until_they_are_read():
    held = HeldRows(make_stream(ROWS))
    assert isinstance(held.raw[0]["image"], dict)
    assert isinstance(held[0]["image"], Image.Image)
    assert len(held) == 10


# What the Trainer takes and we cannot heed


@pytest.mark.parametrize("method", tiny.METHODS)
def test_arguments_that_would_change_nothing_are_refused(tmp_path, method):
    with pytest.raises(ValueError, match=r"label_smoothing_factor=0\.1 would change nothing"):
        tiny.make_trainer(method, tmp_path, ROWS, label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match=r"'group_by_length' needs lengths.*accepted: random, sequential"):
        tiny.make_trainer(method, tmp_path, ROWS, train_sampling_strategy="group_by_length")
    trainer_class, arguments_class = tiny.METHODS[method][1:]
    with pytest.raises(ValueError, match=r"model_init is not supported.*pass model"):
        trainer_class(model=None, args=arguments_class(output_dir=str(tmp_path)), model_init=lambda: None)


def test_cal_refuses_them_too(tmp_path):
    with pytest.raises(ValueError, match="group_by_modality"):
        tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(4), train_sampling_strategy="group_by_length")
    with pytest.raises(ValueError, match="model_init"):
        CALTrainer(model=None, args=CALArguments(output_dir=str(tmp_path)), model_init=lambda: None)


@pytest.mark.parametrize("method", tiny.METHODS)
def test_a_tokenizer_without_a_length_takes_that_of_the_model(tmp_path, method):
    """`model_max_length` is 1e30 where a tokenizer's files do not state it; long captions must still be cut."""
    rows = [{**row, "caption": " ".join([row["caption"]] * 40)} for row in ROWS]
    trainer = tiny.make_trainer(method, tmp_path, rows, max_steps=1)
    trainer.processing_class.tokenizer.model_max_length = int(1e30)
    trainer.data_collator = trainer.make_collator(trainer.processing_class, trainer.model, trainer.args)
    trainer.train()
    assert next(iter(trainer.get_train_dataloader()))["input_ids"].shape[1] == 77


# Two processes


def read_share(folder):
    """Save which rows this process reads in two steps."""
    trainer = tiny.make_trainer(
        "negclip", folder, make_stream(tiny.make_rows(8)), max_steps=2, per_device_train_batch_size=2
    )
    batches = itertools.islice(trainer.get_train_dataloader(), 4)
    torch.save([batch["row"].tolist() for batch in batches], folder / f"{trainer.args.process_index}.pt")


def train_on_stream(folder):
    """Train, and save the weights."""
    trainer = tiny.make_trainer(
        "negclip",
        folder / "two",
        make_stream(tiny.make_rows(8)),
        max_steps=2,
        per_device_train_batch_size=2,
        optim="sgd",
        learning_rate=0.01,
    )
    trainer.train()
    trainer.save_model()


def test_two_processes_share_a_stream(tmp_path):
    two_processes.launch(read_share, tmp_path)
    shares = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert shares == [[[0, 2], [4, 6], [0, 2], [4, 6]], [[1, 3], [5, 7], [1, 3], [5, 7]]]


def test_two_processes_train_as_one_on_a_stream(tmp_path):
    two_processes.launch(train_on_stream, tmp_path)
    one = tiny.make_trainer(
        "negclip", tmp_path, make_stream(tiny.make_rows(8)), max_steps=2, optim="sgd", learning_rate=0.01
    )
    one.train()
    together = load_file(tmp_path / "two" / "model.safetensors")
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=2e-6)
