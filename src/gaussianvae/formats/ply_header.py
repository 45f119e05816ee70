"""PLY headers: elements, properties, comments; and the rows of elements as numpy structured arrays."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats.registry import Bytes

MAX_HEADER = 1 << 20
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
NAMES = {
    "i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint",
    "f4": "float", "f8": "double",
}  # fmt: skip
BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_END = re.compile(rb"\n[ \t]*end_header[ \t\r]*\n")
_COUNT = re.compile(r"-?[0-9]{1,100}", re.ASCII)


@dataclass
class Element:
    """One table of the file."""

    name: str
    count: int
    properties: list[tuple[str, str]] = field(default_factory=list)
    """(name, numpy type code) in the order of the file."""
    has_lists: bool = False
    """Whether a property is a list; then its rows can't be read, nor what follows them."""

    def dtype(self, order: str) -> np.dtype[np.void]:
        """Of one row; `order` is < or >."""
        return np.dtype([(name, order + code) for name, code in self.properties])

    @property
    def names(self) -> list[str]:
        """Property names."""
        return [name for name, _ in self.properties]


@dataclass
class Header:
    """What stands before the data."""

    encoding: str
    elements: list[Element]
    comments: list[str]
    size: int
    """Bytes up to the data."""

    def element(self, name: str) -> Element | None:
        """The element of a name, if there is one."""
        return next((element for element in self.elements if element.name == name), None)


def parse_header(path: Path, data: Bytes) -> Header:
    """Parse the header at the beginning of `data`.

    Raises:
        GaussianVAEError: no PLY, no end of the header, or a line that makes no sense.
    """
    if not len(data):
        raise GaussianVAEError(f"{path}: is empty; expected a PLY file")
    if data[:64].split(b"\n")[0].strip() != b"ply":
        raise GaussianVAEError(f"{path}: is no PLY file (it begins with {data[:8]!r}, not with a line 'ply')")
    end = _END.search(data, 0, MAX_HEADER)
    if end is None:
        raise GaussianVAEError(f"{path}: its header has no line end_header; the file is cut off or no PLY")
    header = Header("", [], [], end.end())
    for number, line in enumerate(data[: end.start()].split(b"\n")[1:], 2):
        _parse_line(path, number, _text(line).strip(), header)
    if not header.encoding:
        raise GaussianVAEError(f"{path}: its header has no format line (expected one of {', '.join(BYTE_ORDERS)})")
    return header


def _text(line: bytes) -> str:
    # PLY names no encoding; comments of old tools are Latin-1
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _parse_line(path: Path, number: int, line: str, header: Header) -> None:
    word, *parts = line.split() or [""]
    bad = GaussianVAEError(f"{path}: header line {number} makes no sense: {line[:60]!r}")
    if word in ("comment", "obj_info"):
        header.comments.append(line[len(word) :].strip())
    elif word == "format":
        if not parts or parts[0] not in BYTE_ORDERS:
            raise bad
        header.encoding = parts[0]
    elif word == "element":
        if len(parts) != 2 or not _COUNT.fullmatch(parts[1]):
            raise bad
        count = int(parts[1])
        if count < 0:
            raise GaussianVAEError(
                f"{path}: its header counts {count} of element {parts[0]}; a count can't be negative"
            )
        if header.element(parts[0]) is not None:
            raise GaussianVAEError(f"{path}: element {parts[0]} is listed twice")
        header.elements.append(Element(parts[0], count))
    elif word == "property":
        if not header.elements:
            raise bad
        element = header.elements[-1]
        if len(parts) == 4 and parts[0] == "list":
            element.has_lists = True
            return
        if len(parts) != 2 or parts[0] not in TYPES:
            raise bad
        if parts[1] in element.names:
            raise GaussianVAEError(f"{path}: property {parts[1]} of element {element.name} is listed twice")
        element.properties.append((parts[1], TYPES[parts[0]]))
    elif word:
        raise bad


def read_tables(path: Path, data: Bytes, header: Header, wanted: Collection[str]) -> dict[str, NDArray[Any]]:
    """The rows of the wanted elements by name, as structured arrays (views of `data` where it is binary).

    Elements after the last wanted one aren't looked at.

    Raises:
        GaussianVAEError: fewer bytes than the header promises, or a list property in the way.
    """
    missing = {element.name for element in header.elements} & set(wanted)
    at = header.size
    numbers = _parse_numbers(path, data[at:]) if header.encoding == "ascii" else np.zeros(0)
    tables: dict[str, NDArray[Any]] = {}
    for element in header.elements:
        if not missing:
            break
        if element.has_lists:
            raise GaussianVAEError(f"{path}: element {element.name} has a list property; this is a mesh, not a splat")
        if header.encoding == "ascii":
            need = element.count * len(element.properties)
            _check_length(path, element, need, len(numbers), "numbers")
            rows, numbers = numbers[:need], numbers[need:]
            if element.name in missing:
                tables[element.name] = _as_table(element, rows)
        else:
            dtype = element.dtype(BYTE_ORDERS[header.encoding])
            need = element.count * dtype.itemsize
            _check_length(path, element, need, len(data) - at, "bytes")
            if element.name in missing and need:
                tables[element.name] = np.frombuffer(data, dtype, element.count, at)
            elif element.name in missing:
                tables[element.name] = np.zeros(0, dtype)
            at += need
        missing.discard(element.name)
    return tables


def _check_length(path: Path, element: Element, need: int, there: int, unit: str) -> None:
    if need > there:
        raise GaussianVAEError(
            f"{path}: is cut off: {element.count} rows of {element.name} need {need} {unit}, {there} are there"
        )


def _parse_numbers(path: Path, text: bytes) -> NDArray[np.float64]:
    """All numbers of a text."""
    if not text.strip():
        return np.zeros(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy's word for text that is no number
            return np.fromstring(text, dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise GaussianVAEError(f"{path}: its rows hold something that is no number") from error


def _as_table(element: Element, values: NDArray[np.float64]) -> NDArray[Any]:
    width = len(element.properties)
    table = np.zeros(element.count if width else 0, element.dtype("<"))
    with np.errstate(invalid="ignore", over="ignore"):
        for column, name in enumerate(element.names):
            table[name] = values.reshape(len(table), width)[:, column]
    return table


def make_header(count: int, properties: Sequence[tuple[str, str]], comments: Sequence[str]) -> bytes:
    """Header of a little-endian file with one element `vertex`."""
    return header_of([Element("vertex", count, list(properties))], comments)


def header_of(elements: Sequence[Element], comments: Sequence[str]) -> bytes:
    """Header of a little-endian file; a line break in a comment becomes a space."""
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += ["comment " + re.sub(r"[\r\n]+", " ", comment) for comment in comments]
    for element in elements:
        lines.append(f"element {element.name} {element.count}")
        lines += [f"property {NAMES[code]} {name}" for name, code in element.properties]
    return ("\n".join([*lines, "end_header"]) + "\n").encode("utf-8", "replace")
