"""The text side without padding: lengths, groups and order, each against a closed form or an exhaustive search."""

import json
import random
from itertools import combinations, pairwise

import pytest
import torch

from compalign.modeling.clip.grouped_text import (
    BOUNDARY_CANDIDATES,
    PADDING_SPREAD,
    caption_lengths,
    encode_in_groups,
    length_groups,
    number_of_groups,
)

EOS = 9


def padded_tokens(lengths: list[int], groups: list[list[int]]) -> int:
    return sum(len(group) * max(lengths[index] for index in group) for group in groups)


def cheapest_split(lengths: list[int], num_groups: int) -> int:
    """The least padded size over every way to cut the sorted lengths."""
    lengths = sorted(lengths)
    cuts = combinations(range(1, len(lengths)), num_groups - 1)
    splits = ([0, *cut, len(lengths)] for cut in cuts)
    return min(sum((end - start) * lengths[end - 1] for start, end in pairwise(split)) for split in splits)


@pytest.mark.parametrize(
    ("row", "eos_token_id", "length"),
    [
        ([8, 3, 9, 1, 1], EOS, 3),
        ([8, 3, 9, 9, 9], EOS, 3),  # padded with the end token: the first one counts
        ([8, 3, 4, 5, 9], EOS, 5),
        ([8, 3, 4, 5, 6], EOS, 1),  # without an end token CLIP reads position 0
        ([8, 3, 9, 1, 1], 2, 3),  # old configurations: the largest id
        ([8, 3, 9, 9, 9], 2, 3),
        ([8, 3, 4, 5, 6], 2, 1),
    ],
)
def test_a_caption_ends_where_clip_reads_it(row, eos_token_id, length):
    assert caption_lengths(torch.tensor([row]), eos_token_id).tolist() == [length]


def test_groups_hold_every_caption_once_and_are_as_many_as_asked():
    lengths = torch.randint(3, 30, (100,), generator=torch.Generator().manual_seed(0)).tolist()
    for num_groups in (1, 2, 7, BOUNDARY_CANDIDATES):
        groups = length_groups(lengths, num_groups)
        assert len(groups) == num_groups
        assert all(groups)
        assert sorted(index for group in groups for index in group) == list(range(100))


def test_equal_lengths_still_make_the_number_of_groups_that_was_asked_for():
    """Else processes with differently long captions would call a sharded model a different number of times."""
    assert [len(group) for group in length_groups([5] * 6, 3)] == [1, 1, 4]


@pytest.mark.parametrize("num_groups", [1, 2, 3, 4])
def test_no_other_split_of_the_sorted_lengths_has_less_padding(num_groups):
    for seed in range(20):
        lengths = torch.randint(3, 50, (9,), generator=torch.Generator().manual_seed(seed)).tolist()
        assert padded_tokens(lengths, length_groups(lengths, num_groups)) == cheapest_split(lengths, num_groups)


def test_one_long_caption_does_not_lengthen_the_others():
    lengths = [10] * 31 + [70]
    assert length_groups(lengths, 2) == [list(range(31)), [31]]


@pytest.mark.parametrize("num_groups", [0, 4, -1])
def test_an_impossible_number_of_groups_is_refused(num_groups):
    with pytest.raises(ValueError, match=rf"between 1 and 3 for 3 captions, got {num_groups}"):
        length_groups([4, 5, 6], num_groups)


def test_the_number_of_groups_grows_with_the_cube_root_of_captions_per_overhead():
    assert [number_of_groups(captions, 48) for captions in (1, 8, 27, 64)] == [1, 2, 3, 4]
    assert number_of_groups(8, 48_000) == 1
    assert number_of_groups(5, 1) == 5
    assert number_of_groups(10**9, 1) == BOUNDARY_CANDIDATES


def test_grouped_features_come_back_in_the_order_of_the_captions():
    lengths = [4, 2, 6, 2, 4, 6]
    ids = torch.arange(36).reshape(6, 6)
    seen = []

    def encode(group: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(group.shape))
        return group[:, :1].float()

    features = encode_in_groups(encode, ids, lengths, num_groups=3)
    assert torch.equal(features, ids[:, :1].float())
    assert seen == [(2, 2), (2, 4), (2, 6)]


def test_padding_of_english_captions_falls_with_the_square_of_the_number_of_groups(shared):
    """The rule behind `number_of_groups`, on SugarCrepe's captions, with words and two marks standing for tokens."""
    files = sorted((shared / "data" / "annotations" / "sugar_crepe").glob("*.json"))
    captions = [record["caption"] for file in files for record in json.loads(file.read_text()).values()]
    lengths = [len(caption.split()) + 2 for caption in random.Random(0).sample(captions, 1280)]
    for num_groups in (1, 2, 3, 4):
        padding = (padded_tokens(lengths, length_groups(lengths, num_groups)) - sum(lengths)) / len(lengths)
        assert 0.5 < padding * num_groups**2 / PADDING_SPREAD < 2
