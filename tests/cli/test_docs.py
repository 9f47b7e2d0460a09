"""docs/cli.md has every command with the options that it really takes."""

from __future__ import annotations

import re

import click
import document_cli
import pytest

from onnxcam.cli import main
from onnxcam.cli.group import COMMANDS
from tests.cli.conftest import ROOT, Invoke
from tests.cli.test_run import KEYS

PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_documented_as_it_is(name: str) -> None:
    context = click.Context(main, info_name="onnxcam", **main.context_settings)
    command = main.get_command(context, name)
    assert command is not None
    text = document_cli.section(command, click.Context(command, context, info_name=name))
    assert text in PAGE


def test_every_option_is_in_its_table(onnxcam: Invoke) -> None:
    for name in COMMANDS:
        told = set(re.findall(r"--[a-z-]+", onnxcam(name, "--help").stdout)) - {"--help"}
        section = PAGE.partition(f"## `onnxcam {name}`")[2].partition("\n## ")[0]
        assert told <= set(re.findall(r"--[a-z-]+", section))


def test_the_examples_are_those_of_the_page() -> None:
    assert re.findall(r"^\$ onnxcam (.*)$", PAGE, re.MULTILINE) == [
        words for name in COMMANDS for words in document_cli.EXAMPLES[name]
    ]


def test_every_key_of_the_json_is_told() -> None:
    table = PAGE.partition("### JSON")[2]
    assert re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line)) == KEYS
