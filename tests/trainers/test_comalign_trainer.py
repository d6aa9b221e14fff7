"""ComAlignTrainer: its loss equals the plain form, masks hold, and processes train as one."""

import json
import math

import numpy as np
import pytest
import tiny_comalign
import torch
from launch import TWO_PROCESSES, succeed
from transformers import AutoModel

from compalign.data.features.slots import EMPTY
from compalign.data.features.store import Features
from compalign.trainers import ComAlignArguments, ComAlignTrainer
from compalign.trainers.comalign import ComponentCollator
from compalign.trainers.losses import component_similarity, similarity_contrast

SCALE = torch.tensor(3.0)


def test_contrast_of_two_pairs_by_hand():
    """Rows 0.5, 0.1 and -0.2, 0.4 one way; 0.3, 0.0 and 0.2, 0.6 the other."""
    image_to_text = torch.tensor([[0.5, 0.1], [-0.2, 0.4]])
    text_to_image = torch.tensor([[0.3, 0.0], [0.2, 0.6]])
    gaps = (0.4, 0.6, 0.3, 0.4)
    expected = sum(math.log1p(math.exp(-3 * gap)) for gap in gaps) / 4
    assert similarity_contrast(image_to_text, text_to_image, SCALE).item() == pytest.approx(expected, rel=1e-6)


def test_false_captions_meet_images_only():
    similarity = torch.tensor([[0.5, 0.1, 0.4], [-0.2, 0.4, 0.9]])
    text_to_image = torch.tensor([[0.3, 0.0], [0.2, 0.6], [9.0, 9.0]])
    images = [math.log(sum(math.exp(3 * (value - row[own])) for value in row)) for own, row in enumerate(similarity)]
    texts = [math.log1p(math.exp(-3 * gap)) for gap in (0.3, 0.4)]
    expected = (sum(images) + sum(texts)) / 4
    assert similarity_contrast(similarity, text_to_image, SCALE).item() == pytest.approx(expected, rel=1e-6)


def test_what_is_not_defined_takes_no_part():
    """Three pairs of which the second lacks the role: the loss is that of the other two, with their gradients."""
    generator = torch.Generator().manual_seed(0)
    one_way, other_way = (torch.randn(3, 3, generator=generator, requires_grad=True) for _ in range(2))
    defined = torch.tensor([[True, False, True], [False, False, False], [True, False, True]])
    keep = torch.tensor([0, 2])
    loss = similarity_contrast(one_way, other_way, SCALE, defined)
    alone = similarity_contrast(one_way[keep][:, keep], other_way[keep][:, keep], SCALE)
    torch.testing.assert_close(loss, alone)
    gradient = torch.autograd.grad(loss, one_way)[0]
    assert gradient.isfinite().all()
    assert gradient[1].abs().sum() == gradient[:, 1].abs().sum() == 0
    assert similarity_contrast(one_way, other_way, SCALE, torch.zeros_like(defined)).item() == 0


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"got \(2, 3\), \(2, 3\)"):
        similarity_contrast(torch.zeros(2, 3), torch.zeros(2, 3), SCALE)


@pytest.mark.parametrize("chunk", [None, 3])
def test_loss_and_gradients_equal_the_plain_form(chunk, tmp_path):
    features = tiny_comalign.make_features(tiny_comalign.make_rows(6))
    trainer = tiny_comalign.make_trainer(tmp_path, features, chunk=chunk, per_device_train_batch_size=6)
    model = trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(model, batch)
    output = model(
        **{name: batch[name] for name in batch if name.split("_")[0] in ("image", "text") and "exists" not in name}
    )
    expected = 0
    for role in (slice(4), slice(4, None)):
        masks = output.image_mask[:, role], output.text_mask[:, role]
        both = component_similarity(output.image_components[:, role], output.text_components[:, role], *masks)
        defined = masks[0].any(1)[:, None] & masks[1].any(1)
        expected += similarity_contrast(*both, output.logit_scale, defined)
    cosine = output.image_embeds @ output.text_embeds.T
    expected += similarity_contrast(cosine, cosine.T, output.logit_scale, batch["text_exists"].expand_as(cosine))
    torch.testing.assert_close(loss, expected)
    leaves = list(model.parameters())
    for one, two in zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_features_stand_in_their_slots():
    """The whole, then entities, then relations; what is not there is empty and masked, never a silent zero."""
    rows = tiny_comalign.make_rows(5, num_negatives=1)
    features = tiny_comalign.make_features(rows)
    row = rows[0]
    item = features[0]
    assert (item["image_slots"] != EMPTY).tolist() == [True] + [
        index < len(row[role]) for role, most in (("entities", 4), ("relations", 3)) for index in range(most)
    ]
    assert (features[3]["image_slots"][1:] == EMPTY).all()
    collate = ComponentCollator(features.image_features, features.text_features, num_negatives=2)
    batch = collate([{**features[index], "row": index, "epoch": 0} for index in range(5)])
    assert batch["image_components"].shape == (5, 7, 16)
    assert batch["text_components"].shape == (15, 7, 16)
    assert batch["text_exists"].tolist() == [True] * 5 + [True, False] * 5
    assert not batch["image_mask"][3].any()
    assert not batch["text_mask"][4].any()
    assert not batch["image_components"][~batch["image_mask"]].any()
    direct = features.image_features.take(item["image_slots"][1:2])
    torch.testing.assert_close(batch["image_components"][:1, 0], direct)


def test_the_caption_of_an_epoch_is_a_function_of_seed_epoch_and_row():
    store = Features()
    store.append([f"{index:064x}" for index in range(6)], torch.eye(6))
    slots = [np.array([index, EMPTY]) for index in range(6)]

    def drawn(epoch, seed=0):
        row = {"image_slots": slots[0], "caption_slots": slots, "negative_slots": [], "row": 7, "epoch": epoch}
        return ComponentCollator(store, store, seed=seed)([row])["text_global"].argmax().item()

    assert [drawn(epoch) for epoch in range(20)] == [drawn(epoch) for epoch in range(20)]
    assert len({drawn(epoch) for epoch in range(20)}) > 2
    assert [drawn(epoch) for epoch in range(20)] != [drawn(epoch, seed=1) for epoch in range(20)]


def test_two_processes_train_as_one(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    tiny_comalign.main("8", str(tmp_path / "one"))
    succeed(*TWO_PROCESSES, tiny_comalign.__file__, 4, tmp_path / "two")
    one = torch.load(tmp_path / "one" / "rank0.pt", weights_only=True)
    for rank in range(2):
        two = torch.load(tmp_path / "two" / f"rank{rank}.pt", weights_only=True)
        for name, value in one["state"].items():
            torch.testing.assert_close(
                two["state"][name], value, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
            )
    for term in ("loss", "entity", "relation", "global"):
        assert two["log"][0][term] == pytest.approx(one["log"][0][term], rel=1e-5)


def test_it_learns(tmp_path):
    features = tiny_comalign.make_features(tiny_comalign.make_rows(16))
    trainer = tiny_comalign.make_trainer(
        tmp_path, features, max_steps=60, per_device_train_batch_size=16, learning_rate=2e-2
    )
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert losses[-1] < 0.7 * losses[0]


def test_the_entry_point_trains_and_a_second_run_encodes_nothing(tmp_path):
    flags = ["--config", "scripts/recipes/comalign_scenes.yaml", "--scenes", 64, "--max_steps", 2]
    flags += [
        "--per_device_train_batch_size",
        16,
        "--features",
        tmp_path / "features",
        "--output_dir",
        tmp_path / "out",
    ]
    first = succeed("trainers/train_comalign.py", *flags)
    assert "train_samples_per_second" in first.stdout
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert type(model).__name__ == "ComAlignModel"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["entities"] == 4
    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "features").rglob("*") if path.is_file()}
    succeed("trainers/train_comalign.py", *flags)
    assert shards == {path: path.stat().st_mtime_ns for path in (tmp_path / "features").rglob("*") if path.is_file()}


def test_a_trainer_without_rows_says_where_it_reads_features_from(tmp_path):
    args = ComAlignArguments(str(tmp_path), use_cpu=True, report_to=[])
    with pytest.raises(ValueError, match=r"ComAlignTrainer reads features .* give train_dataset, or a data_collator"):
        ComAlignTrainer(tiny_comalign.make_model(), args)


@pytest.mark.parametrize("unused", ["crop_scale", "negative_choice"])
def test_arguments_that_nothing_would_use_are_not_accepted(unused, tmp_path):
    with pytest.raises(TypeError, match=unused):
        ComAlignArguments(str(tmp_path), **{unused: None})
