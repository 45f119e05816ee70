"""SPZ files made from bytes, and one Gaussian decoded by hand, as the format's text says (github.com/nianticlabs/spz)."""

from __future__ import annotations

import gzip
import math
import struct

import numpy as np
import zstandard

WIDTHS = {0: 0, 1: 9, 2: 24, 3: 45, 4: 72}


def gzipped(
    version: int, count: int, degree: int, body: bytes, bits: int = 12, flags: int = 0, magic: int = 0x5053474E
) -> bytes:
    """Versions 1-3."""
    return gzip.compress(struct.pack("<IIIBBBB", magic, version, count, degree, bits, flags, 0) + body, 1)


def zstd(
    count: int,
    degree: int,
    parts: list[bytes],
    bits: int = 12,
    flags: int = 0,
    extensions: bytes = b"",
    sizes: list[int] | None = None,
    version: int = 4,
) -> bytes:
    """Version 4; empty parts have no stream."""
    parts = [part for part in parts if part]
    frames = [zstandard.ZstdCompressor(level=1).compress(part) for part in parts]
    start = struct.pack("<IIIBBBBI", 0x5053474E, version, count, degree, bits, flags, len(parts), 32 + len(extensions))
    toc = b"".join(
        struct.pack("<QQ", len(frame), size)
        for frame, size in zip(frames, sizes or [len(part) for part in parts], strict=True)
    )
    return start + bytes(12) + extensions + toc + b"".join(frames)


def random_parts(version: int, count: int, degree: int, seed: int = 0) -> list[bytes]:
    """Positions, alphas, colors, scales, rotations and harmonics of arbitrary bits that a writer could have made."""
    random = np.random.default_rng(seed)

    def some(width: int) -> bytes:
        return random.integers(0, 256, count * width, dtype=np.uint8).tobytes()

    positions = some(9) if version > 1 else random.normal(0, 300, 3 * count).astype("<f2").tobytes()
    if version < 3:
        rotations = random.integers(65, 191, 3 * count, dtype=np.uint8).tobytes()
    else:
        others = random.integers(0, 290, (count, 3)) | random.integers(0, 2, (count, 3)) << 9
        largest = random.integers(0, 4, count)
        packed = largest << 30 | others[:, 0] << 20 | others[:, 1] << 10 | others[:, 2]
        rotations = packed.astype("<u4").tobytes()
    return [positions, some(1), some(3), some(3), rotations, some(WIDTHS[degree])]


def file_of(version: int, count: int, degree: int, parts: list[bytes], bits: int = 12, flags: int = 0) -> bytes:
    """A whole file of any version."""
    if version == 4:
        return zstd(count, degree, parts, bits, flags)
    return gzipped(version, count, degree, b"".join(parts), bits, flags)


def decode_row(version: int, degree: int, bits: int, parts: list[bytes], row: int) -> list[float]:
    """Mean, quaternion wxyz, scales, opacity, base color, and harmonics (three bands at most) of one Gaussian."""
    positions, alphas, colors, scales, rotations, sh = parts
    if version == 1:
        mean = list(struct.unpack_from("<3e", positions, 6 * row))
    else:
        numbers = [positions[9 * row + 3 * k : 9 * row + 3 * k + 3] for k in range(3)]
        mean = [int.from_bytes(number, "little", signed=True) / 2**bits for number in numbers]
    if version < 3:
        x, y, z = (value / 127.5 - 1 for value in rotations[3 * row : 3 * row + 3])
        quat = [math.sqrt(1 - x * x - y * y - z * z), x, y, z]
    else:
        field = f"{int.from_bytes(rotations[4 * row : 4 * row + 4], 'little'):032b}"
        largest, others = int(field[:2], 2), []
        for at in (2, 12, 22):
            magnitude = int(field[at + 1 : at + 10], 2) / 511 * math.sqrt(0.5)
            others.append(-magnitude if field[at] == "1" else magnitude)
        others.insert(largest, math.sqrt(1 - sum(value * value for value in others)))
        quat = [others[3], *others[:3]]
    return [
        *mean,
        *quat,
        *(math.exp(value / 16 - 10) for value in scales[3 * row : 3 * row + 3]),
        alphas[row] / 255,
        *((value / 255 - 0.5) / 0.15 for value in colors[3 * row : 3 * row + 3]),
        *((value - 128) / 128 for value in sh[WIDTHS[degree] * row :][: min(WIDTHS[degree], 45)]),
    ]
