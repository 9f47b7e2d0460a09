"""The reference of the command line, from the commands themselves and from what they print on the sample files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from markdown import table

ROOT = Path(__file__).resolve().parent.parent

TINY, CAT = "tiny_cnn.onnx blobs.png", "squeezenet11.onnx chelsea.png"
EXAMPLES = {
    "run": (f"run {CAT} -t top:2", f"run {TINY} --json"),
    "layers": ("layers tiny_cnn.onnx",),
    "ops": ("ops tiny_cnn.onnx",),
    "check": (f"check {TINY}",),
    "export": ("export tiny_cnn.onnx -o explained.onnx --split parts",),
}


def cli_reference() -> str:
    """A section for every command: what it does, its options, examples."""
    from onnxcam.cli import main

    context = click.Context(main, info_name="onnxcam", **main.context_settings)
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for file in (ROOT / "sample_models").iterdir():
            shutil.copy(file, folder)
        for name in main.list_commands(context):
            command = main.get_command(context, name)
            assert command is not None
            parts.append(section(command, click.Context(command, context, info_name=name)))
            parts += [example(words, Path(folder)) for words in EXAMPLES[name]]
    return "\n\n".join(parts)


def section(command: click.Command, context: click.Context) -> str:
    """One command without its examples."""
    usage = command.get_usage(context).removeprefix("Usage: ")
    parts = [f"## `onnxcam {context.info_name}`", f"```\n{usage}\n```", unwrapped(command.help or "")]
    options = [row(param) for param in command.params if isinstance(param, click.Option)]
    parts.append(table(("Option", "Meaning"), options))
    return "\n\n".join(parts)


def unwrapped(text: str) -> str:
    """Paragraphs without the line breaks that docstrings have."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def row(option: click.Option) -> tuple[str, str]:
    """An option's spellings and value, and what it means."""
    value = "" if option.is_flag else f" {option.metavar or '|'.join(getattr(option.type, 'choices', ()))}"
    default = option.default if option.show_default else None
    told = f" Default `{' '.join(default) if isinstance(default, list | tuple) else default}`." if default else ""
    return f"`{', '.join(option.opts)}{value}`".replace("|", "\\|"), f"{option.help}{told}".replace("|", "\\|")


def example(words: str, folder: Path) -> str:
    """A command and what it prints; numbers that differ from machine to machine are rounded."""
    ran = subprocess.run(
        [sys.executable, "-m", "onnxcam", *words.split()],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    printed = pretty(json.loads(ran.stdout)) if "--json" in words else ran.stdout.rstrip()
    return f"```console\n$ onnxcam {words}\n{ran.stderr}{printed}\n```"


def pretty(record: dict[str, Any]) -> str:
    """An object with a key per line, for people; the seconds are any machine's."""
    shown = {**rounded(record), "seconds": 0.01}
    return "{" + ",\n ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in shown.items()) + "}"


def rounded(value: Any) -> Any:
    """The same with four digits a number."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
