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
    names = UniqueNames()
    for image in images:
        yield names.of(safe_stem(image))


class UniqueNames:
    """Names of files, each given out once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def of(self, stem: str) -> str:
        """The name itself, or with the first number behind it that makes it new."""
        name = stem
        while same_file(name) in self._taken:
            self._last[same_file(stem)] = count = self._last.get(same_file(stem), 1) + 1
            name = f"{stem}_{count}"
        self._taken.add(same_file(name))
        return name


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


class FileStems:
    """Names of one image's files without suffix, no two alike.

    Targets whose slugs are alike are told apart by a number, the same for every method.
    """

    def __init__(self, stem: str, *, with_target: bool) -> None:
        self._stem, self._with_target = stem, with_target
        self._slugs: dict[str, str] = {}
        self._parts, self._whole = UniqueNames(), UniqueNames()

    def of(self, target: Target, method: str) -> str:
        """The name of a target's file."""
        if target.name not in self._slugs:
            self._slugs[target.name] = self._parts.of(slug(target))
        return self._whole.of(
            ".".join([self._stem, self._slugs[target.name], method] if self._with_target else [self._stem, method])
        )


def slug(target: Target) -> str:
    """The class's index, or the name of a target that is no class, without dots."""
    if target.index is not None:
        return str(target.index)
    return re.sub(r"[^a-z0-9]+", "-", target.name.lower()).strip("-")[:40] or "target"
