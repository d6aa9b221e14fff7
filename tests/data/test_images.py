"""Pictures are opened as upright RGB, or refused by name before they can do harm."""

import io
import random
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import ExifTags, Image

from compalign.data import images
from compalign.data.images import ImageCrop, UnreadableImage, check_image, open_image, resolve_inside


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def empty_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_every_kind_of_source_gives_the_same_picture(picture, tmp_path, format):
    data = encoded(picture, format)
    path = tmp_path / "picture"
    path.write_bytes(data)
    sources = [path, str(path), data, io.BytesIO(data), Image.open(path), {"path": str(path), "bytes": None}]
    opened = [open_image(source) for source in [*sources, {"path": "elsewhere.jpg", "bytes": data}]]
    expected = np.asarray(Image.open(path).convert("RGB"))
    assert all(image.mode == "RGB" and np.array_equal(image, expected) for image in opened)
    assert np.array_equal(open_image("picture", root=tmp_path), expected)
    assert all(check_image(source) == (60, 40) for source in sources if not isinstance(source, Image.Image))


def test_exif_orientation_is_honoured(picture):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = open_image(encoded(picture, "PNG", exif=exif))
    assert np.array_equal(turned, np.rot90(np.asarray(picture), k=-1))


def test_transparent_parts_become_white(picture):
    transparent = Image.new("RGBA", (2, 1))
    transparent.putpixel((0, 0), (200, 0, 0, 255))
    opened = open_image(encoded(transparent, "PNG"))
    assert [opened.getpixel((x, 0)) for x in range(2)] == [(200, 0, 0), (255, 255, 255)]
    palette = Image.new("P", (1, 1))
    assert open_image(encoded(palette, "PNG", transparency=0)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("mode", "format"), [("L", "JPEG"), ("CMYK", "JPEG"), ("1", "PNG"), ("LA", "PNG")])
def test_other_modes_become_rgb(picture, mode, format):
    opened = open_image(encoded(picture.convert(mode), format))
    assert (opened.mode, opened.size) == ("RGB", picture.size)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    grey = Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], dtype=np.uint16))
    opened = open_image(encoded(grey, "PNG"))
    assert [opened.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


@pytest.mark.parametrize("look", [open_image, check_image])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_file_is_refused_by_name(picture, tmp_path, format, look):
    data = encoded(picture, format)
    for end in (8, len(data) // 2, len(data) * 9 // 10):
        (tmp_path / "short.img").write_bytes(data[:end])
        with pytest.raises(UnreadableImage, match=r"short\.img"):
            look(tmp_path / "short.img")


def test_data_after_the_picture_does_no_harm(picture):
    data = encoded(picture, "JPEG") + b"camera" * 100
    assert check_image(data) == open_image(data).size == (60, 40)


@pytest.mark.parametrize("look", [open_image, check_image])
def test_a_bomb_is_refused_by_its_header(tmp_path, look):
    """11,500 x 11,500 is under Pillow's own limit, 100,000 x 100,000 above it."""
    (tmp_path / "bomb.png").write_bytes(empty_png(11_500, 11_500))
    with pytest.raises(UnreadableImage, match=r"bomb\.png: 11500 x 11500 = 132250000 pixels, more than 128000000"):
        look(tmp_path / "bomb.png")
    (tmp_path / "bomb.png").write_bytes(empty_png(100_000, 100_000))
    with pytest.raises(UnreadableImage, match=r"bomb\.png: .*10000000000 pixels"):
        look(tmp_path / "bomb.png")


def test_a_picture_in_memory_meets_the_same_limit(picture, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 2_399)
    with pytest.raises(UnreadableImage, match="2400 pixels"):
        open_image(picture)


@pytest.mark.parametrize("look", [open_image, check_image])
@pytest.mark.parametrize("format", ["GIF", "TIFF", "BMP"])
def test_other_formats_are_refused(picture, tmp_path, format, look):
    (tmp_path / "picture.jpg").write_bytes(encoded(picture, format))
    with pytest.raises(UnreadableImage, match=r"picture\.jpg: .*JPEG, PNG, WEBP"):
        look(tmp_path / "picture.jpg")


@pytest.mark.parametrize("look", [open_image, check_image])
def test_what_is_not_there_is_refused_by_name(tmp_path, look):
    with pytest.raises(UnreadableImage, match=r"absent\.jpg: no such file"):
        look(tmp_path / "absent.jpg")
    with pytest.raises(UnreadableImage, match=str(tmp_path)):
        look(tmp_path)
    with pytest.raises(UnreadableImage, match="neither bytes nor a path"):
        look({"bytes": None, "path": None})


def test_random_damage_raises_nothing_but_unreadable_image(picture):
    draw = random.Random(0)
    sound = 0
    for data in [encoded(picture, "JPEG"), encoded(picture, "PNG"), encoded(picture.convert("RGBA"), "PNG")] * 100:
        damaged = bytearray(data)
        for _ in range(draw.randint(1, 6)):
            damaged[draw.randrange(draw.choice([40, len(data)]))] = draw.randrange(256)
        with suppress(UnreadableImage):
            sound += open_image(bytes(damaged)).mode == "RGB"
    assert 0 < sound < 300


def test_names_inside_the_folder_are_resolved(tmp_path):
    assert resolve_inside(tmp_path, "a/../b.jpg") == tmp_path.resolve() / "b.jpg"
    assert resolve_inside(tmp_path, tmp_path / "b.jpg") == tmp_path.resolve() / "b.jpg"
    assert resolve_inside("/", "/b.jpg").name == "b.jpg"


def test_names_that_leave_the_folder_are_refused(tmp_path):
    folder, outside = tmp_path / "images", tmp_path / "images-private"
    folder.mkdir()
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    for name in ["../secret.jpg", "a/../../secret.jpg", str(outside / "secret.jpg"), "link/secret.jpg", "/etc/passwd"]:
        with pytest.raises(ValueError, match="leads outside"):
            resolve_inside(folder, name)
        with pytest.raises(UnreadableImage, match="leads outside"):
            open_image(name, root=folder)


def test_a_folder_reached_by_a_link_is_still_the_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert resolve_inside(tmp_path / "link", "b.jpg") == (tmp_path / "real" / "b.jpg").resolve()


def test_real_photographs_are_opened(shared):
    photographs = sorted((shared / "data" / "coco_by" / "images_256").iterdir())
    assert len(photographs) == 124
    assert all(min(check_image(path)) == 256 for path in photographs)
    assert open_image(photographs[0]).size == check_image(photographs[0])


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((10, 5, 30, 25), (10, 5, 30, 25)),
        ((-7, -1.5, 30, 25), (0, 0, 30, 25)),
        ((10, 5, 1e9, 40.5), (10, 5, 60, 40)),
        ((10.9, 5.2, 29.1, 24.0), (10, 5, 30, 24)),
        ((59.5, 39.5, 59.6, 39.6), (59, 39, 60, 40)),
    ],
)
def test_a_crop_is_what_its_box_touches_inside_the_picture(picture, tmp_path, box, inside):
    path = tmp_path / "picture.png"
    picture.save(path)
    for source in (picture, path, path.read_bytes()):
        assert np.array_equal(open_image(ImageCrop(source, box)), picture.crop(inside))
    assert np.array_equal(open_image(ImageCrop("picture.png", box), root=tmp_path), picture.crop(inside))


def test_a_box_counts_from_the_upright_picture(picture):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = encoded(picture, "PNG", exif=exif)
    upright = open_image(turned)
    assert np.array_equal(open_image(ImageCrop(turned, (0, 45, 40, 60))), upright.crop((0, 45, 40, 60)))


@pytest.mark.parametrize(
    "box", [(60, 0, 70, 10), (-5, 0, 0, 10), (9, 9, 9, 20), (9, 20, 30, 9), (0, 0, float("nan"), 9), (1, 2, 3), None]
)
def test_a_box_with_nothing_inside_is_refused_by_name(picture, tmp_path, box):
    path = tmp_path / "picture.png"
    picture.save(path)
    with pytest.raises(UnreadableImage, match=r"picture.png: box .* (holds none of the 60 x 40 pixels|is not left)"):
        open_image(ImageCrop(path, box))


def test_a_crop_of_a_missing_picture_is_refused_by_name(tmp_path):
    with pytest.raises(UnreadableImage, match=r"absent.png: no such file"):
        open_image(ImageCrop(tmp_path / "absent.png", (0, 0, 5, 5)))
