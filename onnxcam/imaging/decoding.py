"""Files, bytes and Pillow images become upright 8-bit pictures, or one line that says why not."""

from __future__ import annotations

import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from onnxcam.errors import ImageError
from onnxcam.imaging.text import printable

MAX_PIXELS = 178_956_970
"""Most pixels of an image, unless told otherwise: where Pillow itself refuses a decompression bomb."""
_LONGEST = 1000  # a strip's sides, one over the other: its picture, with map and legend, is never thinner

# What Pillow's readers raise on damaged files, found by mutating images of seventeen formats.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    OverflowError,
    MemoryError,
    EOFError,
    struct.error,
    zlib.error,
)
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow converts these through another mode: a palette with transparency would warn, premultiplied colour has no
# other way.
_VIA = {"P": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}
_GREY = {"1", "L", "LA", "La"}
# Pictures proper. Pillow also reads containers that hand their content to another reader (IPTC), and formats that
# another program draws for it (EPS, by Ghostscript): a stranger's file does not get to start one.
_FORMATS = frozenset(
    [
        "AVIF",
        "BMP",
        "CUR",
        "DDS",
        "DIB",
        "FLI",
        "GBR",
        "GIF",
        "ICO",
        "IM",
        "JPEG",
        "JPEG2000",
        "MPO",
        "MSP",
        "PCD",
        "PCX",
        "PIXAR",
        "PNG",
        "PPM",
        "PSD",
        "QOI",
        "SGI",
        "SPIDER",
        "SUN",
        "TGA",
        "TIFF",
        "WEBP",
        "XBM",
        "XPM",
    ]
)
_pillow_settings = threading.Lock()
# Pillow logs some damage before raising it; without a handler that would reach the terminal a second time.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def decode(source: str | Path | bytes | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The first frame of an image, upright, fully loaded, in mode RGB or L.

    The size is checked before anything is decoded. EXIF orientation is applied. Alpha is dropped, not composited: the
    colours stored below it are what training pipelines see (`convert("RGB")`). 16-bit grey becomes 8 bits such that
    v * 257 gives v; floating-point grey has to lie in 0..1; 32-bit integers are refused, for nothing says where their
    white is. A Pillow image keeps its current frame.

    Raises:
        ImageError: the file is missing, no image, damaged, truncated, or larger than `max_pixels`.
    """
    name = _name_of(source)
    try:
        with _limited(max_pixels), _opened(source, name) as image:
            _check_size(image, max_pixels, name)
            image.load()
            return _upright(_eight_bit(image))
    except Image.DecompressionBombError as error:
        raise _too_large(name, f"more than {2 * max_pixels}", max_pixels) from error
    except _DAMAGE as error:
        raise ImageError(f"{name} cannot be read as an image: {_reason(error)}") from error


def _name_of(source: str | Path | bytes | Image.Image) -> str:
    if isinstance(source, bytes):
        return f"the image ({len(source)} bytes)"
    if isinstance(source, Image.Image):
        return printable(str(getattr(source, "filename", "") or "the image"))
    return printable(str(source)) or "''"


@contextmanager
def _limited(max_pixels: int) -> Iterator[None]:
    """Put Pillow's own limit, a global, where ours is and keep its warnings off the terminal."""
    with _pillow_settings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _opened(source: str | Path | bytes | Image.Image, name: str) -> Iterator[Image.Image]:
    if isinstance(source, Image.Image):
        yield source
        return
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise ImageError(f"{name} is {_instead(Path(source))}")
    with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
        if image.format not in _FORMATS:  # opening only looks at the header
            raise ImageError(
                f"{name} is {image.format}, which is not read here (PostScript is a program): convert it to PNG"
            )
        yield image


def _instead(path: Path) -> str:
    if path.is_dir():
        return "a folder, not an image"
    if path.is_symlink() and not path.exists():
        return "a link that leads to no file"
    return "no regular file: give an image's path" if path.exists() else "missing: no such file"


def _check_size(image: Image.Image, max_pixels: int, name: str) -> None:
    if min(image.size) < 1:
        raise ImageError(f"{name} holds no pixels: its size is {image.width} x {image.height}")
    if image.width * image.height > max_pixels:
        raise _too_large(name, f"{image.width} x {image.height}", max_pixels)
    if max(image.size) ** 2 > max_pixels * _LONGEST:
        raise ImageError(
            f"{name} is a strip of {image.width} x {image.height} pixels, whose picture would hold more than "
            f"{max_pixels}; raise --max-pixels if the file is trusted"
        )


def _too_large(name: str, size: str, max_pixels: int) -> ImageError:
    said = f"{name} holds {size} pixels, {max_pixels} are allowed"
    return ImageError(f"{said}: raise --max-pixels if the file is trusted")


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no format that Pillow knows"
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(str(error) or type(error).__name__)[:160]


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGE:  # a damaged EXIF block says nothing: viewers show such a photo as it is stored
        turn = None
    return image if turn is None else image.transpose(turn)


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode in ("RGB", "L"):
        return image
    if image.mode.startswith("I") or image.mode == "F":
        grey = Image.fromarray(_deep(np.asarray(image), sixteen=_is_sixteen(image)))
        grey.info = image.info
        return grey
    via = _VIA.get(image.mode)
    return (image.convert(via) if via else image).convert("L" if image.mode in _GREY else "RGB")


def _is_sixteen(image: Image.Image) -> bool:
    """Whether the file says that the range is 0..65535; the readers of PNG and PPM widen that to 32 bits."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _deep(values: npt.NDArray[np.generic], *, sixteen: bool) -> npt.NDArray[np.uint8]:
    """Grey of an unusual depth in 0..255, by its type: scaled by what it holds, images of one set would differ."""
    if sixteen:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if values.dtype.kind != "f":
        raise ValueError("32-bit grey does not say where white is; convert it to 8 or 16 bits first")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # written so that NaN is refused too
        raise ValueError(f"floating-point grey from {low:g} to {high:g}; scale it to 0..1, or convert it to 8 bits")
    return np.rint(values.astype(np.float64) * 255).astype(np.uint8)
