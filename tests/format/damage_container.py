"""Damage to the container: sizes, header, offsets, sums."""

from __future__ import annotations

import zlib
from typing import Any

from format.damage import damage, edit, header
from format.rawfile import RawFile, RawTensor, dump, frame, parts_of

from sd_tvm.format.deflate import compress

# --- whole bytes -----------------------------------------------------------------------------------------


@damage("0 bytes")
def empty_file(data: bytes) -> bytes:
    return b""


@damage("5 bytes")
def truncated_in_length_field(data: bytes) -> bytes:
    return data[:5]


@damage("header is truncated: 93 of")
def truncated_in_header(data: bytes) -> bytes:
    return data[:101]


@damage("header is truncated: 0 of")
def truncated_after_length_field(data: bytes) -> bytes:
    return data[:8]


@damage("'float32' is truncated, it ends at [0-9]+ of 0 bytes")
def truncated_before_data(data: bytes) -> bytes:
    return data[: 8 + int.from_bytes(data[:8], "little")]


@damage("'uint8' is truncated")
def truncated_by_one_byte(data: bytes) -> bytes:
    return data[:-1]


@damage("1 bytes after the last tensor")
def trailing_byte(data: bytes) -> bytes:
    return data + b"\0"


@damage("header length 18446744073709551615")
def huge_header_length(data: bytes) -> bytes:
    return b"\xff" * 8 + data[8:]


@damage("header length 0")
def zero_header_length(data: bytes) -> bytes:
    return b"\0" * 8 + data[8:]


@damage("header length 67108865")
def header_over_the_limit(data: bytes) -> bytes:
    return (2**26 + 1).to_bytes(8, "little") + data[8:]


@damage("header: not JSON")
def header_length_off_by_eight(data: bytes) -> bytes:
    return (int.from_bytes(data[:8], "little") - 8).to_bytes(8, "little") + data[8:]


@damage("header length|truncated")
def zip_file_of_a_pickle(data: bytes) -> bytes:
    return b"PK\x03\x04\x00\x00\x08\x08" + data[8:]


@damage("header: not JSON")
def text_of_another_kind(data: bytes) -> bytes:
    return frame(b"a: yaml file")


@damage("header: not UTF-8")
def header_not_utf8(data: bytes) -> bytes:
    return data[:20] + b"\xff" + data[21:]


@damage("header: not JSON")
def deeply_nested_header(data: bytes) -> bytes:
    return frame(b"[" * 200000 + b"]" * 200000)


@damage("header: not a JSON object")
def header_is_a_list(data: bytes) -> bytes:
    return frame(b"[1,2]")


@damage("duplicate key 'float32'")
def duplicate_tensor_in_header(data: bytes) -> bytes:
    n = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + n].rstrip(b" ")
    entry = b',"float32":{"dtype":"F32","shape":[10],"data_offsets":[0,40]}}'
    return frame(text[:-1] + entry) + data[8 + n :]


@damage("not in canonical form")
def spaces_in_header(data: bytes) -> bytes:
    n = int.from_bytes(data[:8], "little")
    return frame(data[8 : 8 + n].replace(b'"F32","shape"', b'"F32", "shape"')) + data[8 + n :]


@damage("array 'weights/quarter/rows' has sum")
def flipped_byte_in_rows(data: bytes) -> bytes:
    rows = bytes(RawFile.split(data).tensors["weights/quarter/rows"].data)
    at = data.index(rows) + 17
    return data[:at] + bytes([data[at] ^ 64]) + data[at + 1 :]


@damage("tensor 'model': ")
def flipped_bit_in_the_model(data: bytes) -> bytes:
    at = data.index(parts_of(data)["model"]) + 40
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@damage("sum of the whole file differs")
def flipped_digit_in_the_sum(data: bytes) -> bytes:
    at = data.index(b'"sha256":"') + 10
    return data[:at] + (b"1" if data[at : at + 1] == b"0" else b"0") + data[at + 1 :]


# --- header ----------------------------------------------------------------------------------------------


@header("'crc32' at [0-9]+ overlaps")
def overlapping_offsets(table: dict[str, Any]) -> None:
    table["crc32"]["data_offsets"] = [n - 4 for n in table["crc32"]["data_offsets"]]


@header("'crc32' at [0-9]+ leaves a gap")
def gap_between_tensors(table: dict[str, Any]) -> None:
    table["crc32"]["data_offsets"] = [n + 4 for n in table["crc32"]["data_offsets"]]


@header(r"'float32': offsets \[[0-9]+, 0\] hold -[0-9]+ bytes")
def reversed_offsets(table: dict[str, Any]) -> None:
    table["float32"]["data_offsets"].reverse()


@header("'float32': data_offsets")
def negative_offset(table: dict[str, Any]) -> None:
    table["float32"]["data_offsets"][0] = -4


@header("'int8': offsets .* hold .* bytes")
def shape_larger_than_data(table: dict[str, Any]) -> None:
    table["int8"]["shape"] = [2**40, 2**40, 16]


@header("'int8': shape")
def empty_dimension(table: dict[str, Any]) -> None:
    table["int8"]["shape"] = [0, 2**62, 2**62]


@header("'int8': shape")
def boolean_in_shape(table: dict[str, Any]) -> None:
    table["int8"]["shape"][0] = True


@header("'int8': dtype 'F64'")
def unsupported_dtype(table: dict[str, Any]) -> None:
    table["int8"]["dtype"] = "F64"


@header("'int8': dtype")
def dtype_is_a_list(table: dict[str, Any]) -> None:
    table["int8"]["dtype"] = ["I8"]


@header("'int8' is U8")
def another_known_dtype(table: dict[str, Any]) -> None:
    table["int8"]["dtype"] = "U8"


@header("'uint8' is U8 .* Expected: U8, one dimension")
def two_dimensions(table: dict[str, Any]) -> None:
    table["uint8"]["shape"] = [1, table["uint8"]["shape"][0]]


@header("'int8': .*'stride'")
def unknown_key_of_a_tensor(table: dict[str, Any]) -> None:
    table["int8"]["stride"] = 1


@header("'int8': list")
def tensor_entry_is_a_list(table: dict[str, Any]) -> None:
    table["int8"] = []


@header("tensor name")
def control_character_in_name(table: dict[str, Any]) -> dict[str, Any]:
    return {k.replace("uint8", "uint\n8"): v for k, v in table.items()}


@header("'zebra' belongs to nothing")
def unknown_tensor(table: dict[str, Any]) -> dict[str, Any]:
    return {k.replace("uint8", "zebra"): v for k, v in table.items()}


@header("'model' is missing")
def tensor_model_is_missing(table: dict[str, Any]) -> None:
    """Its bytes go to its neighbour."""
    table["int8"] = {
        "dtype": "I8",
        "shape": [table["int8"]["shape"][0] + table["model"]["shape"][0]],
        "data_offsets": [table["int8"]["data_offsets"][0], table.pop("model")["data_offsets"][1]],
    }


@header("safetensors file of another kind")
def no_metadata(table: dict[str, Any]) -> None:
    del table["__metadata__"]


@header("safetensors file of another kind")
def metadata_of_another_program(table: dict[str, Any]) -> None:
    table["__metadata__"] = {"format": "pt"}


@header("'sha256' is missing")
def metadata_without_sum(table: dict[str, Any]) -> None:
    del table["__metadata__"]["sha256"]


@header("unknown key 'signature'")
def unknown_metadata_key(table: dict[str, Any]) -> None:
    table["__metadata__"]["signature"] = "x"


@header("'version' is no text")
def version_is_a_number(table: dict[str, Any]) -> None:
    table["__metadata__"]["version"] = 2


@header("version None.*sd-tvm compress")
def no_version(table: dict[str, Any]) -> None:
    del table["__metadata__"]["version"]


@header("version '3'.*newer sd-tvm")
def newer_version(table: dict[str, Any]) -> None:
    table["__metadata__"]["version"] = "3"


@header("version 'zwei'.*sd-tvm compress")
def odd_version(table: dict[str, Any]) -> None:
    table["__metadata__"]["version"] = "zwei"


@header("stands after")
def tensors_out_of_order(table: dict[str, Any]) -> None:
    """``int8`` and ``crc32`` exchange their names."""
    names = {"int8": "crc32", "crc32": "int8"}
    items = [(names.get(k, k), v) for k, v in table.items()]
    table.clear()
    table.update(items)


@edit("2 sums in 'crc32'")
def missing_sums_of_arrays(raw: RawFile) -> None:
    raw.sums = bytes(8)


# --- the compressed text ---------------------------------------------------------------------------------


def text_of(raw: RawFile) -> bytes:
    return f'{{"sd":{dump(raw.sd)},"tensors":{dump(raw.listed())}}}'.encode()


@edit("tensor 'model': truncated, or bytes after its end")
def byte_after_the_stream(raw: RawFile) -> None:
    raw.stream = compress(text_of(raw)) + b"\0"


@edit("tensor 'model': truncated, or bytes after its end")
def truncated_stream(raw: RawFile) -> None:
    raw.stream = compress(text_of(raw))[:-6]


@edit("tensor 'model': .* expand to more than")
def stream_that_expands_absurdly(raw: RawFile) -> None:
    raw.stream = zlib.compress(b" " * 2**24, 9)


@edit("tensor 'model': .*header check")
def model_is_not_compressed(raw: RawFile) -> None:
    raw.stream = text_of(raw)


@edit("model: not ASCII")
def text_beyond_ascii(raw: RawFile) -> None:
    raw.text = text_of(raw).replace(b"image", b"im\xe4ge")


@edit("model: not JSON")
def text_is_nested_deeply(raw: RawFile) -> None:
    raw.text = b"[" * 40_000 + b"]" * 40_000


@edit("model: not an object of 'sd' and 'tensors'")
def text_is_a_list(raw: RawFile) -> None:
    raw.text = b"[1,2]"


@edit("model: not in canonical form")
def spaces_in_text(raw: RawFile) -> None:
    raw.text = text_of(raw).replace(b'"F32":', b'"F32": ')


@edit("model.tensors: not an object")
def index_is_a_list(raw: RawFile) -> None:
    raw.index = []


@edit("model.tensors: not an object of .*F32")
def index_of_another_type(raw: RawFile) -> None:
    raw.index = {**raw.listed(), "F64": {"x": [1]}}


@edit("model.tensors.F32: not an object")
def index_of_a_type_is_a_list(raw: RawFile) -> None:
    raw.index = {**raw.listed(), "F32": [1]}


@edit("model.tensors.F32: not an object")
def index_of_a_type_is_empty(raw: RawFile) -> None:
    raw.index = {**raw.listed(), "F32": {}}


@edit("model.tensors: 'weights/raw/w8': shape")
def boolean_in_the_index(raw: RawFile) -> None:
    raw.tensors["weights/raw/w8"].shape[0] = True


@edit("'int8' holds [0-9]+ bytes.*as listed")
def listed_shape_is_absurd(raw: RawFile) -> None:
    raw.tensors["weights/raw/w8"].shape[:2] = [2**40, 2**40]


@edit("'float32' holds [0-9]+ bytes.*as listed")
def array_is_not_listed(raw: RawFile) -> None:
    raw.index = raw.listed()
    del raw.index["F32"]["tensors/dense.bias"]


@edit("'weights/raw/w8' is listed twice")
def array_of_two_types(raw: RawFile) -> None:
    raw.index = raw.listed()
    raw.index["U8"]["weights/raw/w8"] = [16]
    raw.tensors["zebra"] = RawTensor("U8", [16], bytearray(16))


@edit("tensor name")
def control_character_in_the_index(raw: RawFile) -> None:
    raw.tensors = {k.replace("raw/w8", "raw\n/w8"): v for k, v in raw.tensors.items()}
