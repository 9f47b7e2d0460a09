"""Colour maps: 256 RGB colours from dark to bright, from a few anchors each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnxcam.arguments import NAME, require
from onnxcam.errors import UsageError, did_you_mean

# position:rrggbb, linear between; within 2 of 255 of the maps known by these names.
COLORMAPS = {
    "viridis": """0:440154 23:482173 50:414287 81:32648e 132:1f948c 151:21a685 166:2fb47c 177:40bd72 203:77d153
        233:c5e021 239:d5e21a 246:e7e419 255:fde725""",
    "jet": """0:000080 28:0000ff 32:0000ff 86:00d8ff 89:00e4f8 96:16ffe1 162:ebff0c 165:f4f802 168:feed00 227:ff1300
        232:e80000 255:800000""",
    "turbo": """0:30123b 10:3b2f80 22:4451bf 27:455ed3 34:4771e9 41:4682f8 46:448ffe 52:3d9efe 58:33adf7 73:1bd0d5
        82:18e0bd 89:20eaac 94:2cf09e 108:5dfc6f 123:96fe44 131:acfb38 137:bcf534 155:e5d938 170:faba39 183:fe992c
        195:f9751d 202:f26014 215:e14109 226:cc2b04 237:b21a01 255:7a0403""",
    "inferno": """0:000004 15:0a0722 26:180c3c 40:2f0a5b 48:3d0965 64:57106e 88:7d1e6d 110:a02a63 144:d24644
        166:ea632a 189:f8890c 199:fb9b06 209:fcae12 222:f9c72f 232:f5db4c 246:f2f482 255:fcffa4""",
    "diverging": "0:0000b4 64:3c78ff 127:ffffff 128:ffffff 191:ff643c 255:b40000",
}
"""Name -> anchors. `diverging` is for signed maps: blue below zero, white at it, red above."""


def colormap(name: str) -> npt.NDArray[np.uint8]:
    """The table of a colour map: uint8 (256, 3), RGB, lowest value first.

    Raises:
        UsageError: no such colour map.
    """
    require("colormap", name, NAME)
    if name not in COLORMAPS:
        raise UsageError(f"no colour map {name!r}{did_you_mean(name, COLORMAPS)} (there are: {', '.join(COLORMAPS)})")
    anchors = [anchor.split(":") for anchor in COLORMAPS[name].split()]
    positions = [int(position) for position, _ in anchors]
    colours = np.array([tuple(bytes.fromhex(colour)) for _, colour in anchors], np.float64)
    table = np.stack([np.interp(np.arange(256), positions, channel) for channel in colours.T], axis=1)
    rounded: npt.NDArray[np.uint8] = np.rint(table).astype(np.uint8)
    return rounded
