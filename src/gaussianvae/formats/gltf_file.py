"""The glTF container: JSON, buffers, accessors; every number in it is checked against the bytes that are there.

After the glTF 2.0 specification (Khronos): sections 3.6 (buffers, accessors), 4 (GLB).
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats.beside import read_beside
from gaussianvae.formats.registry import Bytes

MAGIC = b"glTF"
PARTS = 1 << 18
"""Values that the JSON may hold; an honest one has thousands, and each costs a hundred times its characters."""
KINDS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


@dataclass(frozen=True)
class Document:
    """A parsed glTF."""

    path: Path
    json: dict[str, Any]
    binary: memoryview | None
    """The binary chunk of a GLB."""
    buffers: dict[int, memoryview] = field(default_factory=dict)
    """Those that were used."""

    def entry(self, kind: str, index: object) -> dict[str, Any]:
        """An object of one of the arrays at the top of the JSON.

        Raises:
            GaussianVAEError: there is none of that index.
        """
        entries = self.json.get(kind)
        entries = entries if isinstance(entries, list) else []
        if type(index) is not int or not 0 <= index < len(entries) or not isinstance(entries[index], dict):
            raise GaussianVAEError(f"{self.path}: refers to {kind}[{str(index)[:20]}], of {len(entries)}")
        found: dict[str, Any] = entries[index]
        return found


def parse_gltf(path: Path, data: Bytes) -> Document:
    """Parse a `.glb` or a `.gltf`.

    Raises:
        GaussianVAEError: cut off, another version, or no JSON.
    """
    if data[:4] != MAGIC:
        return Document(path, _parse_json(path, data[:]), None)
    chunks: list[tuple[bytes, int, int]] = []
    version, length = struct.unpack("<2I", data[4:12]) if len(data) >= 12 else (2, 12)
    if version != 2:
        raise GaussianVAEError(f"{path}: is a GLB of version {version}; version 2 can be read")
    at = 12
    # the JSON chunk, then at most one that counts
    while at + 8 <= min(length, len(data)) and len(chunks) < 2:
        size, kind = struct.unpack("<I4s", data[at : at + 8])
        if at + 8 + size > len(data):
            raise GaussianVAEError(f"{path}: is cut off: a chunk of {size} bytes begins at {at} of {len(data)} bytes")
        chunks.append((kind, at + 8, at + 8 + size))
        at += 8 + size
    if not chunks or chunks[0][0] != b"JSON":
        raise GaussianVAEError(f"{path}: is a damaged GLB: it doesn't begin with a JSON chunk")
    binary = [memoryview(data)[start:end] for kind, start, end in chunks[1:] if kind == b"BIN\0"]
    return Document(path, _parse_json(path, data[chunks[0][1] : chunks[0][2]]), binary[0] if binary else None)


def _parse_json(path: Path, text: bytes) -> dict[str, Any]:
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > PARTS:
        raise GaussianVAEError(f"{path}: its JSON has more than {PARTS} values; that is no splat")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GaussianVAEError(f"{path}: is no glTF: its JSON can't be parsed") from error
    if not isinstance(content, dict) or not isinstance(content.get("asset"), dict):
        raise GaussianVAEError(f"{path}: is no glTF: its JSON has no asset")
    return content


def _whole(document: Document, where: dict[str, Any], key: str, missing: int = 0) -> int:
    value = where.get(key, missing)
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise GaussianVAEError(f"{document.path}: has {key} {str(value)[:20]} where a whole number is needed")
    return value


def _buffer(document: Document, index: object) -> memoryview:
    entry = document.entry("buffers", index)
    assert isinstance(index, int)
    if index not in document.buffers:
        length, uri = _whole(document, entry, "byteLength"), entry.get("uri")
        if uri is None and index == 0 and document.binary is not None:
            content = document.binary
        elif isinstance(uri, str) and uri.startswith("data:"):
            content = _data_uri(document, uri)
        elif isinstance(uri, str):
            content = memoryview(read_beside(document.path, unquote(uri), length + 3))
        else:
            raise GaussianVAEError(f"{document.path}: buffer {index} is nowhere: no uri, and no binary chunk")
        if len(content) < length:
            raise GaussianVAEError(f"{document.path}: is cut off: buffer {index} has {len(content)} of {length} bytes")
        document.buffers[index] = content[:length]
    return document.buffers[index]


def _data_uri(document: Document, uri: str) -> memoryview:
    head, _, body = uri.partition(",")
    try:
        if not head.endswith(";base64"):
            raise ValueError
        return memoryview(base64.b64decode(body, validate=True))
    except (ValueError, binascii.Error) as error:
        raise GaussianVAEError(f"{document.path}: has an embedded buffer that is no base64") from error


def view_bytes(document: Document, index: object) -> tuple[memoryview, int | None]:
    """The bytes of a buffer view, and its stride if it has one.

    Raises:
        GaussianVAEError: it reaches beyond its buffer, or is compressed.
    """
    view = document.entry("bufferViews", index)
    extensions = view.get("extensions")
    packed = [name for name in extensions if "compression" in name] if isinstance(extensions, dict) else []
    if packed:
        raise GaussianVAEError(f"{document.path}: its buffers are packed with {packed[0]}; unpack them first")
    content = _buffer(document, view.get("buffer"))
    start, length = _whole(document, view, "byteOffset"), _whole(document, view, "byteLength")
    if start + length > len(content):
        raise GaussianVAEError(
            f"{document.path}: buffer view {index} ends at byte {start + length} of a buffer of {len(content)}"
        )
    return content[start : start + length], _whole(document, view, "byteStride") if "byteStride" in view else None


def count_of(document: Document, index: object) -> int:
    """How many elements an accessor claims, at least 1."""
    count = _whole(document, document.entry("accessors", index), "count")
    if count < 1:
        raise GaussianVAEError(f"{document.path}: accessor {index} has no elements")
    return count


def read_accessor(document: Document, index: object, what: str, count: int, widths: tuple[int, ...]) -> NDArray[Any]:
    """The values (count, width) of an accessor, float32, normalized ones in 0-1 or -1 to 1.

    Args:
        document: the file.
        index: of the accessor.
        what: names it in messages.
        count: elements that it must have; more than the file has bytes are never allocated.
        widths: numbers an element that are allowed.

    Raises:
        GaussianVAEError: another type or count, or it reaches beyond its buffer.
    """
    accessor = document.entry("accessors", index)
    width = WIDTHS.get(str(accessor.get("type")))
    if width not in widths or width is None:
        raise GaussianVAEError(f"{document.path}: {what} is {str(accessor.get('type'))[:20]}, of the wrong width")
    if count_of(document, index) != count:
        raise GaussianVAEError(f"{document.path}: {what} has {count_of(document, index)} elements of {count}")
    kind = _kind(document, accessor, what)
    if "bufferView" in accessor:
        values = _elements(document, accessor, kind, count, width, what)
    else:
        values = np.zeros((count, width), kind)
    if isinstance(accessor.get("sparse"), dict):
        values = _with_sparse(document, accessor["sparse"], values, what)
    floats = values.astype(np.float32)
    if accessor.get("normalized") is True and kind.kind in "iu":
        floats = np.maximum(floats / np.iinfo(kind).max, -1)
    return floats


def _kind(document: Document, holder: dict[str, Any], what: str) -> np.dtype[Any]:
    code = holder.get("componentType")
    if not isinstance(code, int) or isinstance(code, bool) or code not in KINDS:
        raise GaussianVAEError(f"{document.path}: {what} has component type {str(code)[:20]}; expected 5120 to 5126")
    return np.dtype(KINDS[code])


def _elements(
    document: Document, holder: dict[str, Any], kind: np.dtype[Any], count: int, width: int, what: str
) -> NDArray[Any]:
    """Elements as they are stored, checked against the bytes of their buffer view."""
    content, stride = view_bytes(document, holder.get("bufferView"))
    size = kind.itemsize * width
    start, stride = _whole(document, holder, "byteOffset"), size if stride is None else stride
    if count < 1 or stride < size or start + stride * (count - 1) + size > len(content):
        raise GaussianVAEError(
            f"{document.path}: {what} needs {count} elements of {size} bytes, {stride} apart from byte {start}; "
            f"its buffer view has {len(content)} bytes"
        )
    return np.ndarray((count, width), kind, content, start, (stride, kind.itemsize))


def _with_sparse(document: Document, sparse: dict[str, Any], values: NDArray[Any], what: str) -> NDArray[Any]:
    """Some elements replaced, as `sparse` says."""
    indices, replaced = sparse.get("indices"), sparse.get("values")
    if not isinstance(indices, dict) or not isinstance(replaced, dict):
        raise GaussianVAEError(f"{document.path}: {what} is sparse without indices and values")
    count = _whole(document, sparse, "count")
    rows = _elements(document, indices, _kind(document, indices, what), count, 1, what)[:, 0]
    if rows.dtype.kind != "u" or rows.max() >= len(values):
        raise GaussianVAEError(f"{document.path}: {what} is sparse with indices beyond its {len(values)} elements")
    values = values.copy()
    values[rows] = _elements(document, replaced, values.dtype, count, values.shape[1], what)
    return values
