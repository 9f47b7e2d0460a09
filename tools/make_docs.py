"""Write the generated parts of the documentation, or with --check say which are stale (exit status 1).

The README or a page in docs/ holds `<!-- generated: NAME -->`, the text, `<!-- end -->`; the text is what
SECTIONS[NAME] returns.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from markdown import table

ROOT = Path(__file__).resolve().parent.parent
SECTION = re.compile(r"(?P<start><!-- generated: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def methods_table() -> str:
    """The methods as the registry knows them."""
    from onnxcam.methods import list_methods

    head = ("Method", "Title", "Level", "Reads", "Channels", "Shows", "Numeric gradient", "Source")
    return table(
        head,
        (
            (
                f"`{method.name}`",
                method.title,
                method.level,
                ", ".join(f"`{need}`" for need in method.needs),
                method.reduce or "summed inside",
                "both signs" if method.signed else "above zero",
                "suffices" if method.mean_only else "no",
                method.paper,
            )
            for method in list_methods()
        ),
    )


def methods_in_short() -> str:
    """The methods, what kind of map each gives, and where it comes from."""
    from onnxcam.methods import list_methods

    rows = (
        (f"`{m.name}`", m.title, m.level, "both signs" if m.signed else "above zero", m.paper) for m in list_methods()
    )
    return table(("Method", "Title", "Level", "Shows", "Source"), rows)


def targets_table() -> str:
    """The spellings of targets, as their parsers document them."""
    from onnxcam.targets.resolve import SPELLINGS

    told = dict.fromkeys(" ".join((row.targets.__doc__ or "").split()).rstrip(".") for row in SPELLINGS)
    return table(("`--target`", "explains"), (spelled.split(": ", 1) for spelled in told))


def operators_table() -> str:
    """The operators with a rule and its formula, then those without one."""
    from onnxcam.vjp import list_operators

    listed = list_operators()
    ruled = [operator for operator in listed if operator.support == "rule"]
    rows = ((code(o.domain, o.name), ", ".join(map(str, o.versions)), plain(o.note)) for o in ruled)
    flat = ", ".join(code(o.domain, o.name) for o in listed if o.support == "no gradient")
    upgraded = ", ".join(f"{code(o.domain, o.name)} is {plain(o.note)}" for o in listed if o.support == "upgraded")
    reasons: dict[str, list[str]] = {}
    for operator in listed:
        if operator.support == "out of scope":
            reasons.setdefault(operator.note, []).append(code(operator.domain, operator.name))
    refused = ((", ".join(names), plain(why)) for why, names in reasons.items())
    return "\n\n".join(
        [
            f"### With a rule ({len(ruled)})",
            table(("Operator", "Versions", "Rule"), rows),
            "### No gradient",
            f"Their output does not move with their inputs, so nothing passes through them: {flat}.",
            f"Older ones: {upgraded}.",
            "### Out of scope",
            table(("Operator", "Why, and what to do"), refused),
        ]
    )


def code(domain: str, name: str) -> str:
    """An operator's name as code."""
    return f"`{domain}.{name}`" if domain else f"`{name}`"


def plain(text: str) -> str:
    """Text that Markdown leaves alone inside a table."""
    return re.sub(r"([|*_<\\])", r"\\\1", text)


def cli_sections() -> str:
    """The commands, their options and what they print."""
    from document_cli import cli_reference

    return cli_reference()


def readme_example() -> str:
    """What the README's first command prints."""
    from document_cli import example

    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "sample_models", Path(folder) / "sample_models")
        return example("run sample_models/squeezenet11.onnx sample_models/chelsea.png -o onnxcam_out", Path(folder))


def costs_table() -> str:
    """What tools/bench.py measured last; SystemExit when that was another version."""
    import bench

    import onnxcam

    measured = json.loads((ROOT / "docs" / "costs.json").read_text(encoding="utf-8"))
    if measured["version"] != onnxcam.__version__:
        raise SystemExit(f"docs/costs.json is of onnxcam {measured['version']}: run tools/bench.py --save")
    return str(bench.markdown(measured))


def parity_tables() -> str:
    """What tools/parity.py found last."""
    import parity

    return parity.markdown(json.loads(parity.FIGURES.read_text(encoding="utf-8")))


SECTIONS: dict[str, Callable[[], str]] = {
    "cli": cli_sections,
    "cost": costs_table,
    "example": readme_example,
    "methods": methods_table,
    "methods-short": methods_in_short,
    "operators": operators_table,
    "parity": parity_tables,
    "targets": targets_table,
}


def filled(page: str) -> str:
    """The page with every generated section written anew.  KeyError for a name that SECTIONS lacks."""
    return SECTION.sub(lambda found: f"{found['start']}{SECTIONS[found['name']]()}\n{found['end']}", page)


def stale_pages(docs: Path) -> dict[Path, str]:
    """The README above `docs` and each page under it that are not what they should be, with what they should be."""
    found = [path for path in (docs.parent / "README.md", *sorted(docs.rglob("*.md"))) if path.is_file()]
    pages = {path: path.read_text(encoding="utf-8") for path in found}
    return {path: new for path, old in pages.items() if (new := filled(old)) != old}


def main(arguments: list[str] | None = None) -> int:
    """Write the stale pages, or only name them."""
    parser = argparse.ArgumentParser(description="Write the generated parts of README.md and docs/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is stale")
    options = parser.parse_args(arguments)
    stale = stale_pages(ROOT / "docs")
    for path, page in stale.items():
        if not options.check:
            path.write_text(page, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)}: {'stale' if options.check else 'written'}\n")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
