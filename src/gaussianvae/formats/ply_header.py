"""PLY headers: elements, properties, comments; and the table of one element as a numpy structured array."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gaussianvae.errors import GaussianVAEError

MAX_HEADER = 1 << 20
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
NAMES = {
    "i1": "char",
    "u1": "uchar",
    "i2": "short",
    "u2": "ushort",
    "i4": "int",
    "u4": "uint",
    "f4": "float",
    "f8": "double",
}
BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


@dataclass
class Element:
    """One table of the file."""

    name: str
    count: int
    properties: list[tuple[str, str]] = field(default_factory=list)
    """(name, numpy type code) in the order of the file."""

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


def parse_header(path: Path, data: bytes) -> Header:
    """Parse the header at the beginning of `data`.

    Raises:
        GaussianVAEError: no PLY, no end of the header, or a line that makes no sense.
    """
    if not data:
        raise GaussianVAEError(f"{path}: is empty; expected a PLY file")
    if data[:3] != b"ply":
        raise GaussianVAEError(f"{path}: is no PLY file (it begins with {data[:8]!r}, not with 'ply')")
    end = data.find(b"end_header", 0, MAX_HEADER)
    stop = data.find(b"\n", end) + 1 if end >= 0 else 0
    if end < 0 or stop == 0:
        raise GaussianVAEError(f"{path}: its header has no end_header; the file is cut off or no PLY")
    header = Header("", [], [], stop)
    for number, line in enumerate(data[:end].decode("utf-8", "replace").splitlines()[1:], 2):
        _parse_line(path, number, line.strip(), header)
    if not header.encoding:
        raise GaussianVAEError(f"{path}: its header has no format line")
    return header


def _parse_line(path: Path, number: int, line: str, header: Header) -> None:
    word, _, rest = line.partition(" ")
    parts = rest.split()
    bad = GaussianVAEError(f"{path}: header line {number} makes no sense: {line[:60]!r}")
    if word in ("comment", "obj_info"):
        header.comments.append(rest.strip())
    elif word == "format":
        if not parts or parts[0] not in BYTE_ORDERS:
            raise bad
        header.encoding = parts[0]
    elif word == "element":
        if len(parts) != 2 or not parts[1].lstrip("-").isdigit():
            raise bad
        count = int(parts[1])
        if count < 0:
            raise GaussianVAEError(
                f"{path}: its header counts {count} of element {parts[0]}; a count can't be negative"
            )
        header.elements.append(Element(parts[0], count))
    elif word == "property":
        if not header.elements:
            raise bad
        element = header.elements[-1]
        if parts and parts[0] == "list":
            raise GaussianVAEError(f"{path}: element {element.name} has a list property; this is a mesh, not a splat")
        if len(parts) != 2 or parts[0] not in TYPES:
            raise bad
        if parts[1] in element.names:
            raise GaussianVAEError(f"{path}: property {parts[1]} of element {element.name} is listed twice")
        element.properties.append((parts[1], TYPES[parts[0]]))
    elif word:
        raise bad


def read_tables(path: Path, data: bytes, header: Header) -> dict[str, np.ndarray]:
    """Every element's rows by its name, as structured arrays (views of `data` where it is binary).

    Raises:
        GaussianVAEError: fewer bytes than the header promises.
    """
    if header.encoding == "ascii":
        return _read_ascii(path, data, header)
    order, at = BYTE_ORDERS[header.encoding], header.size
    tables = {}
    for element in header.elements:
        dtype = element.dtype(order)
        need = element.count * dtype.itemsize
        if at + need > len(data):
            raise GaussianVAEError(
                f"{path}: is cut off: {element.count} rows of {element.name} need {need} bytes, "
                f"{max(len(data) - at, 0)} are there"
            )
        tables[element.name] = np.frombuffer(data, dtype, element.count, at) if dtype.itemsize else np.zeros(0, dtype)
        at += need
    return tables


def _read_ascii(path: Path, data: bytes, header: Header) -> dict[str, np.ndarray]:
    words = data[header.size :].split()
    at = 0
    tables = {}
    for element in header.elements:
        width = len(element.properties)
        need = element.count * width
        if at + need > len(words):
            raise GaussianVAEError(
                f"{path}: is cut off: {element.count} rows of {element.name} need {need} numbers, "
                f"{len(words) - at} are there"
            )
        try:
            values = np.array(words[at : at + need], dtype=np.float64).reshape(element.count, width)
        except ValueError as error:
            raise GaussianVAEError(f"{path}: element {element.name} holds something that is no number") from error
        table = np.zeros(element.count, element.dtype("<"))
        with np.errstate(invalid="ignore", over="ignore"):
            for column, name in enumerate(element.names):
                table[name] = values[:, column]
        tables[element.name] = table
        at += need
    return tables


def make_header(count: int, properties: list[tuple[str, str]], comments: list[str]) -> bytes:
    """Header of a little-endian file with one element `vertex`."""
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {' '.join(comment.split())}" for comment in comments]
    lines.append(f"element vertex {count}")
    lines += [f"property {NAMES[code]} {name}" for name, code in properties]
    return ("\n".join([*lines, "end_header"]) + "\n").encode("utf-8")
