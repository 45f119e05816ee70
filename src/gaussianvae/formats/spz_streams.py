"""The container of SPZ files: header, and one array of bytes an attribute; gzip (versions 1-3) or zstd (version 4).

Layouts from the format's text and its library (github.com/nianticlabs/spz, README.md and src/cc/load-spz.cc, MIT). No
size that a file claims is believed before it was held against the bytes that are there, and no stream is decompressed
further than the header's counts ask for.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats.registry import Bytes

MAGIC = b"NGSP"
GZIP = b"\x1f\x8b\x08"
"""With the one method that it has: two bytes could begin a .splat file."""
ANTIALIASED = 1
EXTENSIONS = 2
ATTRIBUTES = ("positions", "alphas", "colors", "scales", "rotations", "sh")
"""In the order of the file."""
MOST_DEGREE = 4
MOST_BITS = 30
"""Of fractional bits; readers compute 1 << bits in 32 bits."""
MOST_RATIO = 200
"""A file that promises more than 1 MiB and so many times its own size is refused; real ones become 1 to 4 times it."""
GZIP_LEVEL = 6
"""What the library uses."""
ZSTD_LEVEL = 9
CHUNK = 1 << 18
_LEGACY = struct.Struct("<4sII4B")
_HEADER = struct.Struct("<4sII4BI12x")
_ENTRY = struct.Struct("<QQ")

Streams = dict[str, NDArray[np.uint8]]
"""The bytes of each attribute of a file."""


@dataclass(frozen=True)
class Header:
    """What an SPZ file says of itself."""

    version: int
    count: int
    degree: int
    fractional_bits: int
    flags: int

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each attribute, decompressed."""
        coefficients = (self.degree + 1) ** 2 - 1
        each = (6 if self.version == 1 else 9, 1, 3, 3, 3 if self.version < 3 else 4, 3 * coefficients)
        return {name: self.count * size for name, size in zip(ATTRIBUTES, each, strict=True)}


def read_streams(path: Path, data: Bytes) -> tuple[Header, Streams]:
    """The header of an SPZ file of any version, and its attributes as bytes; extensions are skipped.

    Raises:
        GaussianVAEError: no SPZ, another version, cut off, damaged, or sizes that don't agree.
    """
    if data[:3] == GZIP:
        return _read_gzip(path, data)
    if data[:4] == MAGIC:
        return _read_zstd(path, data)
    raise GaussianVAEError(f"{path}: is no SPZ file (it begins with {data[:4]!r}, neither with {MAGIC!r} nor as gzip)")


def _check(path: Path, header: Header, versions: range, size: int) -> None:
    if header.version not in versions:
        raise GaussianVAEError(f"{path}: is SPZ of version {header.version} here; 1-3 (gzip) and 4 (zstd) can be read")
    if header.degree > MOST_DEGREE:
        raise GaussianVAEError(f"{path}: has SH degree {header.degree}; SPZ holds degrees 0 to {MOST_DEGREE}")
    if header.fractional_bits > MOST_BITS:
        raise GaussianVAEError(f"{path}: has {header.fractional_bits} fractional bits; 0 to {MOST_BITS} make sense")
    need = sum(header.sizes.values())
    if need > (1 << 20) + MOST_RATIO * size:
        raise GaussianVAEError(
            f"{path}: promises {header.count} Gaussians ({need} bytes) in {size} bytes; the file is damaged or cut off"
        )


class _Gzip:
    """A gzip stream that is decompressed piece by piece, never beyond what is asked for."""

    def __init__(self, path: Path, data: Bytes) -> None:
        self.path, self.data, self.at, self.tail = path, data, 0, b""
        self.stream = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def read(self, most: int) -> bytes:
        """At least one and at most so many bytes; none at the end of the stream or of the file."""
        while not self.stream.eof:
            if not self.tail:
                self.tail = self.data[self.at : self.at + CHUNK]
                self.at += len(self.tail)
                if not self.tail:
                    break
            try:
                piece = self.stream.decompress(self.tail, most)
            except zlib.error as error:
                raise GaussianVAEError(f"{self.path}: its gzip stream is damaged ({error})") from error
            self.tail = self.stream.unconsumed_tail
            if piece:
                return piece
        return b""

    def fill(self, target: NDArray[np.uint8]) -> int:
        """Fill an array as far as the stream reaches; says how far."""
        done = 0
        while done < len(target) and (piece := self.read(min(len(target) - done, 4 * CHUNK))):
            target[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
            done += len(piece)
        return done


def _read_gzip(path: Path, data: Bytes) -> tuple[Header, Streams]:
    stream = _Gzip(path, data)
    start = np.empty(_LEGACY.size, np.uint8)
    if stream.fill(start) < len(start) or bytes(start[:4]) != MAGIC:
        raise GaussianVAEError(f"{path}: is gzip, but of no SPZ file (it holds {bytes(start[:4])!r}, not {MAGIC!r})")
    _, version, count, degree, bits, flags, _ = _LEGACY.unpack(start.tobytes())
    header = Header(version, count, degree, bits, flags)
    _check(path, header, range(1, 4), len(data))
    streams: Streams = {}
    for name, size in header.sizes.items():
        streams[name] = np.empty(size, np.uint8)
        there = stream.fill(streams[name])
        if there < size:
            raise GaussianVAEError(f"{path}: is cut off: its {count} {name} need {size} bytes, {there} are there")
    # extensions follow the attributes in these versions
    if not flags & EXTENSIONS:
        if stream.read(1):
            raise GaussianVAEError(f"{path}: holds more bytes than its {count} Gaussians need; the file is damaged")
        if not stream.stream.eof:
            raise GaussianVAEError(f"{path}: is cut off: its gzip stream doesn't end")
        if stream.stream.unused_data or stream.at < len(data):
            raise GaussianVAEError(f"{path}: has bytes after its gzip stream; the file is damaged")
    return header, streams


def _read_zstd(path: Path, data: Bytes) -> tuple[Header, Streams]:
    if len(data) < _HEADER.size:
        raise GaussianVAEError(f"{path}: is cut off: the header needs {_HEADER.size} bytes, {len(data)} are there")
    _, version, count, degree, bits, flags, parts, toc = _HEADER.unpack(data[: _HEADER.size])
    header = Header(version, count, degree, bits, flags)
    _check(path, header, range(4, 5), len(data))
    wanted = {name: size for name, size in header.sizes.items() if size}
    if parts != len(wanted):
        raise GaussianVAEError(
            f"{path}: has {parts} streams; {count} Gaussians of SH degree {degree} have {len(wanted)}"
        )
    at = toc + parts * _ENTRY.size
    if toc < _HEADER.size or at > len(data):
        raise GaussianVAEError(f"{path}: is cut off: its table of streams ends at byte {at}, the file at {len(data)}")
    entries = list(_ENTRY.iter_unpack(data[toc:at]))
    if at + sum(packed for packed, _ in entries) != len(data):
        end = at + sum(packed for packed, _ in entries)
        raise GaussianVAEError(f"{path}: is cut off or damaged: its streams end at byte {end}, the file at {len(data)}")
    streams: Streams = {name: np.zeros(0, np.uint8) for name in ATTRIBUTES}
    for (name, size), (packed, unpacked) in zip(wanted.items(), entries, strict=True):
        if unpacked != size:
            raise GaussianVAEError(f"{path}: its {name} have {unpacked} bytes; {count} Gaussians need {size}")
        streams[name] = _unpack_zstd(path, name, data[at : at + packed], size)
        at += packed
    return header, streams


def _unpack_zstd(path: Path, name: str, packed: bytes, size: int) -> NDArray[np.uint8]:
    """One stream of so many bytes; what its frame says of its size is not asked."""
    import zstandard

    values = np.empty(size, np.uint8)
    view, done = values.data, 0
    with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as stream:
        try:
            while done < size and (got := stream.readinto(view[done : done + 4 * CHUNK])):
                done += got
            more = stream.read(1) if done == size else b""
        except zstandard.ZstdError as error:
            raise GaussianVAEError(f"{path}: the stream of its {name} is damaged ({error})") from error
    if done < size:
        raise GaussianVAEError(f"{path}: is cut off: its {name} need {size} bytes, {done} are there")
    if more:
        raise GaussianVAEError(f"{path}: its {name} hold more than {size} bytes; the file is damaged")
    return values


def write_streams(file: BinaryIO, header: Header, streams: Streams) -> None:
    """Write a file of version 3 or 4."""
    if header.version < 4:
        _write_gzip(file, header, streams)
    else:
        _write_zstd(file, header, streams)


def _write_gzip(file: BinaryIO, header: Header, streams: Streams) -> None:
    gzip = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16, 9)
    start = (MAGIC, header.version, header.count, header.degree, header.fractional_bits, header.flags, 0)
    file.write(gzip.compress(_LEGACY.pack(*start)))
    for name in ATTRIBUTES:
        for at in range(0, len(streams[name]), CHUNK):
            file.write(gzip.compress(streams[name][at : at + CHUNK].data))
    file.write(gzip.flush())


def _write_zstd(file: BinaryIO, header: Header, streams: Streams) -> None:
    import zstandard

    packer = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    there: list[NDArray[Any]] = [streams[name] for name in ATTRIBUTES if len(streams[name])]
    frames = [packer.compress(stream.data) for stream in there]
    start = (MAGIC, header.version, header.count, header.degree, header.fractional_bits, header.flags)
    file.write(_HEADER.pack(*start, len(frames), _HEADER.size))
    for frame, stream in zip(frames, there, strict=True):
        file.write(_ENTRY.pack(len(frame), len(stream)))
    for frame in frames:
        file.write(frame)
