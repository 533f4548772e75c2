"""Damage to the model behind right sums: JSON, tensors, packed weights, values."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from format.damage import edit, put
from format.rawfile import RawFile, RawTensor

# --- the model's JSON ------------------------------------------------------------------------------------


@edit("model: not JSON")
def model_not_json(raw: RawFile) -> None:
    raw.sd = "{'graph': 1}"


@edit("model.sd: not an object")
def model_is_a_list(raw: RawFile) -> None:
    raw.sd = []


@edit("model: duplicate key 'report'")
def duplicate_key_in_model(raw: RawFile) -> None:
    raw.sd = json.dumps(raw.sd)[:-1] + ',"report":[]}'


@edit("model: not in canonical form")
def model_not_canonical(raw: RawFile) -> None:
    raw.sd = json.dumps(raw.sd, indent=1)


@edit("sd.recipe: not in canonical form")
def recipe_without_its_defaults(raw: RawFile) -> None:
    del raw.sd["recipe"]["otherwise"]


@edit("model: NaN")
def nan_in_model(raw: RawFile) -> None:
    raw.sd["report"] = [{"x": float("nan")}]


@edit("model: not JSON")
def number_of_many_digits(raw: RawFile) -> None:
    raw.sd = '{"schema_version":' + "9" * 80_000 + "}"


@edit("schema_version is 3.*newer sd-tvm")
def newer_schema(raw: RawFile) -> None:
    raw.sd["schema_version"] = 3


@edit("schema_version is 1.*sd-tvm compress")
def schema_of_the_earlier_container(raw: RawFile) -> None:
    raw.sd["schema_version"] = 1


@edit("schema_version is 0.*sd-tvm compress")
def older_unknown_schema(raw: RawFile) -> None:
    raw.sd["schema_version"] = 0


@edit("schema_version is True")
def schema_version_is_a_boolean(raw: RawFile) -> None:
    raw.sd["schema_version"] = True


@edit("schema_version is None")
def no_schema_version(raw: RawFile) -> None:
    del raw.sd["schema_version"]


@edit("sd.plugins: Extra inputs")
def unknown_key_in_model(raw: RawFile) -> None:
    raw.sd["plugins"] = ["os.system"]


@edit("sd.activations: Field required")
def no_activations_key(raw: RawFile) -> None:
    del raw.sd["activations"]


# --- tensors ---------------------------------------------------------------------------------------------


@edit("tensor 'weights/dense/basis' is missing")
def missing_tensor(raw: RawFile) -> None:
    del raw.tensors["weights/dense/basis"]


@edit("tensor 'weights/dense/ids' belongs to nothing")
def extra_tensor(raw: RawFile) -> None:
    raw.tensors["weights/dense/ids"] = RawTensor("U8", [16], bytearray(16))


@edit("tensor 'notes' belongs to nothing")
def tensor_of_another_family(raw: RawFile) -> None:
    raw.tensors["notes"] = RawTensor("U8", [4], bytearray(b"abcd"))


@edit("tensor 'spare' is not used by the graph")
def unreferenced_tensor(raw: RawFile) -> None:
    raw.sd["tensors"] = sorted([*raw.sd["tensors"], "spare"])
    raw.tensors["tensors/spare"] = RawTensor("F32", [1], bytearray(4))


@edit("sd.tensors: not sorted, or a name twice")
def tensor_listed_twice(raw: RawFile) -> None:
    raw.sd["tensors"].insert(0, raw.sd["tensors"][0])


@edit("layer 'quarter': rows is int8")
def wrong_dtype_of_rows(raw: RawFile) -> None:
    raw.tensors["weights/quarter/rows"].dtype = "I8"


@edit("tensor 'dense.bias' is uint8")
def wrong_dtype_of_a_tensor(raw: RawFile) -> None:
    raw.tensors["tensors/dense.bias"] = RawTensor("U8", [10], bytearray(10))


@edit("layer 'quarter': rows is uint8")
def wrong_shape_of_rows(raw: RawFile) -> None:
    raw.tensors["weights/quarter/rows"].shape.append(1)


@edit("tensor 'raw.bias' is float32 or holds NaN")
def nan_in_a_tensor(raw: RawFile) -> None:
    raw.tensors["tensors/raw.bias"].data[:4] = np.float32(np.nan).tobytes()


def scale(value: float) -> Callable[[RawFile], None]:
    """Set the scale of filter 2 of layer dense."""

    def function(raw: RawFile) -> None:
        raw.tensors["weights/dense/scale"].data[8:12] = np.float32(value).tobytes()

    return function


for _name, _value in (("nan", np.nan), ("infinite", np.inf), ("negative", -1.0), ("zero", 0.0)):
    _function = scale(_value)
    _function.__name__ = f"{_name}_weight_scale"
    edit("layer 'dense': scale of filter 2")(_function)


# --- packed weights --------------------------------------------------------------------------------------


@edit("layer 'dense': rows: filter 0, slot 0 is number 4095. Expected: less than 3375")
def number_of_no_row(raw: RawFile) -> None:
    rows = raw.tensors["weights/dense/rows"].data
    rows[0], rows[1] = 0xFF, rows[1] | 0x0F


@edit("layer 'quarter': codes: filter 0, slot . holds row 31.*Expected: a row index < 21")
def row_index_beyond_the_rows(raw: RawFile) -> None:
    # Block 1 of filter 0 has its mask in bytes 2 and 3: bit 15 in place of the lowest.
    rows = raw.tensors["weights/quarter/rows"].data
    mask = int.from_bytes(rows[2:4], "little")
    rows[2:4] = (mask & mask - 1 | 1 << 15).to_bytes(2, "little")


@edit("layer 'quarter': rows: filter 0, block 0 marks 3 rows of which 4 of 4 are stored")
def row_without_a_mark(raw: RawFile) -> None:
    rows = raw.tensors["weights/quarter/rows"].data
    mask = int.from_bytes(rows[:2], "little")
    rows[:2] = (mask & mask - 1).to_bytes(2, "little")


@edit("layer 'eighth': codes: a slot without coefficients has a row index")
def index_of_an_empty_slot(raw: RawFile) -> None:
    # 8 filters of two blocks: 16 bytes of indices, then numbers of 11 bits.
    rows = raw.tensors["weights/eighth/rows"].data
    rows[16:19] = bytes([0, 0, rows[18] & 0xC0])
    rows[0] = 0x50


@edit("layer 'eighth': codes: a row is stored twice")
def row_stored_twice(raw: RawFile) -> None:
    rows = raw.tensors["weights/eighth/rows"].data
    rows[0] = rows[0] & 15 | (rows[0] & 15) << 4


@edit("layer 'eighth': codes: the rows of a block are not in ascending order")
def rows_out_of_order(raw: RawFile) -> None:
    rows = raw.tensors["weights/eighth/rows"].data
    rows[0] = rows[0] >> 4 | (rows[0] & 15) << 4


@edit("sd.storage: Input should be 'plain' or 'entropy'")
def storage_unknown(raw: RawFile) -> None:
    raw.sd["storage"] = "zip"


@edit("storage None in version 2")
def no_storage(raw: RawFile) -> None:
    del raw.sd["storage"]


@edit("tensor 'weights/dense/coded' is missing")
def storage_of_other_arrays(raw: RawFile) -> None:
    raw.sd["storage"] = "entropy"


@edit("layer 'shared': bitmap of group 0 keeps 6 rows")
def bitmap_population(raw: RawFile) -> None:
    bitmap = raw.tensors["weights/shared/bitmap"].data
    bitmap[0] |= ~bitmap[0] & -(~bitmap[0])  # the lowest bit that is 0


@edit("layer 'shared': bitmap is uint8 .1, 2.")
def bitmap_with_padding(raw: RawFile) -> None:
    raw.tensors["weights/shared/bitmap"].shape = [1, 2]


@edit("layer 'eighth': filter 3 uses basis 7 of a codebook of 3")
def basis_id_out_of_range(raw: RawFile) -> None:
    raw.tensors["weights/eighth/ids"].data[3] = 7


@edit("layer 'dense': basis is int8 .10, 16.")
def basis_with_padding(raw: RawFile) -> None:
    raw.tensors["weights/dense/basis"] = RawTensor("I8", [10, 16], bytearray(160))


@edit("layer 'raw': filter 0 holds -128")
def raw_weight_of_minus_128(raw: RawFile) -> None:
    raw.tensors["weights/raw/w8"].data[0] = 0x80


@edit("layer 'raw': w8 is int8 .1, 9, 16.")
def raw_with_padding(raw: RawFile) -> None:
    raw.tensors["weights/raw/w8"] = RawTensor("I8", [1, 9, 16], bytearray(144))


@edit("layer 'raw': weight shape .* is absurd for a file of")
def absurd_weight_shape(raw: RawFile) -> None:
    raw.sd["weights"]["raw"]["shape"] = [6, 2**30, 2**30, 3]


@edit("sd.weights.raw.shape.0: Input should be less than")
def weight_dimension_beyond_31_bits(raw: RawFile) -> None:
    raw.sd["weights"]["raw"]["shape"][0] = 2**31


# --- values of the model's JSON --------------------------------------------------------------------------

for _args in (
    (
        "weight_shape_of_three",
        "weights/raw/shape",
        [1, 3, 3],
        "sd.weights.raw.shape: List should have at least 4",
    ),
    ("weight_kind_unknown", "weights/raw/kind", "fp8", "sd.weights.raw.kind"),
    ("int8_weight_with_form", "weights/dense/kind", "int8", "layer 'dense': kind 'int8' with a form"),
    ("sd_weight_without_form", "weights/raw/kind", "sd", "layer 'raw': kind 'sd' without a form"),
    ("pattern_unknown", "weights/dense/form/pattern", "5:16", "layer 'dense': unknown row pattern '5:16'"),
    ("alphabet_unknown", "weights/dense/form/alphabet", "morse", "layer 'dense': unknown alphabet 'morse'"),
    ("alphabet_unlisted", "weights/dense/form/alphabet", "pow2-5", "layer 'dense': rows|alphabets"),
    ("basis_kind_unknown", "weights/dense/form/basis_kind", "x", "layer 'dense': unknown basis kind 'x'"),
    ("slice_rows_odd", "weights/half/form/slice_rows", 17, "layer 'half': slice_rows 17"),
    ("kept_rows_too_many", "weights/shared/form/kept_rows", 99, "layer 'shared': kept_rows 99"),
    ("group_filters_odd", "weights/shared/form/group_filters", 20, "layer 'shared': group_filters 20"),
    ("group_filters_huge", "weights/shared/form/group_filters", 2**40, "layer 'shared': group_filters"),
    ("code_table_changed", "alphabets/two-term/3", 7, "sd.alphabets.two-term"),
    ("code_table_unused", "alphabets/mine", [0] * 16, "sd.alphabets: .*'mine'"),
    ("negative_activation_scale", "activations/dense/scale", -0.5, "activation 'dense': scale -0.5"),
    ("zero_activation_scale", "activations/dense/scale", 0.0, "activation 'dense': scale 0.0"),
    ("activation_scale_beyond_float32", "activations/dense/scale", 1e300, "'dense': scale 1e.300"),
    ("activation_scale_of_float64", "activations/dense/scale", 0.1, "'dense': scale 0.1.*float32"),
    ("activation_scale_is_text", "activations/dense/scale", "1", "sd.activations.dense.scale"),
    (
        "zero_point_of_256",
        "activations/dense/zero_point",
        256,
        "activation 'dense': zero point 256.*0 to 255",
    ),
    ("zero_point_of_minus_129", "activations/half/zero_point", -129, "activation 'half': zero point -129"),
    (
        "zero_point_negative_for_uint8",
        "activations/image/zero_point",
        -1,
        "activation 'image': zero point -1",
    ),
    ("zero_point_is_a_float", "activations/image/zero_point", 1.5, "sd.activations.image.zero_point"),
    ("activation_dtype_unknown", "activations/image/dtype", "int4", "sd.activations.image.dtype"),
    (
        "activation_of_no_value",
        "activations/ghost",
        {"dtype": "uint8", "scale": 1.0, "zero_point": 0},
        "activation 'ghost' is not used by the graph",
    ),
    ("recipe_of_another_version", "recipe/version", 9, "recipe: .*version"),
    ("recipe_with_a_number_as_text", "recipe/solver/iterations", "30", "sd.recipe: not in canonical form"),
    ("integer_for_a_scale", "activations/dense/scale", 1, "sd.activations: not in canonical form"),
    ("recipe_with_unknown_key", "recipe/rules/0/exec", "rm", "recipe: .*rules.0.exec"),
    ("report_row_is_nested", "report/0/node", {"a": 1}, "sd.report.0.node"),
    ("versions_of_numbers", "versions/sd-tvm", 1, "sd.versions.sd-tvm"),
    ("graph_is_a_list", "graph", [], "sd.graph"),
    ("graph_without_outputs", "graph/outputs", [], "graph: no outputs"),
    ("graph_output_unknown", "graph/outputs", ["ghost"], "graph output 'ghost'"),
    ("dangling_graph_input", "graph/nodes/1/inputs/0", "ghost", "graph node 'half': input 'ghost'"),
    ("cyclic_graph", "graph/nodes/0/inputs/0", "end", "graph node 'dense' uses 'end'.*cycle"),
    ("node_feeds_itself", "graph/nodes/0/inputs/0", "dense", "graph node 'dense' uses 'dense'.*cycle"),
    ("two_nodes_of_one_name", "graph/nodes/1/name", "dense", "'dense'"),
    ("node_attributes_are_a_list", "graph/nodes/0/attrs", [1], r"graph.nodes\[0\].attrs: list"),
    ("node_with_unknown_key", "graph/nodes/0/code", "x", r"graph.nodes\[0\]: keys \['code'\]"),
    ("node_is_text", "graph/nodes/0", "conv", r"graph.nodes\[0\]: str"),
    ("node_shape_negative", "graph/nodes/0/shape/0", -1, "graph node 'dense': shape"),
    (
        "weight_that_no_node_takes",
        "graph/nodes/5/attrs",
        {},
        "weights of layer 'raw' is not used by the graph",
    ),
    ("weight_that_is_not_stored", "graph/nodes/6/attrs", {"$args": [{"weight": True}]}, "'end': its weight"),
    ("operand_out_of_range", "graph/nodes/0/attrs/$args/0", {"value": 2}, "'dense': .*input 2 of 2"),
    ("operand_of_unknown_form", "graph/nodes/0/attrs/$args/0", {"eval": "x"}, "'dense': .*eval"),
    ("operands_are_text", "graph/nodes/0/attrs/$args", "x", "'dense': .*args"),
    ("index_of_no_tuple", "graph/nodes/0/attrs/$index", 1, "'dense': .*index"),
    ("layer_of_no_node", "graph/nodes/5/name", "other", "'raw'"),
):
    put(*_args)
