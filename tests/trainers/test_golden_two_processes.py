"""The fixtures of two processes: our gathered loss is the published one of the concatenated batch, gradients included.

Our gather hands each process the number of processes times its slice of the gradient, since DDP averages afterwards.
That is also what the published code does when it gathers with gradient; without, it hands out the bare slice. With
gradient, the published DeGLA puts the rows of the processes into a wrong order: its values are not those of the batch.
"""

import golden
import pytest
import torch
import torch.distributed as dist
import two_processes

from compalign.trainers.distributed import gather_rows
from compalign.trainers.losses import clip_contrastive, cross_modal_rank, intra_modal_contrast

WORLD = 2


def gathered(name, precision, rank):
    """This process's leaves, and the rows of the global batch in the layout of a case for one process."""
    tensors = golden.load(name, precision, f"rank{rank}.")
    tensors["logit_scale"] = golden.load(name, precision)["logit_scale"]
    leaves = {key: tensors[key].requires_grad_() for key in ("image_features", "text_features", "logit_scale")}
    rows = {key: value for key, value in (tensors | leaves).items() if key.endswith("features")}
    batch = len(rows["image_features"])
    pieces = []
    for key, value in rows.items():
        pieces += [value] if "image" in key else golden.split(value, batch)
    if "valid_caption_mask" in tensors:
        pieces.append(tensors["valid_caption_mask"].to(pieces[0].dtype))
    pieces = list(gather_rows(*pieces))
    whole = {"logit_scale": leaves["logit_scale"]}
    for key in rows:
        whole[key] = pieces.pop(0)
        if "text" in key:
            whole[key] = torch.cat([whole[key], pieces.pop(0).flatten(0, 1)])
    return leaves, whole, pieces[0] if pieces else None


def degla_total(name, whole, mask, negatives):
    terms = golden.degla_terms(golden.CASES[name]["flags"], whole, whole, negatives)
    return sum(weight * value for weight, value in terms.values())


def ceclip_total(name, whole, mask, negatives):
    flags, image, scale = golden.CASES[name]["flags"], whole["image_features"], whole["logit_scale"]
    caption, negative = golden.split(whole["text_features"], len(image))
    rank, _ = cross_modal_rank(image, caption, negative, scale, flags["initial_threshold"], mask, "mean", released=True)
    intra = intra_modal_contrast(image, caption, negative, scale, mask, negatives)
    base = clip_contrastive(image, caption, scale, negative)
    return base + flags["cmr_loss_weight"] * rank + flags["imc_loss_weight"] * intra


def backward_of_each_process(folder, name, precision, total, negatives):
    leaves, whole, mask = gathered(name, precision, dist.get_rank())
    value = total(name, whole, mask, negatives)
    gradients = torch.autograd.grad(value, list(leaves.values()))
    torch.save({"total": value.detach(), **dict(zip(leaves, gradients, strict=True))}, f"{folder}/{dist.get_rank()}.pt")


def run(folder, name, precision, total, negatives):
    """What each process came to."""
    two_processes.launch(backward_of_each_process, folder, name, precision, total, negatives)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize(("negatives", "suffix"), [("own", "_paper"), ("released", "_official")])
@pytest.mark.parametrize("name", golden.names("degla_dist"))
def test_degla(name, negatives, suffix, precision, tmp_path):
    stored = golden.load(name, precision, "concat.")
    for rank, result in enumerate(run(tmp_path, name, precision, degla_total, negatives)):
        golden.assert_matches(name, precision, result["total"], stored[f"total_loss{suffix}"])
        golden.assert_matches(
            name, precision, result["logit_scale"], stored[f"grad_logit_scale{suffix}"], gradient=True
        )
        for key in ("image_features", "text_features"):
            expected = stored[f"rank{rank}.grad_{key}{suffix}"]
            golden.assert_matches(name, precision, result[key] / WORLD, expected, gradient=True)


@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize("name", golden.names("ceclip_dist"))
def test_ceclip(name, precision, tmp_path):
    total = golden.load(name, precision, "concat.")["total_loss_official"]
    share = 1 if golden.CASES[name]["flags"]["gather_with_grad"] else WORLD
    for rank, result in enumerate(run(tmp_path, name, precision, ceclip_total, "head")):
        stored = golden.load(name, precision, f"rank{rank}.")
        golden.assert_matches(name, precision, result["total"], total)
        golden.assert_matches(
            name, precision, result["logit_scale"], stored["grad_logit_scale_official"], gradient=True
        )
        for key in ("image_features", "text_features"):
            expected = stored[f"grad_{key}_official"]
            golden.assert_matches(name, precision, result[key] / share, expected, gradient=True)
