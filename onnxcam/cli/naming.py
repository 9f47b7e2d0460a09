"""Names of what is written: OUT/<stem>[.<index>].<method>.png."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from onnxcam.targets import Target

LONGEST = 200  # bytes of a stem: file systems take names of 255, and there is more to come
FORBIDDEN = frozenset('<>:"/\\|?*')  # on one file system or another


def unique_stems(images: Iterable[str]) -> Iterator[str]:
    """A stem for every image, no two alike, not even on a file system that ignores case: pic, pic_2, pic_3."""
    taken: set[str] = set()
    last: dict[str, int] = {}
    for image in images:
        stem = name = safe_stem(image)
        while same_file(name) in taken:
            last[same_file(stem)] = count = last.get(same_file(stem), 1) + 1
            name = f"{stem}_{count}"
        taken.add(same_file(name))
        yield name


def safe_stem(image: str) -> str:
    """The image's name without suffix, in characters that every file system takes."""
    stem = "".join(c if c.isprintable() and c not in FORBIDDEN else "_" for c in Path(image).stem)
    return stem.encode()[:LONGEST].decode(errors="ignore") or "image"


def same_file(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


def several(targets: Sequence[str]) -> bool:
    """Whether more than one target may have been asked for, so that its index belongs into the name."""
    return len(targets) > 1 or any(re.fullmatch(r"\s*top:0*([2-9]|1\d)\d*\s*", target) for target in targets)


def file_stem(stem: str, target: Target, method: str, *, with_target: bool) -> str:
    """The file's name without suffix."""
    return ".".join([stem, slug(target), method] if with_target else [stem, method])


def slug(target: Target) -> str:
    """The class's index, or the name of a target that is no class, without dots."""
    if target.index is not None:
        return str(target.index)
    return re.sub(r"[^a-z0-9]+", "-", target.name.lower()).strip("-")[:40] or "target"
