"""The overlay: the photo under its heat map, with a legend that says what is seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from onnxcam.errors import UsageError
from onnxcam.files import naming_output, read_start, write_whole
from onnxcam.imaging.colormaps import colormap as table_of
from onnxcam.imaging.localization import Box
from onnxcam.imaging.text import clip, drawable, wrap

Heat = npt.NDArray[np.floating]
Table = npt.NDArray[np.uint8]

_SMALLEST_SIDE = 256
_SMALLEST_EM = 12
_PANEL_EMS = 16
_LINES_AN_ITEM = 3
_INDENT = "   "
_LINE = 1.35
_OURS = ("Software", "onnxcam")  # a PNG's text entry
_COMPRESSION = 4  # of photos: 2.4 times as fast as zlib's default 6, 6 % larger
_INK, _PAPER = (20, 20, 20), (255, 255, 255)
_SIGNED_MAP, _SIGNED_GAIN = "diverging", 1.6


def overlay(
    photo: Image.Image,
    heat: Heat,
    *,
    legend: Sequence[str],
    bar: tuple[float, float],
    colormap: str = "viridis",
    signed: bool = False,
    alpha: float = 0.5,
    boxes: Sequence[Box] = (),
) -> Image.Image:
    """The photo at its own scale in the top left corner, the map blended over it, legend and colour bar beside it.

    heat: (H, W) on the photo; 0..1, or -1..1 when `signed`; what is not finite counts as 0. `alpha` is the map's
    opacity; a signed map is drawn blue to red whatever `colormap` says and most opaque (1.6 * alpha, at most 1) where
    its magnitude is 1, clear where it is 0. `bar` are the values at the colour bar's ends. The legend lies to the
    right of a landscape photo and below all others, so the picture keeps the photo's orientation. A photo whose longer
    side is under 256 pixels is enlarged by a whole factor.

    Raises:
        UsageError: no such colour map, or a map of another size than the photo.
    """
    if heat.shape != (photo.height, photo.width):
        raise UsageError(f"a map of {heat.shape} does not fit a photo of {(photo.height, photo.width)} (height, width)")
    table = table_of(_SIGNED_MAP if signed else colormap)
    clean = np.where(np.isfinite(heat), heat, heat.dtype.type(0))
    rgb = photo.convert("RGB")
    picture = _blend_signed(rgb, clean, table, alpha) if signed else _blend(rgb, clean, table, alpha)
    factor = math.ceil(_SMALLEST_SIDE / max(photo.size)) if max(photo.size) < _SMALLEST_SIDE else 1
    picture = picture.resize((photo.width * factor, photo.height * factor), Image.Resampling.NEAREST)
    _outline(picture, boxes, factor)
    ticks = [bar[0], 0.0, bar[1]] if signed else list(bar)
    return _with_panel(picture, legend, table, [f"{tick:.3g}" for tick in ticks])


def save_png(image: Image.Image, path: str | Path) -> None:
    """Write a PNG, which says that it is ours, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    said = PngInfo()
    said.add_text(*_OURS)
    path = Path(path)
    with naming_output(path):
        write_whole(path, lambda made: image.save(made, format="PNG", pnginfo=said, compress_level=_COMPRESSION))


def is_ours(path: str | Path) -> bool:
    """Whether a file is a PNG that `save_png` wrote; not when it cannot be read."""
    try:
        start = read_start(path, 128)  # where the entry stands
    except OSError:
        return False
    return start.startswith(b"\x89PNG") and b"tEXt" + "\0".join(_OURS).encode() in start


def _blend(photo: Image.Image, heat: Heat, table: Table, alpha: float) -> Image.Image:
    return Image.blend(photo, _coloured(_bytes(heat), table), alpha)


def _blend_signed(photo: Image.Image, heat: Heat, table: Table, alpha: float) -> Image.Image:
    opacity = Image.fromarray(_bytes(np.abs(heat).clip(0, 1) * min(1.0, _SIGNED_GAIN * alpha)))
    return Image.composite(_coloured(_bytes((heat + 1) / 2), table), photo, opacity)


def _bytes(values: Heat) -> npt.NDArray[np.uint8]:
    """0..1 as 0..255."""
    levels: npt.NDArray[np.uint8] = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    return levels


def _coloured(indices: npt.NDArray[np.uint8], table: Table) -> Image.Image:
    image = Image.fromarray(indices)
    image.putpalette(table.tobytes())
    return image.convert("RGB")


def _outline(picture: Image.Image, boxes: Sequence[Box], factor: int) -> None:
    """A white line with a dark one inside it, both within the box: legible on any photo."""
    draw = ImageDraw.Draw(picture)
    line = max(1, round(max(picture.size) / 300))
    for box in boxes:
        x0, y0, x1, y1 = box.x0 * factor, box.y0 * factor, box.x1 * factor - 1, box.y1 * factor - 1
        draw.rectangle((x0, y0, x1, y1), outline=_INK, width=2 * line)
        if min(x1 - x0, y1 - y0) > 4 * line:
            draw.rectangle((x0, y0, x1, y1), outline=_PAPER, width=line)


def _with_panel(picture: Image.Image, legend: Sequence[str], table: Table, ticks: Sequence[str]) -> Image.Image:
    """Picture and legend on one canvas: to the right of a landscape, else below; never so large as to turn it."""
    width, height = picture.size
    em = max(_SMALLEST_EM, round(math.sqrt(width * height) / 36))
    if width > height:
        panel = _panel(_PANEL_EMS * em, max(height, width * 3 // 4), em, legend, table, ticks)
        size, corner = (width + panel.width, max(height, panel.height)), (width, 0)
    else:
        panel = _panel(max(width, _PANEL_EMS * em), height, em, legend, table, ticks)
        size, corner = (panel.width, height + panel.height), (0, height)
    canvas = Image.new("RGB", size, _PAPER)
    canvas.paste(picture, (0, 0))
    canvas.paste(panel, corner)
    return canvas


def _panel(width: int, limit: int, em: int, legend: Sequence[str], table: Table, ticks: Sequence[str]) -> Image.Image:
    """Lines of text, the colour bar, its numbers; `limit` is the most height that the text may ask for."""
    font = ImageFont.load_default(size=em)
    pad, pitch = round(0.8 * em), round(_LINE * em)
    inner = width - 2 * pad
    lines = [line for text in legend for line in _item(text, inner, font.getlength)]
    lines = clip(lines, max(1, (limit - 2 * pad - 3 * pitch) // pitch))
    top = pad + len(lines) * pitch + pitch // 2
    panel = Image.new("RGB", (width, top + 2 * pitch + pad), _PAPER)
    draw = ImageDraw.Draw(panel)
    for row, text in enumerate(lines):
        draw.text((pad, pad + row * pitch), text, font=font, fill=_INK)
    panel.paste(Image.fromarray(table[None]).resize((inner, em)), (pad, top))
    for number, tick in enumerate(ticks):
        share = number / (len(ticks) - 1)
        draw.text((pad + share * (inner - font.getlength(tick)), top + pitch), tick, font=font, fill=_INK)
    return panel


def _item(text: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """A legend item in a few lines, those behind the first indented."""
    first, *more = clip(wrap(drawable(text), width - measure(_INDENT), measure), _LINES_AN_ITEM)
    return [first, *(_INDENT + line for line in more)]
