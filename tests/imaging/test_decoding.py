from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import ImageError
from onnxcam.imaging import decode

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
PHOTO = Image.fromarray(PIXELS)
GREY = np.arange(54, dtype=np.uint8).reshape(6, 9) * 4


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_a_path_as_string_or_path_bytes_and_an_image_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(PHOTO))
    for source in (path, str(path), path.read_bytes(), PHOTO):
        image = decode(source)
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation_is_undone(orientation: int, kind: str) -> None:
    upright = {  # how a viewer turns what is stored
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2),
        6: np.rot90(PIXELS, -1),
        7: np.rot90(PIXELS, 2).transpose(1, 0, 2),
        8: np.rot90(PIXELS),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(np.asarray(decode(encoded(PHOTO, kind, exif=exif))), upright[orientation])


def test_a_damaged_exif_block_leaves_the_photo_as_stored() -> None:
    photo = encoded(PHOTO, "PNG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    np.testing.assert_array_equal(np.asarray(decode(photo)), PIXELS)


def test_sixteen_bit_grey_is_the_eight_bit_picture() -> None:
    deep = decode(encoded(Image.fromarray(GREY.astype(np.uint16) * 257)))
    assert deep.mode == "L"
    np.testing.assert_array_equal(np.asarray(deep), GREY)


def test_sixteen_bit_grey_rounds_to_the_nearest_step() -> None:
    values = np.array([[0, 128, 129, 65406, 65407, 65535]], np.uint16)
    assert np.asarray(decode(Image.fromarray(values))).tolist() == [[0, 0, 1, 254, 255, 255]]


def test_sixteen_bits_that_a_reader_widens_are_sixteen_bits_however_dark() -> None:
    dark = np.array([[0, 128, 129, 255]], np.uint16)
    wide = b"P5 4 1 65535\n" + dark.astype(">u2").tobytes()
    with Image.open(BytesIO(wide)) as opened:
        assert opened.mode == "I"
    for data in (wide, encoded(Image.fromarray(dark))):
        assert np.asarray(decode(data)).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("most", [1, 255, 65535])
def test_wide_integers_do_not_say_where_white_is(most: int) -> None:
    wide = Image.fromarray(np.full((2, 2), most, np.int32))
    for source in (wide, encoded(wide, "TIFF")):
        with pytest.raises(ImageError, match="32-bit grey does not say where white is; convert it to 8 or 16 bits"):
            decode(source)


@pytest.mark.parametrize("most", [0.25, 1.0])
def test_floating_point_grey_is_0_to_1_whatever_it_holds(most: float) -> None:
    share = (GREY / 255 * most).astype(np.float32)
    wanted = np.rint(share.astype(np.float64) * 255)
    assert np.asarray(decode(encoded(Image.fromarray(share), "TIFF"))).tolist() == wanted.tolist()


@pytest.mark.parametrize("value", [-1.0, 1.5, 255.0, 1e9, np.nan, np.inf])
def test_floating_point_grey_of_another_range_is_refused(value: float) -> None:
    with pytest.raises(ImageError, match=r"floating-point grey from .*; scale it to 0\.\.1"):
        decode(Image.fromarray(np.full((2, 2), value, np.float32)))


def test_alpha_is_dropped_not_composited() -> None:
    see_through = PHOTO.convert("RGBA")
    see_through.putalpha(0)
    np.testing.assert_array_equal(np.asarray(decode(encoded(see_through))), PIXELS)
    grey = Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (9, 6), 7)])
    assert np.asarray(decode(encoded(grey))).tolist() == GREY.tolist()


def test_one_bit_palette_and_cmyk() -> None:
    bits = Image.fromarray(GREY > 100)
    assert np.asarray(decode(encoded(bits))).tolist() == ((GREY > 100) * 255).tolist()
    palette = PHOTO.quantize(8)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(decode(encoded(palette, transparency=3))), expected)
    np.testing.assert_array_equal(np.asarray(decode(encoded(palette, transparency=bytes(range(8))))), expected)
    cmyk = decode(encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG", quality=95))
    assert cmyk.mode == "RGB"
    assert np.abs(np.asarray(cmyk).astype(int) - (255, 0, 0)).max() < 10


def test_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    animation = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(animation).getpixel((2, 2)) == (255, 0, 0)


def test_missing_folder_and_what_is_no_image_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture here\n" * 20)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "part.jpg").write_bytes(encoded(PHOTO.resize((90, 60)), "JPEG")[:600])
    (tmp_path / "part.png").write_bytes(encoded(PHOTO)[:-40])
    (tmp_path / "folder.png").mkdir()
    for name in ("text.png", "empty.png", "part.jpg", "part.png", "folder.png", "missing.png"):
        with pytest.raises(ImageError, match=name) as caught:
            decode(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_name_cannot_write_to_the_terminal() -> None:
    with pytest.raises(ImageError) as caught:
        decode("no\x1b[31msuch\nfile.png")
    assert str(caught.value).isprintable()


def png_of_one_bit(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    row = zlib.compress(b"\0" * (1 + (width + 7) // 8))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(30000, 30000), (20000, 10000), (12000, 15000)])
def test_a_decompression_bomb_is_not_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=r"bytes\) holds .* pixels, 178956970 are allowed: raise --max-pixels"):
        decode(png_of_one_bit(*size))


def test_a_strip_whose_picture_would_be_a_bomb_is_not_decoded() -> None:
    with pytest.raises(ImageError, match=r"is a strip of 10000000 x 1 pixels, whose picture would hold more than"):
        decode(png_of_one_bit(10_000_000, 1))
    assert decode(png_of_one_bit(20_000, 1)).size == (20_000, 1)


def test_the_limit_holds_exactly_and_leaves_pillows_own_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS
    assert decode(encoded(PHOTO), max_pixels=54).size == (9, 6)
    with pytest.raises(ImageError, match="9 x 6 pixels, 53 are allowed: raise --max-pixels"):
        decode(encoded(PHOTO), max_pixels=53)
    with pytest.raises(ImageError, match="max-pixels"):
        decode(PHOTO, max_pixels=5)
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_larger_limit_reaches_beyond_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode(encoded(PHOTO), max_pixels=54).size == (9, 6)


def test_postscript_never_reaches_ghostscript() -> None:
    with pytest.raises(ImageError, match="PostScript"):
        decode(encoded(PHOTO, "EPS"))
