"""Every format of captions people have gives the same columns."""

import json
import pickle

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from compalign.data.readers.captions import load_captions

CAPTIONS = ["A small dog sleeps beside a red bicycle.", "A boy throws a blue ball near a tree."]
NEGATIVES = [["A red dog sleeps beside a small bicycle."], ["A ball throws a blue boy near a tree.", "It's a girl."]]
NAMES = [f"train2014/COCO_train2014_{number:012d}.jpg" for number in range(2)]
COLUMNS = ["image", "caption", "negative_captions", "negative_mask", "image_id"]


@pytest.fixture
def folder(tmp_path):
    """A folder with two pictures, red and blue, under COCO 2014 names."""
    (tmp_path / "train2014").mkdir()
    for number, (name, colour) in enumerate(zip(NAMES, ["red", "blue"], strict=True)):
        Image.new("RGB", (8 + number, 8), colour).save(tmp_path / name)
    return tmp_path


def written(folder, name, content):
    """Write text as it is, records as JSON lines or JSON by the suffix."""
    path = folder / name
    if name.endswith(".jsonl"):
        content = "\n".join(map(json.dumps, content)) + "\n"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def check_both_rows(dataset, image_ids=("0", "1"), negatives=NEGATIVES):
    assert dataset.column_names == COLUMNS
    assert [image.size for image in dataset["image"]] == [(8, 8), (9, 8)]
    assert dataset["caption"][:] == CAPTIONS
    assert dataset["negative_captions"][:] == negatives
    assert dataset["negative_mask"][:] == [[1] * len(row) for row in negatives]
    assert dataset["image_id"][:] == list(image_ids)


def table(**columns):
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_coco_captions(folder):
    images = [{"id": number + 40, "file_name": name.split("/")[1]} for number, name in enumerate(NAMES)]
    annotations = [{"id": n, "image_id": n + 40, "caption": caption} for n, caption in enumerate(CAPTIONS)]
    path = written(folder, "captions.json", {"images": images, "annotations": annotations})
    check_both_rows(load_captions(path, images=folder / "train2014"), ("40", "41"), [[], []])


def test_degla_list(folder):
    rows = table(image_id=[0, 1], original=CAPTIONS, enhanced=NEGATIVES)
    check_both_rows(load_captions(written(folder, "degla.json", rows)))
    (folder / "train2014/COCO_train2014_000000000000.jpg").rename(folder / "0.jpg")
    (folder / "train2014/COCO_train2014_000000000001.jpg").rename(folder / "1.jpg")
    check_both_rows(load_captions(folder / "degla.json", image_pattern="{image_id}.jpg"))


def test_negclip_tsv_with_python_literals(folder):
    lines = ["filepath\ttitle\tneg_caption\tneg_image"]
    lines += [f"{NAMES[0]}\t{CAPTIONS[0]}\t{NEGATIVES[0]}\t[1]"]
    lines += [f'{NAMES[1]}\t{CAPTIONS[1]}\t"{str(NEGATIVES[1]).replace(chr(34), chr(34) * 2)}"\t[0, 1]']
    dataset = load_captions(written(folder, "negclip.tsv", "\n".join(lines)))
    assert dataset["neighbors"][:] == [[1], [0, 1]]
    check_both_rows(dataset.remove_columns("neighbors"), NAMES)


def test_literals_are_parsed_never_evaluated(folder):
    attack = f"[__import__('pathlib').Path('{folder}/owned').touch()]"
    text = f"filepath\ttitle\tneg_caption\n{NAMES[0]}\tA dog.\t{attack}\n{NAMES[1]}\tA cat.\t[]\n"
    assert load_captions(written(folder, "negclip.tsv", text))["caption"][:] == ["A cat."]
    assert not (folder / "owned").exists()


def ceclip_rows():
    columns = ["relation_aug_caption", "adj_aug_caption", "noun_aug_caption", "verb_aug_caption", "valid_caption"]
    values = [["A dog.", "a ball", "A cat.", "### ", [1, 1, 1, 0, 1]], ["a", "b", "c", None, [1, 1, 0, 1, 1]]]
    return [
        {"image_id": n, "id": n, "caption": CAPTIONS[n], **dict(zip(columns, values[n], strict=True))} for n in range(2)
    ]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_ceclip_types_keep_their_column_and_are_masked(folder, suffix):
    """Columns are relation, adjective, noun, verb; `valid_caption` has the caption first."""
    path = folder / f"ceclip{suffix}"
    if suffix == ".parquet":
        Dataset.from_list(ceclip_rows()).to_parquet(path)
    else:
        written(folder, path.name, ceclip_rows())
    dataset = load_captions(path)
    assert dataset["negative_captions"][:] == [["A dog.", "a ball", "A cat.", "### "], ["a", "b", "c", ""]]
    assert dataset["negative_mask"][:] == [[1, 1, 0, 0], [1, 0, 1, 0]]
    assert dataset["image_id"][:] == ["0", "1"]


def test_a_pickle_is_never_read_and_the_way_out_is_named(folder):
    class Attack:
        def __reduce__(self):
            return (folder.joinpath("owned").touch, ())

    (folder / "rows.npy").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ValueError, match=r"rows\.npy is a pickle.*convert"):
        load_captions(folder / "rows.npy")
    assert not (folder / "owned").exists()


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".parquet"])
def test_tables(folder, suffix):
    rows = table(image=NAMES, caption=CAPTIONS, negative_captions=NEGATIVES, image_id=[0, 1])
    path = folder / f"table{suffix}"
    if suffix in (".csv", ".tsv"):
        cells = [{**row, "negative_captions": json.dumps(row["negative_captions"])} for row in rows]
        Dataset.from_list(cells).to_csv(path, sep="," if suffix == ".csv" else "\t")
    elif suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    else:
        written(folder, path.name, rows)
    check_both_rows(load_captions(path))


def test_a_byte_order_mark_is_no_part_of_the_first_column(folder):
    (folder / "excel.csv").write_text(f"image,caption\n{NAMES[0]},A dog.\n", encoding="utf-8-sig")
    assert load_captions(folder / "excel.csv")["caption"][:] == ["A dog."]


def test_a_table_may_name_its_columns(folder):
    rows = table(picture=NAMES, words=CAPTIONS)
    path = written(folder, "table.jsonl", rows)
    dataset = load_captions(path, image_column="picture", caption_column="words")
    check_both_rows(dataset, NAMES, [[], []])


def test_a_given_mask_is_kept_with_its_slots(folder):
    rows = table(
        image=NAMES,
        caption=CAPTIONS,
        negative_captions=[["a", "b"], ["c", "C."]],
        negative_mask=[[0, 1], [1, 1]],
    )
    dataset = load_captions(written(folder, "table.jsonl", rows))
    assert dataset["negative_captions"][:] == [["a", "b"], ["c", "C."]]
    assert dataset["negative_mask"][:] == [[0, 1], [1, 0]]


@pytest.mark.parametrize("metadata", ["metadata.csv", "metadata.jsonl"])
@pytest.mark.parametrize("caption_column", ["caption", "text"])
def test_image_folder_and_its_splits(folder, metadata, caption_column):
    rows = table(file_name=[name.split("/")[1] for name in NAMES], **{caption_column: CAPTIONS})
    if metadata.endswith("csv"):
        Dataset.from_list(rows).to_csv(folder / "train2014" / metadata)
    else:
        written(folder / "train2014", metadata, rows)
    names = [name.split("/")[1] for name in NAMES]
    check_both_rows(load_captions(folder / "train2014"), names, [[], []])
    check_both_rows(load_captions(folder, split="train2014", format="imagefolder"), names, [[], []])
    with pytest.raises(ValueError, match="splits found: train2014"):
        load_captions(folder)


def stored_pictures(folder):
    rows = table(image=[str(folder / name) for name in NAMES], caption=CAPTIONS, negative_captions=NEGATIVES)
    return Dataset.from_list(rows).cast_column("image", ImageFeature())


def test_dataset_objects_with_stored_pictures(folder):
    dataset = stored_pictures(folder)
    check_both_rows(load_captions(dataset))
    in_memory = Dataset.from_dict({"img": [image for image in dataset["image"]], "caption": CAPTIONS})
    check_both_rows(load_captions(in_memory.cast_column("img", ImageFeature()), image_column="img"), negatives=[[], []])
    check_both_rows(load_captions(dataset.select([1, 0]).select([1, 0])))
    check_both_rows(load_captions(DatasetDict(train=dataset)))


def test_dataset_objects_that_name_files(folder):
    dataset = Dataset.from_dict({"image": NAMES, "caption": CAPTIONS})
    check_both_rows(load_captions(dataset, images=folder), NAMES, [[], []])
    with pytest.raises(ValueError, match="give the folder"):
        load_captions(dataset)


@pytest.mark.parametrize("bytes_column", [False, True])
def test_parquet_with_pictures_inside(folder, bytes_column):
    """With the Hugging Face image type, and as the plain bytes of other tools."""
    data = [(folder / name).read_bytes() for name in NAMES]
    dataset = Dataset.from_dict(
        {"image": data, "caption": CAPTIONS}, Features(image=Value("binary"), caption=Value("string"))
    )
    if not bytes_column:
        dataset = dataset.cast_column("image", ImageFeature())
    dataset.to_parquet(folder / "table.parquet")
    check_both_rows(load_captions(folder / "table.parquet"), negatives=[[], []])


def test_what_was_loaded_can_be_saved_and_loaded_again(folder):
    rows = table(image=NAMES, caption=CAPTIONS, negative_captions=NEGATIVES)
    loaded = load_captions(written(folder, "table.jsonl", rows), num_negatives=2)
    loaded.save_to_disk(folder / "saved")
    again = load_captions(folder / "saved")
    assert again.remove_columns("image")[:] == loaded.remove_columns("image")[:]
    assert again[0]["negative_mask"] == [1, 0]
    DatasetDict(a=loaded, b=loaded.select([1])).save_to_disk(folder / "splits")
    assert load_captions(folder / "splits", split="b")["caption"][:] == CAPTIONS[1:]
    with pytest.raises(ValueError, match="its splits are a, b"):
        load_captions(folder / "splits")


def test_what_is_neither_here_nor_on_the_hub_is_named(folder):
    with pytest.raises(FileNotFoundError, match="'nobody/nothing' is neither an existing path nor a dataset"):
        load_captions("nobody/nothing")
    with pytest.raises(FileNotFoundError, match=r"no file or folder data/absent\.json"):
        load_captions("data/absent.json")


def test_wrong_columns_are_answered_with_those_found_and_the_nearest(folder):
    path = written(folder, "table.jsonl", [{"image": NAMES[0], "captoin": "A dog."}])
    with pytest.raises(
        ValueError, match=r"no column 'caption' or 'text'.* are 'captoin', 'image'; the nearest is 'captoin'"
    ):
        load_captions(path)
    with pytest.raises(ValueError, match="no column 'picture'"):
        load_captions(path, image_column="picture", caption_column="captoin")
    with pytest.raises(ValueError, match="no column 'original'"):
        load_captions(
            written(folder, "degla.json", [{"image_id": 1, "orginal": "A dog.", "enhanced": []}]), format="degla"
        )


def test_formats_can_be_asked_for_but_not_invented(folder):
    rows = table(image=NAMES, caption=CAPTIONS, original=CAPTIONS, enhanced=NEGATIVES)
    path = written(folder, "table.jsonl", rows)
    assert load_captions(path, format="table")["negative_captions"][:] == [[], []]
    with pytest.raises(ValueError, match="format='degal' is not one of coco, degla"):
        load_captions(path, format="degal")
    with pytest.raises(ValueError, match="not of format 'coco'"):
        load_captions(path, format="coco")
    with pytest.raises(ValueError, match="has its own columns"):
        load_captions(path, format="degla", caption_column="caption")
    with pytest.raises(ValueError, match="single file without splits"):
        load_captions(path, split="train")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.json", b'[{"image": "a.jpg", "caption": "A d', "cut.json is not JSON: .* line 1 column 32"),
        ("cut.jsonl", b'{"image": "a.jpg", "caption": "A"}\n\n{"image": "b.j', "cut.jsonl, line 3 is not JSON"),
        ("cut.csv", b'image,caption\na.jpg,A dog\nb.jpg,"A c', "cut.csv, line 3"),
        ("latin.csv", b"image,caption\na.jpg,caf\xe9\n", "latin.csv is not UTF-8"),
        ("cut.parquet", b"PAR1 and no footer", "cut.parquet is not a parquet file"),
        ("object.json", b'{"rows": []}', "object.json holds keys rows; accepted"),
        ("number.json", b"3", "number.json holds a int"),
        ("images.json", b'{"images": [{"id": 1}], "annotations": []}', "images.json: every entry of 'images'"),
        ("empty.jsonl", b"", "empty.jsonl holds no rows"),
        ("notes.txt", b"", "notes.txt: unknown type of file '.txt'; accepted: .json"),
    ],
)
def test_damaged_files_are_refused_by_name_and_place(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_captions(folder / name)


def test_real_captions_load_over_all_their_images(shared):
    coco = shared / "data" / "coco_by"
    dataset = load_captions(coco / "captions_val2017.json", images=coco / "images_256")
    assert len(dataset) == 620
    assert len(set(dataset["image_id"])) == 124
    assert np.asarray(dataset[0]["image"]).shape == (365, 256, 3)
    assert dataset[0]["caption"] == "A small closed toilet in a cramped space."
    train, test = (
        load_captions(coco / "captions_val2017.json", images=coco / "images_256", only=coco / f"{part}.txt")
        for part in ("train", "test")
    )
    assert (len(train), len(test)) == (310, 310)
    assert set(train["image_id"]).isdisjoint(test["image_id"])
