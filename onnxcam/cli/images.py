"""Which images a user means: files, folders, glob patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator

from onnxcam.errors import ImageError
from onnxcam.imaging import is_ours

# What is taken for an image in a folder; a file that is named is tried, whatever it is called.
SUFFIXES = (
    ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip


def expand(arguments: Iterable[str]) -> Iterator[str | ImageError]:
    """Paths in the order of the arguments; in a folder's or pattern's place, when it holds none, the error."""
    for argument in arguments:
        if os.path.isdir(argument):
            yield from in_folder(argument)
        elif os.path.lexists(argument) or not glob.has_magic(argument):
            yield argument
        else:
            yield from matching(argument)


def in_folder(folder: str) -> list[str] | list[ImageError]:
    """The images right inside a folder, by name; hidden files and pictures of ours are left out."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if is_image(entry))
    except OSError as error:
        return [ImageError(f"the folder {folder} cannot be read: {error.strerror or error}")]
    paths = [os.path.join(folder, name) for name in names]
    found = [path for path in paths if not is_ours(path)]
    besides = " but onnxcam's own" if paths else ""
    return found or [
        ImageError(f"the folder {folder} holds no image{besides}: name the files, or a pattern such as '*/*.png'")
    ]


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a folder's entry looks like an image file; a link in a circle does, and is told like a damaged image."""
    if not entry.name.lower().endswith(SUFFIXES) or entry.name.startswith("."):
        return False
    try:
        return entry.is_file()
    except OSError:
        return True


def matching(pattern: str) -> list[str] | list[ImageError]:
    """The files that a pattern matches, pictures of ours aside; where it matches folders alone, those inside."""
    found = sorted(glob.glob(pattern, recursive=True))
    files = [path for path in found if not os.path.isdir(path) and not is_ours(path)]
    if files:
        return files
    inside = [image for folder in found for image in in_folder(folder)]
    return [path for path in inside if isinstance(path, str)] or [ImageError(f"no image matches {pattern}")]
