"""The model as a graph: load, normalize, index, inspect, cut, write."""

from onnxcam.graph.agreeing import with_told_sizes
from onnxcam.graph.blocked import BLOCKED, CURE
from onnxcam.graph.calls import check_calls
from onnxcam.graph.cut import (
    Head,
    can_be_cut,
    declared,
    features,
    free_taps,
    head,
    packing_pays,
    pruned,
)
from onnxcam.graph.deployed import as_deployed
from onnxcam.graph.edit import (
    default_to,
    expose,
    forget_authors,
    rename,
    restore_interface,
    without_idle_weights,
    write_metadata,
)
from onnxcam.graph.feeds import check_fed, type_name, with_feeds
from onnxcam.graph.fused import ACTIVATION, activation_of
from onnxcam.graph.image import image_input
from onnxcam.graph.imagesfirst import SWAP, images_second
from onnxcam.graph.index import Graph
from onnxcam.graph.inference import IMPURE, is_pure
from onnxcam.graph.integers import MICROSOFT, MOVING, QUANTIZERS, scaling
from onnxcam.graph.layers import (
    BRANCH,
    IN_PART,
    Layer,
    all_arrive,
    at_usual_size,
    candidates,
    inspected,
    list_layers,
    told_size,
)
from onnxcam.graph.layout import NOMINAL, layouts, of_size
from onnxcam.graph.lines import line_height
from onnxcam.graph.load import Model, load
from onnxcam.graph.loops import is_placeholder
from onnxcam.graph.malformed import PerilError
from onnxcam.graph.named import named_layer, placed_before
from onnxcam.graph.nodes import all_nodes, attributes, called, captures, copied, optional, reads, renamed, subgraphs
from onnxcam.graph.normalize import lift_constants, sort_nodes
from onnxcam.graph.normalized import white_of
from onnxcam.graph.operators import has_one_scale, operand_order, reduced_axes
from onnxcam.graph.pooled import global_mean, pooled_value
from onnxcam.graph.quantized import (
    dequantized,
    quantizer,
    rounded,
    same_constant,
    sources,
    unquantized,
)
from onnxcam.graph.read import of_one_image, read_graph, read_layers, with_branches
from onnxcam.graph.score import any_class_row, behind_output, find_score, zipped_names
from onnxcam.graph.scoreaxes import class_axis
from onnxcam.graph.sizing import doubtful, same_in_front, same_padding
from onnxcam.graph.slicing import stretches
from onnxcam.graph.source import indices_of, source_of
from onnxcam.graph.types import INTEGERS, RANGES, Shape, ValueType, made_up, shown
from onnxcam.graph.widened import widened
from onnxcam.graph.write import data_of, save

__all__ = [
    "ACTIVATION",
    "BLOCKED",
    "BRANCH",
    "CURE",
    "IMPURE",
    "INTEGERS",
    "IN_PART",
    "MICROSOFT",
    "MOVING",
    "NOMINAL",
    "QUANTIZERS",
    "RANGES",
    "SWAP",
    "Graph",
    "Head",
    "Layer",
    "Model",
    "PerilError",
    "Shape",
    "ValueType",
    "activation_of",
    "all_arrive",
    "all_nodes",
    "any_class_row",
    "as_deployed",
    "at_usual_size",
    "attributes",
    "behind_output",
    "called",
    "can_be_cut",
    "candidates",
    "captures",
    "check_calls",
    "check_fed",
    "class_axis",
    "copied",
    "data_of",
    "declared",
    "default_to",
    "dequantized",
    "doubtful",
    "expose",
    "features",
    "find_score",
    "forget_authors",
    "free_taps",
    "global_mean",
    "has_one_scale",
    "head",
    "image_input",
    "images_second",
    "indices_of",
    "inspected",
    "is_placeholder",
    "is_pure",
    "layouts",
    "lift_constants",
    "line_height",
    "list_layers",
    "load",
    "made_up",
    "named_layer",
    "of_one_image",
    "of_size",
    "operand_order",
    "optional",
    "packing_pays",
    "placed_before",
    "pooled_value",
    "pruned",
    "quantizer",
    "read_graph",
    "read_layers",
    "reads",
    "reduced_axes",
    "rename",
    "renamed",
    "restore_interface",
    "rounded",
    "same_constant",
    "same_in_front",
    "same_padding",
    "save",
    "scaling",
    "shown",
    "sort_nodes",
    "source_of",
    "sources",
    "stretches",
    "subgraphs",
    "told_size",
    "type_name",
    "unquantized",
    "white_of",
    "widened",
    "with_branches",
    "with_feeds",
    "with_told_sizes",
    "without_idle_weights",
    "write_metadata",
    "zipped_names",
]
