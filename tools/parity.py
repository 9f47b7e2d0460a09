"""Gradients and Grad-CAM maps of many architectures against torch.autograd, and what they cost.

    python tools/parity.py run --out DIR [--net PART ...] [--again]
    python tools/parity.py table --out DIR [--markdown] [--save]

Every network of parity_nets.py is exported four ways: by torch's old exporter and its new one, with one image and with
a free batch, which is run with another number of images than it was exported with. Of each file three things are held
against torch.autograd in float64: the gradient at the image, at layers that `list_layers` names, and the Grad-CAM map
of the first of them. They are right within max(1e-4, 10 x noise) in the relative L2 norm; noise is the largest distance
of torch's own float32 gradients (parity_truth.py). onnx-ad differentiates the same files, for comparison.

One process per network, with a time limit; DIR/NETWORK.json holds what is done, and a run goes on where the last ended.
Needs the oracle environment (CONTRIBUTING.md).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown import table

FIGURES = Path(__file__).resolve().parent.parent / "docs" / "parity.json"
LIMIT = 1200  # seconds for a network
STATES = ("right", "wrong", "refused", "crashed", "runtime differs", "not exported")
PEER_STATES = ("right", "wrong", "refused")
Facts = dict[str, Any]
COSTS: dict[str, Callable[[Facts], float]] = {
    "gradient / forward": lambda file: file["gradient_ms"] / file["forward_ms"],
    "gradient / torch": lambda file: file["gradient_ms"] / file["torch_ms"],
    "nodes added / nodes": lambda file: file["added"] / file["nodes"],
    "build, s": lambda file: file["build_s"],
}


# -- running --------------------------------------------------------------------------------------


def examine(name: str, sheet: Path) -> None:
    """Everything about one network in this process; what is known is written after every file."""
    from parity_files import EXPORTS, File, export, first_line
    from parity_nets import NETS, build
    from parity_truth import reference

    quietly(sheet.with_suffix(".log"))
    net = build(name)
    truth = reference(net, NETS[name].shape)
    weights = sum(weight.numel() for weight in net.parameters())
    files: dict[str, Facts] = {}
    facts = {"net": name, "weights": weights, "noise": truth.image.noise}
    for kind in EXPORTS:
        write(sheet, facts | {"files": files | {kind: {"state": "crashed", "why": "the process ended"}}})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            try:
                export(net, NETS[name], path, kind)
            except Exception as error:  # noqa: BLE001  (exporters raise anything; the table tells what)
                files[kind] = {"state": "not exported", "why": first_line(error)}
            else:
                files[kind] = File(path, net, truth, free=kind.endswith("free")).judged()
    write(sheet, facts | {"files": files, "complete": True})


def quietly(log: Path) -> None:
    """This process runs on one thread and talks into a file: exporters say a lot."""
    import torch

    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operator has no ONNX form
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def write(sheet: Path, facts: Mapping[str, Any]) -> None:
    """Replace a sheet at once: a reader never sees half of one."""
    draft = sheet.with_suffix(".part")
    draft.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    draft.replace(sheet)


def run(out: Path, parts: Sequence[str], again: bool) -> None:
    """A process for every network that is not done."""
    from parity_nets import NETS

    out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["parity_files"])
    chosen = [name for name in NETS if not parts or any(part in name for part in parts)]
    for count, name in enumerate(chosen, 1):
        sheet = out / f"{name}.json"
        if again or not (sheet.exists() and read(sheet).get("complete")):
            sheet.unlink(missing_ok=True)
            process = context.Process(target=examine, args=(name, sheet))
            process.start()
            process.join(LIMIT)
            process.kill()
            process.join()
            if process.exitcode:
                known = read(sheet) if sheet.exists() else {"net": name, "files": {}}
                write(
                    sheet,
                    known | {"problem": f"exit status {process.exitcode}: {last_line(sheet.with_suffix('.log'))}"},
                )
        print(f"[{count}/{len(chosen)}] {told(read(sheet))}", flush=True)


def last_line(log: Path) -> str:
    """What a process said last."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "")


def read(sheet: Path) -> Facts:
    """A sheet."""
    facts: Facts = json.loads(sheet.read_text(encoding="utf-8"))
    return facts


def ended(facts: Facts) -> bool:
    """Whether a network is done, for good or ill."""
    return bool(facts.get("complete") or "problem" in facts)


def told(facts: Facts) -> str:
    """A network in one line."""
    files = (f"{kind} {file['state']} {file['why']}".strip() for kind, file in facts["files"].items())
    return "; ".join([facts["net"], *files, *([facts["problem"]] if "problem" in facts else [])])


# -- telling --------------------------------------------------------------------------------------


def gathered(sheets: Iterable[Facts]) -> Facts:
    """What docs/parity.md shows: states and the peer's verdicts by kind of export, costs, and what is not right."""
    import onnxcam

    nets = sorted(sheets, key=lambda facts: facts["net"])
    every = [file for net in nets for file in net["files"].values()]
    kinds = list(dict.fromkeys(kind for net in nets for kind in net["files"]))
    files = {kind: [net["files"][kind] for net in nets if kind in net["files"]] for kind in kinds}
    costs = {title: sorted(cost(file) for file in every if "gradient_ms" in file) for title, cost in COSTS.items()}
    return {
        "version": onnxcam.__version__,
        "nets": len(nets),
        "states": {kind: Counter(file["state"] for file in found) for kind, found in files.items()},
        "peer": {kind: Counter(verdict(file) for file in found if "onnx_ad" in file) for kind, found in files.items()},
        "compared": Counter(what.split()[0] for file in every for what in file.get("errors", ())),
        "costs": {t: {"median": statistics.median(c), "worst": c[-1]} for t, c in costs.items() if c},
        "exceptions": [
            f"{net['net']}, {kind}: {file['state']}, {file['why']}"
            for net in nets
            for kind, file in net["files"].items()
            if file["state"] not in ("right", "not exported")
        ],
    }


def verdict(file: Facts) -> str:
    """The peer's state."""
    return str(file["onnx_ad"]).partition(":")[0]


def markdown(figures: Facts) -> str:
    """The tables of docs/parity.md."""
    states = [s for s in STATES if any(s in counted for counted in figures["states"].values())]
    columns = [*states, *(f"onnx-ad {state}" for state in PEER_STATES)]
    rows = [
        [kind, *(str(counted.get(s, 0)) for s in states), *(str(figures["peer"][kind].get(s, 0)) for s in PEER_STATES)]
        for kind, counted in figures["states"].items()
    ]
    costs = [[title, f"{cost['median']:.2f}", f"{cost['worst']:.2f}"] for title, cost in figures["costs"].items()]
    exceptions = [f"- {text}" for text in figures["exceptions"]]
    return "\n\n".join(
        [
            table(["export", *columns], rows, figures=True),
            table(["cost", "median", "worst"], costs, figures=True),
            f"{figures['nets']} networks, onnxcam {figures['version']}. Compared: "
            + ", ".join(f"{what} {count}" for what, count in figures["compared"].items())
            + ".",
            *(["\n".join(["Not right:", "", *exceptions])] if exceptions else []),
        ]
    )


def main() -> None:
    """Run, or tell what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner, teller = commands.add_parser("run"), commands.add_parser("table")
    for command in (runner, teller):
        command.add_argument("--out", type=Path, required=True)
    runner.add_argument("--net", action="append", default=[], help="only networks with this in their name (repeatable)")
    runner.add_argument("--again", action="store_true", help="also what is done")
    teller.add_argument("--markdown", action="store_true", help="the tables of docs/parity.md, not a line per network")
    teller.add_argument("--save", action="store_true", help="keep the figures in docs/parity.json, for docs/parity.md")
    options = parser.parse_args()
    if options.command == "run":
        run(options.out, options.net, options.again)
    else:
        sheets = [facts for sheet in sorted(options.out.glob("*.json")) if ended(facts := read(sheet))]
        figures = gathered(sheets)
        if options.save:
            FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        print(markdown(figures) if options.markdown else "\n".join(map(told, sheets)))


if __name__ == "__main__":
    main()
