"""Steps hold rows of one kind and like lengths, in an order that seed and epoch decide."""

import itertools
import random

import pytest
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset, Image, List
from torch.utils.data import DataLoader

from compalign.data.scenes import SceneConversationDataset
from compalign.trainers.cal_rows import ModalityLengthSampler, estimate_lengths

BATCH = 8


def make_lengths(rows=1003, seed=0):
    """Random lengths; about a third of the rows are text."""
    draw = random.Random(seed)
    return [draw.randint(1, 1000) for _ in range(rows)], [draw.random() < 2 / 3 for _ in range(rows)]


def make_steps(sampler):
    """The rows in the sampler's order, step by step."""
    order = list(sampler)
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 31, 1003])
def test_every_row_comes_once(rows):
    sampler = ModalityLengthSampler(*make_lengths(rows), BATCH)
    assert sorted(sampler) == list(range(rows))
    assert len(sampler) == rows


def test_steps_hold_one_kind_and_what_is_left_over_comes_last():
    lengths, has_image = make_lengths()
    for epoch in range(5):
        sampler = ModalityLengthSampler(lengths, has_image, BATCH)
        sampler.set_epoch(epoch)
        steps = make_steps(sampler)
        full = sum(has_image) // BATCH + (len(lengths) - sum(has_image)) // BATCH
        kinds = [{has_image[row] for row in step} for step in steps]
        assert all(len(kind) == 1 for kind in kinds[:full])
        assert len(steps) - full <= 2
        rest = [has_image[row] for step in steps[full:] for row in step]
        assert rest == sorted(rest, reverse=True)  # images first, so that one step at most is mixed


def rounds(sampler):
    """The rows that all processes read at once, time by time."""
    order = list(sampler)
    return [order[start : start + sampler.at_once] for start in range(0, len(order), sampler.at_once)]


@pytest.mark.parametrize("at_once", [2, 4, BATCH])
@pytest.mark.parametrize("rows", [31, 1003])
def test_processes_read_rows_of_one_kind_and_none_twice_at_once(rows, at_once):
    """Up to the last of them, which the leftovers of a kind share with further rows of it."""
    lengths, has_image = make_lengths(rows)
    for epoch in range(5):
        sampler = ModalityLengthSampler(lengths, has_image, BATCH, at_once=at_once)
        sampler.set_epoch(epoch)
        read = rounds(sampler)
        assert all(len(set(together)) == at_once for together in read)
        assert all(len({has_image[row] for row in together}) == 1 for together in read)
        order = [row for together in read for row in together]
        assert set(order) == set(range(rows))
        assert len(order) == len(sampler) < rows + 2 * at_once


@pytest.mark.parametrize(("images", "texts"), [(1000, 3), (3, 1000), (20, 0), (5, 5), (8, 7), (3, 4), (0, 0)])
def test_a_kind_of_few_rows_is_mixed_with_the_other_and_no_row_comes_twice_at_once(images, texts):
    has_image = [True] * images + [False] * texts
    sampler = ModalityLengthSampler([1] * len(has_image), has_image, BATCH, at_once=BATCH)
    order = list(sampler)
    assert set(order) == set(range(images + texts))
    assert len(order) == len(sampler) < images + texts + BATCH
    assert all(len(set(together)) == len(together) for together in rounds(sampler))


def test_rows_that_fill_up_differ_between_epochs():
    sampler = ModalityLengthSampler(*make_lengths(1003), BATCH, at_once=BATCH)
    again = []
    for epoch in range(5):
        sampler.set_epoch(epoch)
        order = list(sampler)
        again.append(frozenset(row for row in order if order.count(row) > 1))
    assert len(set(again)) == 5


def test_kinds_are_mixed_over_the_epoch():
    lengths, has_image = make_lengths()
    kinds = [has_image[step[0]] for step in make_steps(ModalityLengthSampler(lengths, has_image, BATCH))]
    runs = [len(list(run)) for _, run in itertools.groupby(kinds)]
    assert max(runs) < 25  # of 125 steps


def padded_share(steps, lengths):
    """Tokens of padding, of all."""
    padded = sum(len(step) * max(lengths[row] for row in step) for step in steps)
    return 1 - sum(lengths) / padded


def test_little_is_padded():
    lengths, has_image = make_lengths()
    grouped = make_steps(ModalityLengthSampler(lengths, has_image, BATCH))
    shuffled = make_steps(random.Random(0).sample(range(len(lengths)), len(lengths)))
    assert padded_share(shuffled, lengths) > 0.4
    assert padded_share(grouped, lengths) < 0.1


def test_the_longest_row_comes_first():
    lengths, has_image = make_lengths()
    longest = 500
    lengths[longest] = 1001
    for epoch in range(5):
        sampler = ModalityLengthSampler(lengths, has_image, BATCH)
        sampler.set_epoch(epoch)
        assert next(iter(sampler)) == longest


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed=0, epoch=0, before=()):
        sampler = ModalityLengthSampler(*make_lengths(), BATCH, seed)
        for earlier in before:
            sampler.set_epoch(earlier)
            list(sampler)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(epoch=3) == order(epoch=3, before=(0, 1, 2))
    others = [order(), order(epoch=1), order(epoch=2), order(seed=1)]
    for one, other in itertools.combinations(others, 2):
        assert sum(first == second for first, second in zip(one, other, strict=True)) < len(one) / 4


@pytest.mark.parametrize("rows", [64, 1003])
def test_a_row_meets_other_rows_in_every_epoch(rows):
    sampler = ModalityLengthSampler(*make_lengths(rows), BATCH)
    company = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        company.append({frozenset(step) for step in make_steps(sampler)})
    assert len(company[0] & company[1]) <= 1


def test_all_processes_take_one_step_of_one_kind_and_follow_the_epoch():
    lengths, has_image = make_lengths(64 * BATCH)
    has_image = [row % 2 == 0 for row in range(len(lengths))]

    def batches(process, epoch):
        sampler = ModalityLengthSampler(lengths, has_image, 2 * BATCH, seed=1)
        loader = DataLoader(range(len(lengths)), BATCH, sampler=sampler, collate_fn=list)
        loader = prepare_data_loader(
            loader, num_processes=2, process_index=process, put_on_device=False, use_seedable_sampler=True
        )
        loader.set_epoch(epoch)
        return list(loader)

    for epoch in (0, 1):
        steps = list(zip(batches(0, epoch), batches(1, epoch), strict=True))
        assert sorted(row for step in steps for batch in step for row in batch) == list(range(len(lengths)))
        for step in steps:
            assert len({has_image[row] for batch in step for row in batch}) == 1
    assert batches(0, 0) != batches(0, 1)


def test_the_tail_of_an_epoch_reaches_all_processes_by_kinds():
    """With leftovers of both kinds, as in LLaVA's 624,610 rows with images and 40,688 of text."""
    lengths, has_image = make_lengths(1003)
    seen = []
    for process in range(4):
        sampler = ModalityLengthSampler(lengths, has_image, 2 * 4 * 3, at_once=2 * 4)
        loader = prepare_data_loader(
            DataLoader(range(1003), 2, sampler=sampler, collate_fn=list),
            num_processes=4,
            process_index=process,
            put_on_device=False,
        )
        seen.append(list(loader))
        assert len(seen[-1]) == len(loader)
    for batches in zip(*seen, strict=True):
        together = [row for batch in batches for row in batch]
        assert len(set(together)) == 8
        assert len({has_image[row] for row in together}) == 1
    assert {row for batches in seen for batch in batches for row in batch} == set(range(1003))


def test_a_bad_call_is_refused():
    with pytest.raises(ValueError, match="2 lengths for 3 rows"):
        ModalityLengthSampler([1, 2], [True] * 3, BATCH)
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        ModalityLengthSampler([1], [True], 0)
    with pytest.raises(ValueError, match="batch_size=8 must be a multiple of at_once=3"):
        ModalityLengthSampler([1], [True], 8, at_once=3)


TEXT = {"type": "text", "text": "x" * 40}
IMAGE = {"type": "image", "text": None}
MESSAGES = [
    [{"role": "user", "content": [TEXT]}, {"role": "assistant", "content": [TEXT, TEXT]}],
    [{"role": "user", "content": [IMAGE, TEXT, IMAGE]}, {"role": "assistant", "content": [TEXT]}],
]


def test_lengths_come_from_characters_and_images():
    rows = [{"messages": messages} for messages in MESSAGES]
    assert estimate_lengths(rows, tokens_per_image=100) == ([30, 220], [False, True])
    assert estimate_lengths(rows) == ([30, 20 + 2 * 576], [False, True])


def test_lengths_of_generated_conversations_are_estimated_row_by_row():
    assert estimate_lengths(SceneConversationDataset(3), tokens_per_image=0)[1] == [True] * 3


def test_no_image_is_opened_for_its_length():
    rows = Dataset.from_dict({"images": [[], ["absent.jpg"] * 2], "messages": MESSAGES})
    rows = rows.cast_column("images", List(Image()))
    with pytest.raises(FileNotFoundError):
        rows[1]
    assert estimate_lengths(rows, tokens_per_image=100) == ([30, 220], [False, True])
