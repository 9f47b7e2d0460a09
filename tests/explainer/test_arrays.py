"""Files that are named: what is no regular file is never opened, what is no array is refused in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from onnxcam import Explainer, ImageError, ModelError, OnnxCamError, PreprocessError, TargetError
from onnxcam.explainer.arrays import read_array
from onnxcam.explainer.regions import read_mask
from onnxcam.imaging import decode, load_preprocess
from onnxcam.targets import read_labels

HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"


def npy(header: bytes, data: bytes = b"") -> bytes:
    """A .npy file with any header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def archive() -> bytes:
    file = BytesIO()
    np.savez(file, a=np.zeros(2))
    return file.getvalue()


JUNK = {
    "nothing": b"", "zip": b"PK\x03\x04junk", "archive": archive(), "text": b"text", "pickle": b"\x80\x04N.",
    "cut off": npy(HEADER, b"\0" * 4), "no shape": npy(b"{}"), "a bracket": npy(b"("), "a quote": npy(b"'''"),
    "an indent": npy(b"\n  x\n y"), "a name": npy(HEADER.replace(b"False", b"x")), "null bytes": npy(b"\0" * 20),
    "brackets": npy(b"[" * 9000), "memory": npy(HEADER.replace(b"(2,)", b"(1152921504606846,)")),
    "overflow": npy(HEADER.replace(b"(2,)", b"(" + b"9" * 40 + b",)")), "type": npy(HEADER.replace(b"<f4", b"<q9,,")),
    "negative": npy(HEADER.replace(b"(2,)", b"(-1,)")), "objects": npy(HEADER.replace(b"<f4", b"|O"), b"\0" * 16),
}  # fmt: skip


@pytest.mark.parametrize("name", JUNK)
def test_junk_is_no_array(tmp_path: Path, name: str) -> None:
    path = tmp_path / "junk.npy"
    path.write_bytes(JUNK[name])
    with pytest.raises(TargetError, match=r"^the mask .*junk\.npy cannot be read as an array: .{3,160}$"):
        read_array(path, what="the mask ", refusal=TargetError)


def test_a_mask_of_words_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    with pytest.raises(TargetError, match=r"words\.npy holds <U1: it should hold numbers"):
        read_mask(str(tmp_path / "words.npy"))


@pytest.mark.skipif(os.name != "posix", reason="pipes that have a name")
@pytest.mark.parametrize(
    ("read", "error"),
    [
        (Explainer, ModelError), (read_labels, TargetError), (load_preprocess, PreprocessError),
        (decode, ImageError), (read_array, ImageError), (read_mask, ImageError),
    ],
)  # fmt: skip
def test_a_pipe_or_a_device_is_not_waited_for(
    tmp_path: Path, read: Callable[[str], object], error: type[OnnxCamError]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("pipe", "zeros"):
        with pytest.raises(error, match=f"{name}.*(no regular file|no ordinary file)"):
            read(str(tmp_path / name))
