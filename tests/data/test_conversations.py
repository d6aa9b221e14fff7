"""Every format of conversations people have gives the same columns; bad rows are named and counted."""

import io
import json
import logging
import zipfile

import pytest
from datasets import Dataset, DatasetDict, Features, LargeList, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from compalign.data import RowReport, load_captions, load_conversations

MESSAGES = List({"role": Value("string"), "content": List({"type": Value("string"), "text": Value("string")})})
FEATURES = Features({"images": List(ImageFeature()), "messages": MESSAGES, "id": Value("string")})
IMAGE = {"type": "image", "text": None}


def text(words):
    return {"type": "text", "text": words}


def message(role, *parts):
    return {"role": role, "content": [text(part) if isinstance(part, str) else part for part in parts]}


def llava(*values, **columns):
    """A LLaVA record, human and gpt in turn."""
    speakers = ("human", "gpt") * len(values)
    return columns | {
        "conversations": [{"from": speaker, "value": value} for speaker, value in zip(speakers, values, strict=False)]
    }


def chat(*contents, **columns):
    """A record in the chat format, user and assistant in turn."""
    roles = ("user", "assistant") * len(contents)
    return columns | {
        "messages": [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    }


def png(colour, width=8):
    data = io.BytesIO()
    Image.new("RGB", (width, 8), colour).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def folder(tmp_path):
    """A folder with two pictures, red and blue, a cut one, one that is text, and a secret beside it."""
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "red.png").write_bytes(png("red"))
    (folder / "blue.png").write_bytes(png("blue", 9))
    (folder / "cut.png").write_bytes(png("red")[:40])
    (folder / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "secret.png").write_bytes(png("red"))
    return folder


def written(folder, *rows, name="rows.jsonl"):
    path = folder / name
    if path.suffix == ".parquet":
        Dataset.from_list(list(rows)).to_parquet(path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)) if path.suffix == ".jsonl" else json.dumps(rows))
    return path


def shown(dataset):
    """The colours of each row's images."""
    names = {(255, 0, 0): "red", (0, 0, 255): "blue"}
    return [[names[image.getpixel((0, 0))] for image in images] for images in dataset["images"]]


ROWS = [
    llava("<image>\nWhat is it?", "A red square.", "Sure?", "Yes.", id="a", image="red.png"),
    llava("Which is wider?\n<image><image>", "The second.", id="b", image=["red.png", "blue.png"]),
    llava("Hello.", "Hello!", id="c"),
]
COLOURS = [["red"], ["red", "blue"], []]
CONVERSATIONS = [
    [
        message("user", IMAGE, "What is it?"),
        message("assistant", "A red square."),
        message("user", "Sure?"),
        message("assistant", "Yes."),
    ],
    [message("user", "Which is wider?", IMAGE, IMAGE), message("assistant", "The second.")],
    [message("user", "Hello."), message("assistant", "Hello!")],
]
CHAT_ROWS = [
    chat([IMAGE, text("What is it?")], "A red square.", "Sure?", [text("Yes.")], id="a", images=["red.png"]),
    chat([text("Which is wider?"), IMAGE, IMAGE], "The second.", id="b", images=["red.png", "blue.png"]),
    chat("Hello.", "Hello!", id="c", images=None),
]


def check(dataset):
    assert dataset.features == FEATURES
    assert dataset["id"][:] == ["a", "b", "c"]
    assert dataset["messages"][:] == CONVERSATIONS
    assert shown(dataset) == COLOURS


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
@pytest.mark.parametrize("rows", [ROWS, CHAT_ROWS], ids=["llava", "chat"])
def test_text_files_of_both_formats(folder, rows, name):
    check(load_conversations(written(folder, *rows, name=name)))


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("<image>\nWhat?", [IMAGE, "What?"]),
        ("<image>What?", [IMAGE, "What?"]),
        ("What?\n<image>", ["What?", IMAGE]),
        ("What?\n<image>\n", ["What?", IMAGE]),
        ("<image>\n\nWhat?", [IMAGE, "\nWhat?"]),
        ("<image>", [IMAGE]),
        ("<image>\n", [IMAGE]),
        ("What is\n<image>\nin colour?", ["What is\n", IMAGE, "\nin colour?"]),
        ("Two\nlines\n", [IMAGE, "Two\nlines\n"]),
        ("", [IMAGE]),
    ],
)
@pytest.mark.parametrize("record", [llava, chat])
def test_a_marker_becomes_an_image_and_loses_the_newline_between_it_and_the_text(folder, record, value, parts):
    dataset = load_conversations(written(folder, record(value, "Red.", image="red.png")))
    assert dataset[0]["messages"][0] == message("user", *parts)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("<image>\n<image>\nWhich?", [IMAGE, IMAGE, "Which?"]),
        ("<image>\nor\n<image>", [IMAGE, "or", IMAGE]),
        ("<image> or <image>?", [IMAGE, " or ", IMAGE, "?"]),
        ("Which?\n<image>\n<image>", ["Which?", IMAGE, IMAGE]),
        ("Which?", [IMAGE, IMAGE, "Which?"]),
    ],
)
def test_several_images_stand_where_their_markers_are(folder, value, parts):
    dataset = load_conversations(written(folder, llava(value, "Red.", image=["red.png", "blue.png"])))
    assert dataset[0]["messages"][0] == message("user", *parts)
    assert shown(dataset) == [["red", "blue"]]


def test_images_may_come_in_later_turns(folder):
    row = llava("<image>\nWhat?", "Red.", "And\n<image>", "Blue.", image=["red.png", "blue.png"])
    dataset = load_conversations(written(folder, row))
    assert dataset[0]["messages"][2] == message("user", "And", IMAGE)


def test_images_without_a_place_come_first_in_the_first_turn_of_the_user(folder):
    row = llava("What?", "Red.", "Sure?", "Yes.", image="red.png")
    row["conversations"].insert(0, {"from": "system", "value": "Be brief."})
    assert load_conversations(written(folder, row))[0]["messages"] == [
        message("system", "Be brief."),
        message("user", IMAGE, "What?"),
        message("assistant", "Red."),
        message("user", "Sure?"),
        message("assistant", "Yes."),
    ]


def stored(kind):
    """The chat rows as a data set that holds its pictures, in one of the ways that happens."""
    bytes_, struct = Value("binary"), {"bytes": Value("binary"), "path": Value("string")}
    feature = {
        "images": List(ImageFeature()),
        "undecoded": List(ImageFeature(decode=False)),
        "large": LargeList(ImageFeature()),
        "bytes": List(bytes_),
        "structs": List(struct),
    }[kind]
    pictures = {"red.png": png("red"), "blue.png": png("blue", 9)}
    cells = [[pictures[name] for name in row["images"]] if row["images"] else row["images"] for row in CHAT_ROWS]
    if kind != "bytes":
        cells = [cell and [{"bytes": data, "path": None} for data in cell] for cell in cells]
    texts = {"messages": CONVERSATIONS, "id": [row["id"] for row in CHAT_ROWS]}
    types = {"messages": MESSAGES, "id": Value("string")}
    return Dataset.from_dict({"images": cells} | texts, features=Features({"images": feature} | types))


@pytest.mark.parametrize("kind", ["images", "undecoded", "large", "bytes", "structs"])
def test_stored_pictures(kind, tmp_path):
    dataset = stored(kind)
    check(load_conversations(dataset))
    check(load_conversations(DatasetDict({"train": dataset, "test": dataset}), split="train"))
    dataset.save_to_disk(tmp_path / "saved")
    check(load_conversations(tmp_path / "saved"))
    dataset.to_parquet(tmp_path / "rows.parquet")
    check(load_conversations(tmp_path / "rows.parquet"))


@pytest.mark.parametrize("kind", ["images", "bytes"])
def test_stored_pictures_follow_their_rows_through_any_selection(kind):
    dataset = load_conversations(stored(kind).select([2, 1, 0, 1]), on_bad_row="skip")
    assert (dataset["id"][:], shown(dataset)) == (["c", "b", "a"], [[], ["red", "blue"], ["red"]])


@pytest.mark.parametrize("feature", [ImageFeature(), Value("binary")], ids=["image", "bytes"])
def test_a_column_of_single_pictures_with_some_missing(feature):
    """As LLaVA's mixtures are on the Hub: one picture a row, none where it is text only."""
    pictures = [png("red"), None, png("blue")]
    rows = [llava("<image>\nWhat?", "A."), llava("Hello.", "Hello!"), llava("What?", "B.")]
    rows = [
        row | {"image": picture, "id": 7 + place}
        for place, (row, picture) in enumerate(zip(rows, pictures, strict=True))
    ]
    dataset = load_conversations(Dataset.from_list(rows).cast_column("image", feature))
    assert dataset.features == FEATURES
    assert shown(dataset) == [["red"], [], ["blue"]]
    assert dataset["id"][:] == ["7", "8", "9"]
    assert [row[0]["content"][0] for row in dataset["messages"]] == [IMAGE, text("Hello."), IMAGE]


@pytest.mark.parametrize("column", ["image", "images"])
def test_pictures_are_not_copied(column, tmp_path):
    """They may be larger than memory: what a mapped file holds stays there."""

    def address(dataset, column):
        (chunk,) = dataset.data.column(column).chunks
        pictures = chunk if column == "image" else chunk.values
        return pictures.field("bytes").buffers()[2].address

    picture = {"bytes": png("red"), "path": None}
    rows = {column: [picture if column == "image" else [picture]] * 2, "messages": [CONVERSATIONS[0]] * 2}
    feature = ImageFeature() if column == "image" else List(ImageFeature())
    Dataset.from_dict(rows).cast_column(column, feature).save_to_disk(tmp_path / "saved")
    saved = Dataset.load_from_disk(tmp_path / "saved")
    assert address(load_conversations(saved), "images") == address(saved, column)


def test_contents_of_both_kinds_in_one_data_set(folder):
    dataset = Dataset.from_list(CHAT_ROWS, on_mixed_types="use_json")
    check(load_conversations(dataset, images=folder))


def test_parts_may_carry_the_empty_keys_and_numbers_of_other_parts(folder):
    parts = [{"index": None, "type": "text", "text": "What?"}, {"index": 0, "type": "image", "text": None}]
    dataset = load_conversations(written(folder, chat(parts, "Red.", images=["red.png"])))
    assert dataset[0]["messages"][0] == message("user", "What?", IMAGE)


def test_text_alone_needs_no_folder_of_images():
    dataset = load_conversations(Dataset.from_list([ROWS[2], llava("Hi.", "Hi!", id="d")]))
    assert dataset.features == FEATURES
    assert (shown(dataset), dataset["id"][:]) == ([[], []], ["c", "d"])


def test_rows_without_an_id_are_called_by_their_number(folder):
    rows = [llava("Hi.", f"{number}") for number in range(2)]
    assert load_conversations(written(folder, *rows))["id"][:] == ["1", "2"]


GOOD = llava("<image>\nWhat?", "Red.", image="red.png")


def turns(*pairs):
    return {"conversations": [{"from": speaker, "value": value} for speaker, value in pairs], "image": None}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (llava("<image><image>\nWhat?", "Red."), "image markers and images differ in number"),
        ({"image": None}, "image markers and images differ in number"),
        ({"image": ["red.png", "blue.png"]}, "image markers and images differ in number"),
        (llava("What?", "<image>"), "image outside the user's turns"),
        ({"conversations": []}, "no assistant turn"),
        (turns(("human", "What?")), "no assistant turn"),
        (turns(("human", "What?"), ("bing", "Red.")), "unknown speaker"),
        (turns(("human", "What?"), (None, "Red.")), "unknown speaker"),
        (turns(("human", "What?"), (["gpt"], "Red.")), "unknown speaker"),
        (turns(("user", "What?"), ("assistant", "Red.")), "unknown speaker"),
        (turns(("gpt", "Red."), ("human", "What?"), ("gpt", "Red.")), "conversation starts with the assistant"),
        (turns(("system", "Be brief."), ("gpt", "Red.")), "conversation starts with the assistant"),
        (turns(("human", "What?"), ("gpt", "Red."), ("gpt", "Blue.")), "two assistant turns in a row"),
        (turns(("human", "What?"), ("system", "Now."), ("gpt", "Red.")), "system turn after the first"),
        (llava("<image>\nWhat?", " \n"), "empty assistant text"),
        (llava("<image>\nWhat?", "Red.", "Sure?", ""), "empty assistant text"),
        ({"image": "absent.png"}, "missing image"),
        ({"image": ""}, "missing image"),
        (llava("<image><image>", "Red.", image=["red.png", "absent.png"]), "missing image"),
        ({"image": "cut.png"}, "unreadable image"),
        ({"image": "text.jpg"}, "unreadable image"),
        ({"image": "../secret.png"}, "image outside its folder"),
        ({"image": "/etc/passwd"}, "image outside its folder"),
        ({"image": 3}, "image is neither a file name nor a list of them"),
        ({"image": ["red.png", None]}, "image is not a file name"),
        ({"image": "half a pair \ud83d"}, "text is not Unicode"),
        ({"conversations": None}, "conversations is not a list"),
        ({"conversations": "What?"}, "conversations is not a list"),
        ({"conversations": ["What?", "Red."]}, "turn is not an object"),
        (llava("<image>\nWhat?", None), "content is neither text nor a list of parts"),
        (llava("<image>\nWhat?", "half a pair \ud83d"), "text is not Unicode"),
        (llava("<image>\nWhat?", ["Red."]), "part is neither text nor the place of an image"),
        ({"id": [1]}, "id is neither a number nor text"),
    ],
)
def test_each_kind_of_bad_row_is_skipped_and_counted_or_raised(folder, bad, reason):
    path = written(folder, GOOD, GOOD | bad, GOOD)
    report = RowReport()
    assert shown(load_conversations(path, report=report)) == [["red"]] * 2
    assert (report.kept, report.total, report.reasons) == (2, 3, {reason: 1})
    assert (report.bad[0].source, report.bad[0].row) == (str(path), 2)
    with pytest.raises(ValueError, match=rf"rows\.jsonl, row 2: {reason}"):
        load_conversations(path, on_bad_row="raise")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([text("What?")], "image markers and images differ in number"),
        ([IMAGE, text("<image>\nWhat?")], "image markers and images differ in number"),
        ([{"type": "image", "image": "blue.png"}, text("What?")], "part is neither text nor the place of an image"),
        ([{"type": "image_url", "image_url": {"url": "http://x/y.png"}}], "part is neither text nor the place"),
        ([{"type": "video"}, text("What?")], "part is neither text nor the place of an image"),
        ([IMAGE, {"type": "text", "text": None}], "part is neither text nor the place of an image"),
        ([IMAGE, "What?"], "part is neither text nor the place of an image"),
    ],
)
def test_parts_say_all_there_is_to_say(folder, content, reason):
    path = written(folder, chat(content, "Red.", images=["red.png"]))
    with pytest.raises(ValueError, match=f"row 1: {reason}"):
        load_conversations(path, on_bad_row="raise")


def test_an_image_of_the_assistant_or_the_system_is_refused(folder):
    rows = [chat("What?", content, images=["red.png"]) for content in ([text("Red."), IMAGE], "Red.")]
    rows[1]["messages"].insert(0, {"role": "system", "content": "<image>"})
    report = RowReport()
    with pytest.raises(ValueError, match="no row is left"):
        load_conversations(written(folder, *rows), report=report)
    assert report.reasons == {"image outside the user's turns": 2}


def test_a_picture_with_too_many_pixels_is_a_bad_row(folder, monkeypatch):
    monkeypatch.setattr("compalign.data.images.MAX_PIXELS", 64)
    rows = [GOOD, GOOD | {"image": "blue.png"}]
    report = RowReport()
    assert len(load_conversations(written(folder, *rows), report=report)) == 1
    assert "9 x 8 = 72 pixels, more than 64" in str(report.bad[0])


def test_a_repeated_row_is_bad_and_another_conversation_of_its_id_is_noted(folder):
    """LLaVA's mixtures call a conversation by its image."""
    other = llava("<image>\nWhich colour?", "Red.", image="red.png")
    rows = [row | {"id": id} for row, id in [(GOOD, 7), (other, 7), (GOOD, 8), (GOOD, 7)]]
    report = RowReport()
    assert load_conversations(written(folder, *rows), report=report)["id"][:] == ["7", "7", "8"]
    assert [(bad.row, bad.problem.reason) for bad in report.bad] == [(4, "duplicate id")]
    assert report.notes == {"id of several conversations": 1}
    assert len(load_conversations(written(folder, GOOD, GOOD))) == 2


def test_stored_pictures_are_checked_and_the_sound_ones_kept_in_place():
    good = png("red")
    cells = [[good], [good, good[:40]], [{"bytes": None, "path": "absent.png"}], [], [None], [good, png("blue")]]
    cells = [[{"bytes": c, "path": None} if isinstance(c, bytes) else c for c in cell] for cell in cells]
    rows = {"images": cells, "messages": [chat("<image>" * len(cell) + "?", "Red.")["messages"] for cell in cells]}
    dataset = Dataset.from_dict(rows).cast_column("images", List(ImageFeature()))
    report = RowReport()
    loaded = load_conversations(dataset, report=report)
    assert (shown(loaded), loaded["id"][:]) == ([["red"], [], ["red", "blue"]], ["1", "4", "6"])
    reasons = [(bad.row, bad.problem.reason) for bad in report.bad]
    assert reasons == [(2, "unreadable image"), (3, "missing image"), (5, "unreadable image")]


def test_one_warning_names_bad_rows_and_a_clean_source_logs_nothing(folder, caplog):
    with caplog.at_level(logging.WARNING):
        load_conversations(written(folder, GOOD))
        assert not caplog.records
        load_conversations(written(folder, GOOD, GOOD | {"image": "absent.png"}))
    (record,) = caplog.records
    assert "1 of 2 rows cannot be used (missing image 1):" in record.getMessage()


def test_several_sources_follow_one_another(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "red.png").write_bytes(png("blue"))
    first, second = written(folder, GOOD, GOOD | {"image": "cut.png"}), written(folder, GOOD, name="more.json")
    report = RowReport()
    dataset = load_conversations([first, second, stored("bytes")], images=[None, other, None], report=report)
    assert dataset.features == FEATURES
    assert shown(dataset) == [["red"], ["blue"], *COLOURS]
    assert (report.kept, [bad.source for bad in report.bad]) == (5, [str(first)])
    assert shown(load_conversations((first, second), images=other)) == [["blue"], ["blue"]]
    with pytest.raises(ValueError, match="2 sources with 1 image folders"):
        load_conversations([first, second], images=[other])
    with pytest.raises(ValueError, match="0 sources"):
        load_conversations([])


def test_a_source_of_which_nothing_can_be_used_is_an_error_also_among_others(folder):
    broken = written(folder, GOOD | {"image": "absent.png"}, name="broken.jsonl")
    with pytest.raises(ValueError, match=r"broken\.jsonl: no row is left; 1 of 1 rows"):
        load_conversations([written(folder, GOOD), broken])


def test_rows_not_asked_for_are_neither_kept_nor_bad(folder):
    """A row is kept by its id or if all its images are asked for: a split by images must not leak."""
    path = written(folder, *ROWS, llava("", "", id="d", image="absent.png"))
    (folder / "only.txt").write_text("red.png\n")
    assert load_conversations(path, only=folder / "only.txt", on_bad_row="raise")["id"][:] == ["a"]
    assert load_conversations(path, only=["red.png", "blue.png"])["id"][:] == ["a", "b"]
    assert load_conversations(path, only=["b", "c"])["id"][:] == ["b", "c"]
    assert load_conversations(stored("images"), only=["b", "c"])["id"][:] == ["b", "c"]
    report = RowReport()
    assert len(load_conversations([path, stored("images")], only=["c", "blue.png", "z"], report=report)) == 2
    assert report.notes == {"image asked for without a row": 1}
    other = written(folder, GOOD, name="other.jsonl")
    assert len(load_conversations([path, other], only=["c"])) == 1
    with pytest.raises(ValueError, match="no row is left; image asked for without a row 1"):
        load_conversations([path, other], only=["nowhere.png"])


def test_errors_of_a_whole_source(folder):
    path = written(folder, GOOD)
    with pytest.raises(ValueError, match="on_bad_row='ignore' is not one of skip, raise"):
        load_conversations(path, on_bad_row="ignore")
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        load_conversations(folder / "absent.json")
    with pytest.raises(FileNotFoundError, match="no image folder"):
        load_conversations(path, images=folder / "absent")
    with pytest.raises(ValueError, match="holds no rows"):
        load_conversations(written(folder))
    with pytest.raises(ValueError, match=r"no column 'messages' or 'conversations'.*'message'; the nearest"):
        load_conversations(written(folder, {"message": []}))
    with pytest.raises(ValueError, match="both columns 'images' and 'image'"):
        load_conversations(written(folder, GOOD | {"images": []}))
    with pytest.raises(ValueError, match="give the folder they start from"):
        load_conversations(Dataset.from_list([GOOD]))
    with pytest.raises(ValueError, match="a single file without splits"):
        load_conversations(path, split="train")


def test_captions_refuse_lists_of_pictures():
    dataset = Dataset.from_dict({"image": [[{"bytes": png("red"), "path": None}]], "caption": ["A red square."]})
    with pytest.raises(ValueError, match="'image' holds lists of images; a caption has one"):
        load_captions(dataset.cast_column("image", List(ImageFeature())))


def test_real_photographs(shared):
    """COCO's captions as LLaVA's pretraining rows, the marker now before the request, now after it."""
    coco = shared / "data/coco_by"
    annotations = json.loads((coco / "captions_val2017.json").read_text())
    names = {image["id"]: image["file_name"] for image in annotations["images"]}
    rows = [
        llava(
            ("<image>\nDescribe it.", "Describe it.\n<image>")[number % 2],
            annotation["caption"],
            id=str(annotation["id"]),
            image=names[annotation["image_id"]],
        )
        for number, annotation in enumerate(annotations["annotations"])
    ]
    dataset = load_conversations(Dataset.from_list(rows), images=coco / "images_256", on_bad_row="raise")
    assert len(dataset) == 620
    train = load_conversations(Dataset.from_list(rows), images=coco / "images_256", only=coco / "train.txt")
    assert len(train) == 310
    for index, image in ((0, IMAGE), (1, text("Describe it."))):
        row = dataset[index]
        assert min(row["images"][0].size) == 256
        assert row["messages"][0]["content"][0] == image
        assert row["messages"][1] == message("assistant", rows[index]["conversations"][1]["value"])


def test_real_scenes_with_a_sentence_to_judge(shared, tmp_path):
    """NLVR in the chat format: two images a row, taken from its archive."""
    nlvr = shared / "data/nlvr"
    examples = [json.loads(line) for line in (nlvr / "dev.jsonl").read_text().splitlines()[:40]]
    with zipfile.ZipFile(nlvr / "dev_images.zip") as archive:
        archive.extractall(tmp_path, [example["image"] for example in examples])
    rows = [
        chat(
            f"Left: <image>\nRight: <image>\n{first['sentence']}",
            str(first["label"]),
            images=[first["image"], second["image"]],
        )
        for first, second in zip(examples[::2], examples[1::2], strict=True)
    ]
    dataset = load_conversations(written(tmp_path, *rows), on_bad_row="raise")
    assert [[image.size for image in images] for images in dataset["images"]] == [[(400, 100)] * 2] * 20
    assert dataset[3]["messages"] == [
        message("user", "Left: ", IMAGE, "\nRight: ", IMAGE, "\n" + examples[6]["sentence"]),
        message("assistant", str(examples[6]["label"])),
    ]
