"""Labels files, and ImageNet's class names."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxcam.errors import TargetError
from onnxcam.targets import check_labels, imagenet_labels, labels, read_labels


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"cat\ndog\n", ["cat", "dog"]),
        (b"cat\r\ndog", ["cat", "dog"]),
        (b"\xef\xbb\xbfcat\ndog\n\r\n\n", ["cat", "dog"]),  # a byte order mark; empty lines at the end
        (b"a\nb\n \n", ["a", "b", " "]),  # a reader of text knows the space
        (b"\ncat\n\ndog", ["", "cat", "", "dog"]),  # an empty line is a class without a name
        ("Königspudel\n犬".encode(), ["Königspudel", "犬"]),
        (b" cat \n", [" cat "]),
        (b"a\x0bb\x0cc\xe2\x80\xa8d\n", ["a\x0bb\x0cc\u2028d"]),  # only a newline ends a line
        (b"", []),
    ],
)
def test_read(tmp_path: Path, data: bytes, expected: list[str]) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(data)
    assert read_labels(path) == read_labels(str(path)) == expected


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.txt"
    with pytest.raises(TargetError, match=r"^cannot read the labels file .*labels\.txt: No such file"):
        read_labels(path)
    with pytest.raises(TargetError, match=r"^cannot read the labels file .*: it is a folder"):
        read_labels(tmp_path)
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(TargetError, match=r"labels\.txt is not UTF-8 text: it should hold a class name per line"):
        read_labels(path)
    path.write_bytes(b"cat\0dog")
    with pytest.raises(TargetError, match=r"labels\.txt is not text: it should hold a class name per line"):
        read_labels(path)
    monkeypatch.setattr(labels, "LARGEST", 3)
    with pytest.raises(TargetError, match=r"labels\.txt is larger than 0 MB"):
        read_labels(path)


@pytest.mark.parametrize("text", ['["cat", "Königspudel"]', '{"1": "Königspudel", "0": "cat"}'])
def test_a_json_file_holds_a_list_or_names_by_index(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.JSON"
    path.write_text(text, encoding="utf-8")
    assert read_labels(path) == ["cat", "Königspudel"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cat\ndog\n", "is no JSON: call it .txt if it holds a class name per line"),
        ("[" * 100_000, "is no JSON"),
        ('{"1": "cat", "2": "dog"}', "should hold a JSON list of class names, or an object of them by index"),
        ('{"0": ["n01440764", "tench"]}', "should hold a JSON list"),
        ('["cat", 2]', "should hold a JSON list"),
        ('"cat"', "should hold a JSON list"),
    ],
)
def test_json_of_another_kind_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TargetError, match=says):
        read_labels(path)


def test_imagenet() -> None:
    names = imagenet_labels()
    assert len(names) == 1000
    assert {0: "tench", 243: "bull mastiff", 281: "tabby", 285: "Egyptian cat", 999: "toilet tissue"}.items() <= dict(
        enumerate(names)
    ).items()
    assert all(name == name.strip() != "" for name in names)


def test_there_has_to_be_a_label_for_every_class_and_no_more() -> None:
    """One too many is a background class, or a heading, in front: every name would be the next class's."""
    check_labels(["a", "b"], 2)
    for given in (["a"], ["a", "b", "c"]):
        with pytest.raises(TargetError, match=rf"^{len(given)} labels for a model of 2 classes: give one for every"):
            check_labels(given, 2)
    check_labels(["a", "b"], 7, 2)
    with pytest.raises(TargetError, match=r"^1 labels for a model of 2 classes: give one for every"):
        check_labels(["a"], 7, 2, 7)
