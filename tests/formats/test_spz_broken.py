"""Damaged and hostile SPZ files: one clear line each, at once, and without the memory that they ask for."""

from __future__ import annotations

import gzip
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zstandard
from spzfiles import file_of, gzipped, random_parts, zstd

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats import read_splats

PARTS = {version: random_parts(version, 20, 1) for version in (1, 2, 3, 4)}
BODY = b"".join(PARTS[3])
NAN = np.full(60, np.nan, "<f2").tobytes() + b"".join(PARTS[1][1:])
FAR = np.full(60, np.inf, "<f2").tobytes() + b"".join(PARTS[1][1:])


def header(**changed: int) -> bytes:
    """A header of version 4 with some fields changed, before what follows it in a whole file."""
    fields = {"magic": 0x5053474E, "version": 4, "count": 20, "degree": 1, "bits": 12, "flags": 0, "streams": 6}
    fields |= {"toc": 32} | changed
    return struct.pack("<IIIBBBBI", *fields.values()) + bytes(12) + zstd(20, 1, PARTS[4])[32:]


def long_stream() -> bytes:
    """A stream whose frame holds more than the table and the header say."""
    parts = [*PARTS[4][:5], PARTS[4][5] + bytes(1000)]
    return zstd(20, 1, parts, sizes=[len(part) for part in PARTS[4]])


def followed_stream() -> bytes:
    """A stream with something behind its frame."""
    frames = [zstandard.ZstdCompressor().compress(part) for part in PARTS[4]]
    frames[2] += b"and more"
    toc = [struct.pack("<QQ", len(f), len(part)) for f, part in zip(frames, PARTS[4], strict=True)]
    return header()[:32] + b"".join(toc) + b"".join(frames)


CASES = {
    "nothing of SPZ": (b"hello, this is a text", "begins with"),
    "gzip of something else": (gzip.compress(b"hello, this is a text"), "no SPZ"),
    "gzip of nearly nothing": (gzip.compress(b"NGSP"), "no SPZ"),
    "another magic": (gzipped(3, 20, 1, BODY, magic=7), "no SPZ"),
    "version 0": (gzipped(0, 20, 1, BODY), "version 0"),
    "version 5 in gzip": (gzipped(5, 20, 1, BODY), "version 5"),
    "version 7": (header(version=7), "version 7"),
    "plain version 2": (header(version=2), "version 2"),
    "degree 5": (gzipped(3, 20, 5, BODY), "degree 5"),
    "degree 200": (header(degree=200), "degree 200"),
    "too many bits": (gzipped(3, 20, 1, BODY, bits=32), "32 fractional bits"),
    "negative count": (gzipped(3, 2**32 - 1, 1, BODY), "promises 4294967295 Gaussians"),
    "huge count of version 4": (header(count=2**31), "promises 2147483648 Gaussians"),
    "a count too high": (gzipped(3, 21, 1, BODY), "cut off"),
    "a count too low": (gzipped(3, 19, 1, BODY), "more bytes"),
    "bytes after gzip": (gzipped(3, 20, 1, BODY) + b"more", "after its gzip"),
    "gzip cut in the data": (gzipped(3, 20, 1, BODY)[:-100], "cut off"),
    "gzip cut in its checksum": (gzipped(3, 20, 1, BODY)[:-3], "doesn't end"),
    "gzip cut in its header": (gzipped(3, 20, 1, BODY)[:5], "no SPZ"),
    "wrong checksum": (gzipped(3, 20, 1, BODY)[:-8] + bytes(8), "damaged"),
    "another number of Gaussians": (header(count=19), "positions have 180 bytes"),
    "one stream less": (header(streams=5), "5 streams"),
    "no streams": (header(streams=0), "0 streams"),
    "table beyond the file": (header(toc=2**32 - 1), "table of streams"),
    "table in the header": (header(toc=8), "table of streams"),
    "cut in the header": (header()[:20], "header needs 32 bytes"),
    "cut in the table": (header()[:60], "table of streams"),
    "cut in the streams": (header()[:-1], "its streams end"),
    "bytes after the streams": (header() + b"more", "its streams end"),
    "a frame longer than it says": (long_stream(), "more than"),
    "bytes after a frame": (followed_stream(), "damaged"),
    "a frame of nonsense": (header()[:128] + b"nonsense" + header()[136:], "damaged"),
    "half floats that are no numbers": (gzipped(1, 20, 1, NAN), "means that are no finite"),
    "half floats that are infinite": (gzipped(1, 20, 1, FAR), "means that are no finite"),
}


@pytest.mark.parametrize("case", CASES)
def test_broken_files_are_one_clear_line(tmp_path: Path, case: str) -> None:
    data, says = CASES[case]
    (tmp_path / "a.spz").write_bytes(data)
    with pytest.raises(GaussianVAEError, match=says) as caught:
        read_splats(tmp_path / "a.spz")
    assert "\n" not in str(caught.value)


def zstd_bomb(claimed: int) -> bytes:
    """Six streams of 64 MiB of zeros each, for a header of so many Gaussians."""
    frame = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 26))
    sizes = [9, 1, 3, 3, 4, 9]
    toc = b"".join(struct.pack("<QQ", len(frame), claimed * size) for size in sizes)
    return header(count=claimed)[:32] + toc + 6 * frame


@pytest.mark.parametrize(
    "bomb",
    [
        gzipped(3, 20, 1, bytes(1 << 28)),
        gzipped(3, 1 << 26, 0, bytes(1 << 28)),
        gzip.compress(bytes(1 << 28), 1),
        zstd_bomb(20),
        zstd_bomb(1 << 26),
        # a table of one size and a frame that says another, and a window of 128 MiB
        zstd(20, 1, [*PARTS[4][:5], bytes(1 << 26)], sizes=[len(part) for part in PARTS[4]]),
    ],
)
def test_bombs_are_refused_before_they_go_off(tmp_path: Path, bomb: bytes) -> None:
    (tmp_path / "a.spz").write_bytes(bomb)
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(GaussianVAEError):
            read_splats(tmp_path / "a.spz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < 2
    assert peak < (1 << 23) + 4 * len(bomb)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_mutants_raise_nothing_but_our_error(tmp_path: Path, version: int) -> None:
    data = file_of(version, 20, 1, PARTS[version])
    raw = gzip.decompress(data) if version < 4 else data
    random = np.random.default_rng(version)
    path = tmp_path / "a.spz"
    for _ in range(150):
        mutant = bytearray(raw[: int(random.integers(1, len(raw)))] if random.random() < 0.3 else raw)
        for _ in range(int(random.integers(0, 5))):
            mutant[int(random.integers(min(len(mutant), 200)))] = int(random.integers(256))
        path.write_bytes(gzip.compress(mutant, 1) if version < 4 else mutant)
        try:
            splats = read_splats(path)
        except GaussianVAEError as error:
            assert "\n" not in str(error)
            continue
        assert bool(splats.quats.isfinite().all()) and bool((splats.quats.norm(dim=1) - 1).abs().max() < 1e-5)
