"""Damage to the container: sizes, header, offsets, sums."""

from __future__ import annotations

import json
from typing import Any

from format.damage import damage, edit, header
from format.rawfile import RawFile, frame

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


@damage("'tensors/dense.bias' is truncated, it ends at 40 of 0 bytes")
def truncated_before_data(data: bytes) -> bytes:
    return data[: 8 + int.from_bytes(data[:8], "little")]


@damage("'weights/shared/ids' is truncated")
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


@damage("duplicate key 'tensors/dense.bias'")
def duplicate_tensor_in_header(data: bytes) -> bytes:
    n = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + n].rstrip(b" ")
    entry = b',"tensors/dense.bias":{"dtype":"F32","shape":[10],"data_offsets":[0,40]}}'
    return frame(text[:-1] + entry) + data[8 + n :]


@damage("not in canonical form")
def spaces_in_header(data: bytes) -> bytes:
    n = int.from_bytes(data[:8], "little")
    return frame(data[8 : 8 + n].replace(b'"F32","shape"', b'"F32", "shape"')) + data[8 + n :]


@damage("'weights/quarter/codes' has sum")
def flipped_byte_in_codes(data: bytes) -> bytes:
    n = int.from_bytes(data[:8], "little")
    begin, _ = json.loads(data[8 : 8 + n])["weights/quarter/codes"]["data_offsets"]
    at = 8 + n + begin + 17
    return data[:at] + bytes([data[at] ^ 64]) + data[at + 1 :]


@damage("sum of the whole file differs")
def flipped_digit_in_a_scale(data: bytes) -> bytes:
    return data.replace(b"0.0078125", b"0.0078124")


@damage("sum of the whole file differs")
def flipped_digit_in_the_sum(data: bytes) -> bytes:
    at = data.index(b'"sha256":"') + 10
    return data[:at] + (b"1" if data[at : at + 1] == b"0" else b"0") + data[at + 1 :]


# --- header ----------------------------------------------------------------------------------------------


@header("'tensors/eighth.bias' at 36 overlaps")
def overlapping_offsets(table: dict[str, Any]) -> None:
    offsets = table["tensors/eighth.bias"]["data_offsets"]
    table["tensors/eighth.bias"]["data_offsets"] = [offsets[0] - 4, offsets[1] - 4]


@header("'tensors/eighth.bias' at 44 leaves a gap")
def gap_between_tensors(table: dict[str, Any]) -> None:
    offsets = table["tensors/eighth.bias"]["data_offsets"]
    table["tensors/eighth.bias"]["data_offsets"] = [offsets[0] + 4, offsets[1] + 4]


@header(r"'tensors/dense.bias': offsets \[40, 0\] hold -40 bytes")
def reversed_offsets(table: dict[str, Any]) -> None:
    table["tensors/dense.bias"]["data_offsets"] = [40, 0]


@header("'tensors/dense.bias': data_offsets")
def negative_offset(table: dict[str, Any]) -> None:
    table["tensors/dense.bias"]["data_offsets"] = [-4, 36]


@header("'weights/raw/w8': offsets .* hold .* bytes")
def shape_larger_than_data(table: dict[str, Any]) -> None:
    table["weights/raw/w8"]["shape"] = [2**40, 2**40, 16]


@header("'weights/raw/w8': shape")
def empty_dimension(table: dict[str, Any]) -> None:
    table["weights/raw/w8"]["shape"] = [0, 2**62, 2**62]


@header("'weights/raw/w8': shape")
def boolean_in_shape(table: dict[str, Any]) -> None:
    table["weights/raw/w8"]["shape"][0] = True


@header("'weights/raw/w8': dtype 'F64'")
def unsupported_dtype(table: dict[str, Any]) -> None:
    table["weights/raw/w8"]["dtype"] = "F64"


@header("'weights/raw/w8': dtype")
def dtype_is_a_list(table: dict[str, Any]) -> None:
    table["weights/raw/w8"]["dtype"] = ["U8"]


@header("'weights/raw/w8': .*'stride'")
def unknown_key_of_a_tensor(table: dict[str, Any]) -> None:
    table["weights/raw/w8"]["stride"] = 1


@header("'weights/raw/w8': list")
def tensor_entry_is_a_list(table: dict[str, Any]) -> None:
    table["weights/raw/w8"] = []


@header("tensor name")
def control_character_in_name(table: dict[str, Any]) -> dict[str, Any]:
    return {k.replace("weights/raw/w8", "weights/raw\n/w8"): v for k, v in table.items()}


@header("safetensors file of another kind")
def no_metadata(table: dict[str, Any]) -> None:
    del table["__metadata__"]


@header("safetensors file of another kind")
def metadata_of_another_program(table: dict[str, Any]) -> None:
    table["__metadata__"] = {"format": "pt"}


@header("'sd' is missing")
def metadata_without_model(table: dict[str, Any]) -> None:
    del table["__metadata__"]["sd"]


@header("'sha256' is missing")
def metadata_without_sum(table: dict[str, Any]) -> None:
    del table["__metadata__"]["sha256"]


@header("unknown key 'signature'")
def unknown_metadata_key(table: dict[str, Any]) -> None:
    table["__metadata__"]["signature"] = "x"


@header("2 sums in crc32")
def missing_sums_of_tensors(table: dict[str, Any]) -> None:
    table["__metadata__"]["crc32"] = "00000000,00000000"


@edit("stands after", sort=False)
def tensors_out_of_order(raw: RawFile) -> None:
    raw.tensors = dict(reversed(raw.tensors.items()))
