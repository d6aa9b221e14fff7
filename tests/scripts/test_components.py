"""The command on generated scenes, on photographs with COCO's boxes, and what it refuses."""

import json

import pytest
from PIL import Image

from compalign.data.components import load_components
from compalign.data.scenes.components import SceneComponentDataset
from compalign.scripts import components


def run(**flags):
    """The command, with these flags."""
    return components.main([word for name, value in flags.items() for word in (f"--{name}", str(value))])


def test_scenes_come_back_as_they_were_generated(tmp_path, capsys):
    counts = run(scenes=6, image_size=48, split="test", seed=2, output_dir=tmp_path, show=1)
    assert json.loads(capsys.readouterr().out.partition("wrote")[0]) == counts
    assert counts["images"] == 6
    rows = load_components(tmp_path)
    for row, scene in zip(rows, (SceneComponentDataset(6, "test", 48, 2)[i] for i in range(6)), strict=True):
        assert Image.open(row["image"]).tobytes() == scene["image"].tobytes()
        for part in ("entities", "relations", "captions"):
            assert row[part] == scene[part]
    assert Image.open(tmp_path / "row_1.png").width > 1000


def test_photographs_get_the_boxes_of_coco_and_the_phrases_of_their_captions(shared, tmp_path, capsys):
    coco = shared / "data" / "coco_by"
    sources = {"captions": coco / "captions_val2017.json", "images": coco / "images_256"}
    boxes = coco / "instances_val2017.json"
    only = tmp_path / "only.txt"
    names = [image["file_name"] for image in json.loads(boxes.read_text())["images"]]
    only.write_text("\n".join(names[:4]))
    output = tmp_path / "out"
    assert run(**sources, instances=boxes, only=only, output_dir=output)["images"] == 4
    before = (output / "components.jsonl").read_bytes()
    # Every image now: the four stay as they are, those without annotations are left out and counted.
    counts = run(**sources, instances=boxes, output_dir=output)
    assert (counts["images"], counts["images_left_out"], counts["captions"]) == (25, 99, 125)
    assert (output / "components.jsonl").read_bytes().startswith(before)
    rows = load_components(output, sources["images"])
    assert {row["image_id"] for row in rows} == set(names)
    assert all(len(row["entities"]) <= 10 >= len(row["relations"]) for row in rows)
    assert all(max(box[2] for box, _, _ in row["entities"]) <= row["width"] for row in rows)
    header = json.loads((output / "components.json").read_text())
    assert header["settings"]["image"]["kind"] == "COCO instances"
    assert header["counts"] == counts
    with pytest.raises(ValueError, match="most_entities=10, now 5"):
        run(**sources, instances=boxes, output_dir=output, most_entities=5)
    run(output_dir=output, images=sources["images"], show=2)
    assert Image.open(output / "row_2.png").width > 1000
    with pytest.raises(ValueError, match=r"row 26 is not in .*accepted: 1 to 25"):
        run(output_dir=output, images=sources["images"], show=26)


def test_a_picture_damaged_in_the_middle_is_left_out_and_named(tmp_path, caplog):
    Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "good.png")
    data = bytearray((tmp_path / "good.png").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "bad.png").write_bytes(data)
    rows = [{"image": name, "caption": "A dog on a bed."} for name in ("bad.png", "good.png")]
    (tmp_path / "captions.json").write_text(json.dumps(rows))
    sizes = [{"id": i, "file_name": row["image"], "width": 64, "height": 64} for i, row in enumerate(rows)]
    boxes = [{"image_id": 1, "category_id": 7, "bbox": [1, 2, 30, 40]}]
    instances = {"images": sizes, "annotations": boxes, "categories": [{"id": 7, "name": "dog"}]}
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    flags = {"captions": tmp_path / "captions.json", "instances": tmp_path / "instances.json"}
    counts = run(**flags, output_dir=tmp_path / "out")
    assert (counts["images"], counts["images_left_out"]) == (1, 1)
    assert "images, row 1: unreadable image" in caplog.text
    assert "bad.png" in caplog.text
    (row,) = load_components(tmp_path / "out", tmp_path)
    assert [tuple(entity) for entity in row["entities"]] == [((1, 2, 31, 42), 1.0, "dog")]
    with pytest.raises(ValueError, match="row 1: unreadable image"):
        run(**flags, output_dir=tmp_path / "other", on_bad_row="raise")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "nothing to do: give --captions, --scenes or --show"),
        ({"captions": "x.json"}, "--detector or from --instances: give one of them"),
        ({"captions": "x.json", "detector": "a", "instances": "b"}, "give one of them"),
        ({"scenes": 3, "captions": "x.json"}, "scenes bring their own captions and boxes"),
        ({"scenes": 3, "most_entities": -1}, "must be at least 0"),
    ],
)
def test_contradictory_flags_are_refused(flags, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(output_dir=tmp_path / "out", **flags)
    assert not (tmp_path / "out").exists()
