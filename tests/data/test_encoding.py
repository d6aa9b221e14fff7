"""Everything distinct is encoded once, by one process or two, and remembered to the bit for the same encoder only."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch
import two_processes
from PIL import Image
from tiny import make_model, make_processor
from torch.nn.functional import normalize
from transformers import CLIPModel

from compalign.data.features import encode as encoding
from compalign.data.features.encode import feature_stores, store_images, store_texts
from compalign.data.features.fingerprint import encoder_fingerprint
from compalign.data.features.store import Features
from compalign.data.images import ImageCrop, UnreadableImage
from compalign.data.tokenization import train_clip_tokenizer

TEXTS = [" ".join(["red cat"] * (1 + number % 5)) + f" {number}" for number in range(11)]


@pytest.fixture(autouse=True)
def _one_thread():
    """As forked processes have it: the number of threads is allowed to change rounding."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.fixture
def model():
    return make_model(CLIPModel, dropout=0.5)


@pytest.fixture
def counts(model, monkeypatch) -> Counter:
    """What passes through the model, and how many files are decoded."""
    return counted(model, monkeypatch.setattr)


def counted(model, put) -> Counter:
    counter = Counter()
    images, texts, opened = model.get_image_features, model.get_text_features, encoding.open_image

    def count_images(pixel_values):
        counter["images"] += len(pixel_values)
        return images(pixel_values=pixel_values)

    def count_texts(input_ids, **inputs):
        counter["texts"] += len(input_ids)
        return texts(input_ids=input_ids, **inputs)

    def count_opened(source):
        counter["decoded"] += 1
        return opened(source)

    put(model, "get_image_features", count_images)
    put(model, "get_text_features", count_texts)
    put(encoding, "open_image", count_opened)
    return counter


def encode_images(model, processor, images, store=None, **options) -> torch.Tensor:
    """The features of images, through a store that is forgotten unless one is given."""
    store = Features() if store is None else store
    return store.read(store_images(model, processor, images, store, **options).keys)


def encode_texts(model, processor, texts, store=None, **options) -> torch.Tensor:
    store = Features() if store is None else store
    return store.read(store_texts(model, processor, texts, store, **options).keys)


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.fixture
def files(tmp_path) -> list:
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for number, path in enumerate(paths):
        noise(number).save(path)
    return paths


def boxes(count: int) -> list[tuple[float, float, float, float]]:
    return [(number, 2.5, number + 20, 30) for number in range(count)]


def test_a_file_is_decoded_once_for_all_its_crops(model, processor, files, counts):
    crops = [ImageCrop(path, box) for box in boxes(3) for path in files]  # those of one file are far apart
    request = [*crops, *files, *crops[:5]]
    features = encode_images(model, processor, request, batch_size=8, progress=False)
    assert counts == {"images": 3 * 7 + 7, "decoded": 7}
    cut = [noise(k).crop((n, 2, n + 20, 30)) for n in range(3) for k in range(7)]
    expected = encode_images(model, processor, [*cut, *map(noise, range(7)), *cut[:5]], batch_size=1, progress=False)
    torch.testing.assert_close(normalize(features, dim=-1), normalize(expected, dim=-1), atol=2e-6, rtol=0)
    assert torch.equal(features[:5], features[-5:])


def test_no_batch_is_larger_than_asked_and_all_are_filled_with_whole_pictures():
    groups = [[f"{name}{number}" for number in range(size)] for name, size in zip("abcd", (2, 3, 9, 1), strict=True)]
    packed = encoding._packed(groups, 4)
    assert [[len(piece) for piece in batch] for batch in packed] == [[2], [3], [4], [4], [1, 1]]
    assert [key for batch in packed for piece in batch for key in piece] == [key for group in groups for key in group]


def test_a_box_outside_its_picture_is_named(model, processor, files):
    with pytest.raises(UnreadableImage, match=r"3.png: box \(70, 0, 80, 9\) holds none of the 60 x 40 pixels"):
        encode_images(model, processor, [*files, ImageCrop(files[3], (70, 0, 80, 9))], progress=False)


def test_embeddings_are_as_the_model_projects_them(model, processor, files):
    raw = encode_images(model, processor, files, progress=False)
    with torch.no_grad():
        pixels = processor.image_processor([noise(k) for k in range(7)], return_tensors="pt")
        expected = model.eval().get_image_features(**pixels).pooler_output
    torch.testing.assert_close(raw, expected, atol=2e-6, rtol=0)
    texts = encode_texts(model, processor, TEXTS, progress=False)
    assert not (texts.norm(dim=-1) - 1).abs().max() < 0.1
    assert not texts.is_inference()


def both(model, processor, files, folder=None, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and texts, through the stores of a folder where one is given."""
    stores = (None, None) if folder is None else feature_stores(folder, model, processor)
    options = {"batch_size": 2, "progress": False, "flush_every": 1, **options}
    images = encode_images(model, processor, files, stores[0], **options)
    return images, encode_texts(model, processor, TEXTS, stores[1], **options)


def assert_same(first, second) -> None:
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_a_second_run_passes_nothing_through_the_model_and_gives_the_same_bits(
    model, processor, files, counts, tmp_path
):
    fresh = both(model, processor, files)
    stored = both(model, processor, files, tmp_path)
    counts.clear()
    assert_same(stored, fresh)
    assert_same(both(model, processor, files, tmp_path), fresh)
    assert not counts


@pytest.mark.parametrize(("kind", "whole"), [("image", 7), ("text", 11)])
def test_an_interrupted_run_goes_on_where_it_was(model, processor, files, counts, tmp_path, monkeypatch, kind, whole):
    expected = both(model, processor, files)
    counts.clear()
    encode = getattr(model, f"get_{kind}_features")

    def interrupted(**inputs):
        if counts[f"{kind}s"] == 4:
            raise KeyboardInterrupt
        return encode(**inputs)

    monkeypatch.setattr(model, f"get_{kind}_features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        both(model, processor, files, tmp_path)
    monkeypatch.setattr(model, f"get_{kind}_features", encode)
    counts.clear()
    assert_same(both(model, processor, files, tmp_path), expected)
    assert counts[f"{kind}s"] == whole - 4


def test_a_damaged_store_is_filled_again(model, processor, files, counts, tmp_path):
    expected = both(model, processor, files, tmp_path)
    for store in feature_stores(tmp_path, model, processor):
        path = sorted(store.folder.glob("*.safetensors"))[1]
        path.write_bytes(path.read_bytes()[:-3])
    counts.clear()
    assert_same(both(model, processor, files, tmp_path), expected)
    assert (counts["images"], counts["texts"]) == (2, 2)


def change_weight(name):
    def change(model, processor):
        with torch.no_grad():
            model.get_parameter(name).view(-1)[0] += 1e-3

    return change


def change_activation(model, processor):
    model.config.vision_config.hidden_act = model.config.text_config.hidden_act = "gelu"


def change_size(model, processor):
    processor.image_processor.size = {"shortest_edge": 40}


def change_tokenizer(model, processor):
    processor.tokenizer = train_clip_tokenizer(["a red dog"], vocab_size=520, max_length=77)


def change_length(model, processor):
    processor.tokenizer.model_max_length = 9


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (change_weight("vision_model.post_layernorm.weight"), {"images"}),
        (change_weight("visual_projection.weight"), {"images"}),
        (change_weight("text_projection.weight"), {"texts"}),
        (change_weight("logit_scale"), set()),
        (change_activation, {"images", "texts"}),
        (lambda model, processor: model.bfloat16(), {"images", "texts"}),
        (change_size, {"images"}),
        (change_tokenizer, {"texts"}),
        (change_length, {"texts"}),
        (lambda model, processor: model.eval(), set()),
    ],
)
def test_a_changed_encoder_encodes_again_only_what_it_changed(model, processor, files, counts, tmp_path, change, again):
    processor = copy.deepcopy(processor)
    both(model, processor, files, tmp_path)
    counts.clear()
    change(model, processor)
    both(model, processor, files, tmp_path)
    assert {kind for kind in ("images", "texts") if counts[kind]} == again


def test_a_fingerprint_does_not_depend_on_earlier_calls(model, processor):
    before = encoder_fingerprint(model, processor)
    processor.tokenizer(TEXTS, padding="max_length", truncation=True, max_length=5)
    assert encoder_fingerprint(model, processor) == before


def test_half_of_the_space_costs_half_of_the_precision_and_nothing_else(model, processor, files, tmp_path):
    store, _ = feature_stores(tmp_path, model, processor, dtype=torch.float16)
    raw = encode_images(model, processor, files, progress=False)
    assert torch.equal(encode_images(model, processor, files, store, progress=False), raw.half().float())


def test_nothing_asked_is_nothing_done(model, processor):
    assert len(encode_images(model, processor, [], progress=False)) == 0
    assert len(encode_texts(model, processor, [], progress=False)) == 0


def encode_together(kind, crops, folder) -> None:
    """One process's part, saved with what it cost; each keeps its own store, both the same, or none."""
    rank = torch.distributed.get_rank()
    model, processor = make_model(CLIPModel), make_processor()
    counts = counted(model, setattr)
    store = {"memory": None, "own": folder / f"store{rank}", "shared": folder / "store"}[kind]
    features = both(model, processor, crops, store)
    torch.save((features, dict(counts)), folder / f"{rank}.pt")


@pytest.mark.parametrize("kind", ["memory", "own", "shared"])
def test_two_processes_share_the_work_and_both_get_the_bits_of_one(processor, files, tmp_path, kind):
    crops = [*files, *(ImageCrop(path, box) for path in files for box in boxes(2))]
    expected = both(make_model(CLIPModel), processor, crops)
    two_processes.launch(encode_together, kind, crops, tmp_path)
    totals = Counter()
    for rank in range(2):
        features, counts = torch.load(tmp_path / f"{rank}.pt")
        assert_same(features, expected)
        assert 0 < counts["images"] < len(crops)
        totals.update(counts)
    assert (totals["images"], totals["texts"]) == (21, 11)
    if kind == "shared":
        stores = feature_stores(tmp_path / "store", make_model(CLIPModel), processor)
        assert [len(store) for store in stores] == [21, 11]
        assert sum(int(path.name.split("-")[1]) for path in stores[0].folder.glob("*.safetensors")) == 21


def ask_differently(files, folder) -> None:
    rank = torch.distributed.get_rank()
    with pytest.raises(ValueError, match="all 2 processes must request the same items"):
        store_images(make_model(CLIPModel), make_processor(), files[rank:], Features(), progress=False)
    (folder / f"{rank}.refused").touch()


def test_processes_that_ask_for_different_things_are_refused(files, tmp_path):
    two_processes.launch(ask_differently, files, tmp_path)
    assert len(list(tmp_path.glob("*.refused"))) == 2
