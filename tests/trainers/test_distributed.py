"""Two real processes (gloo) against one: values and parameter gradients of the global batch."""

import pytest
import torch
import torch.distributed as dist
import two_processes
from torch import nn
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from compalign.trainers.distributed import gather_rows
from compalign.trainers.losses import (
    clip_contrastive,
    cross_modal_rank,
    image_grounded_contrast,
    intra_modal_contrast,
    text_grounded_contrast,
)


class TwoTowers(nn.Module):
    """A dual encoder in miniature: one matrix a tower, and a scale."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(6, 5).double(), nn.Linear(4, 5).double()
        self.logit_scale = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

    def forward(self, image, caption, negative):
        texts = torch.cat([caption, negative.flatten(0, 1)])
        texts = normalize(self.text(texts), dim=-1)
        negative = texts[len(caption) :].reshape(*negative.shape[:2], 5)
        return normalize(self.image(image), dim=-1), texts[: len(caption)], negative, self.logit_scale.exp()


def make_rows(count, kinds):
    generator = torch.Generator().manual_seed(7)
    shapes = [(count, 6), (count, 4), (count, kinds, 4)]
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return *values, (torch.rand(count, kinds, generator=generator) > 0.3).double()


def total_loss(model, image, caption, negative, mask):
    image, caption, negative, scale = model(image, caption, negative)
    image, caption, negative, mask = gather_rows(image, caption, negative, mask)
    return (
        clip_contrastive(image, caption, scale, negative, mask)
        + image_grounded_contrast(image, caption, negative, scale, mask)
        + text_grounded_contrast(caption, caption.detach().flip(-1), negative, negative_mask=mask)
        + intra_modal_contrast(image, caption, negative, scale, mask)
        + cross_modal_rank(image, caption, negative, scale, 3.0, mask)[0]
    )


def train_half(folder, kinds, first):
    """One process's part: `first` rows on rank 0, the others on rank 1."""
    rank = dist.get_rank()
    rows = [value[:first] if rank == 0 else value[first:] for value in make_rows(6, kinds)]
    model = DistributedDataParallel(TwoTowers())
    loss = total_loss(model, *rows)
    loss.backward()
    result = {name: parameter.grad for name, parameter in model.module.named_parameters()}
    torch.save({"loss": loss.detach(), **result}, f"{folder}/rank{rank}.pt")


@pytest.mark.parametrize(("kinds", "first"), [(0, 3), (1, 3), (4, 3), (4, 5), (1, 2)])
def test_two_processes_equal_one(tmp_path, kinds, first):
    """Even (3 + 3) and uneven rows; each rank has other data."""
    two_processes.launch(train_half, tmp_path, kinds, first)
    model = TwoTowers()
    loss = total_loss(model, *make_rows(6, kinds))
    loss.backward()
    expected = {"loss": loss.detach(), **{name: parameter.grad for name, parameter in model.named_parameters()}}
    for rank in range(2):
        result = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert result.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(result[name], value, rtol=1e-12, atol=1e-14, msg=lambda m, n=name: f"{n}: {m}")


def bring_different_widths(folder):
    rank = dist.get_rank()
    try:
        gather_rows(torch.zeros(2, 3 + rank))
    except ValueError as error:
        with open(f"{folder}/rank{rank}.txt", "w") as file:
            file.write(str(error))


def test_different_negatives_a_process_are_refused_on_every_rank(tmp_path):
    two_processes.launch(bring_different_widths, tmp_path)
    for rank in range(2):
        assert "different widths (3, 4)" in (tmp_path / f"rank{rank}.txt").read_text()


def test_one_process_gathers_nothing():
    tensor = torch.zeros(2, 3)
    assert gather_rows(tensor)[0] is tensor


def test_rows_must_agree():
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        gather_rows(torch.zeros(2, 1), torch.zeros(3, 1))
