"""Class names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from onnxcam.errors import TargetError
from onnxcam.files import read_start

LARGEST = 10 * 2**20  # bytes of a labels file
NEAR = 2  # by how many labels a file may miss what it was most likely meant for


def imagenet_labels() -> list[str]:
    """The names of ImageNet's 1,000 classes, in the usual order."""
    return files("onnxcam.targets").joinpath("imagenet.txt").read_text(encoding="utf-8").splitlines()


def read_labels(path: str | Path) -> list[str]:
    """A labels file in UTF-8: a class per line, empty lines at the end left off, or what `from_json` reads in a .json.

    Raises:
        TargetError: it is none.
    """
    path = Path(path)
    try:
        data = read_start(path, LARGEST)
        if len(data) > LARGEST:
            raise TargetError(
                f"the labels file {path} is larger than {LARGEST >> 20} MB: it should hold a class name per line"
            )
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise TargetError(f"cannot read the labels file {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TargetError(f"the labels file {path} is not UTF-8 text: it should hold a class name per line") from error
    if "\0" in text:
        raise TargetError(f"the labels file {path} is not text: it should hold a class name per line")
    return from_json(text, path) if path.suffix.lower() == ".json" else parse_labels(text)


def from_json(text: str, path: Path) -> list[str]:
    """Class names from a JSON list, or an object of every index and its name. TargetError when it is neither."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TargetError(
            f"the labels file {path} is no JSON: call it .txt if it holds a class name per line"
        ) from error
    if isinstance(found, dict) and found.keys() == {str(index) for index in range(len(found))}:
        found = [found[str(index)] for index in range(len(found))]
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise TargetError(
            f"the labels file {path} should hold a JSON list of class names, or an object of them by index: "
            '["cat", "dog"], {"0": "cat", "1": "dog"}'
        )
    return found


def parse_labels(text: str) -> list[str]:
    """Class names, one per line, empty lines at the end left off: a space is a class of readers of text.

    Nothing but a newline ends a line.
    """
    labels = [line.rstrip("\r") for line in text.split("\n")]
    while labels and not labels[-1]:
        labels.pop()
    return labels


def check_labels(labels: Sequence[str], *counts: int) -> None:
    """TargetError unless there is a label for every class, and no more: one too many may shift every name.

    Several counts where it cannot be told which axis holds the classes; what is nearly right is said alone.
    """
    if len(labels) not in counts:
        near = {count for count in counts if abs(count - len(labels)) <= NEAR}
        classes = " or ".join(map(str, sorted(near or set(counts))))
        raise TargetError(f"{len(labels)} labels for a model of {classes} classes: give one for every class, in order")
