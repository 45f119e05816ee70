"""A mutation fuzzer for everything that reads files.

    python tests/fuzzing.py [COUNT] [--seed S] [--only NAME ...] [--json FILE]

Small honest files of every kind are damaged: bits and bytes, whole integers and floats, pieces cut out, doubled or
moved, ends cut off, numbers of texts replaced, nodes of JSON replaced; and inside what is packed (gzip, zstd, zip, glb)
before it is packed again, so that the damage gets past checksums. A reader may accept a mutant or raise
GaussianVAEError in one line; within 2 seconds, with no more than 4 times the memory that the honest file takes.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import io
import json
import random
import re
import resource
import shutil
import struct
import tempfile
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gaussianvae.errors import GaussianVAEError

SECONDS, TIMES, FLOOR = 2.0, 4.0, 2 << 20
"""Longest read; memory in honest files' worth; and bytes that no reader has to do without."""
NUMBERS = (0, 1, -1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
FLOATS = (0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1e30, -1e30, 3.4e38, 1e-45, 1e308, 2.0**40)
WORDS = ("-1", "0", "1e400", "nan", "99999999999999999999", "4294967295", "-0.0", "", "x", "1" * 400, "2147483648")
NODES: tuple[Any, ...] = (
    None, True, -1, 0, 2, 10**40, 2**31, 1.5, float("nan"), float("inf"), 1e308, "", "x", "../x", "/etc/passwd",
    "a" * 5000, [], {}, [[]], [0] * 3, {"x": 1}, [1e39] * 16, "\u0000", "means_l.webp",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """Honest files, and what reads them."""

    name: str
    files: dict[str, bytes]
    """By name, within a folder."""
    read: Callable[[Path], object]
    """Of that folder."""
    victims: Sequence[str] = ()
    """Which of the files are damaged; all by default."""
    repack: Callable[[bytes, random.Random], bytes] | None = None
    """Damages what is packed inside."""


@dataclass
class Tally:
    """What a run of mutants did."""

    files: int = 0
    refused: int = 0
    slowest: float = 0.0
    honest_memory: int = 0
    most_memory: int = 0
    """Bytes: for the honest file, and the most for any other."""
    failures: list[str] = field(default_factory=list)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A mutant of some bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if not out:
            break
        # headers decide more than values do
        at = rng.randrange(min(len(out), rng.choice((32, 400, 10**9))))
        way = rng.randrange(10)
        size = rng.choice((1, 2, 4, 8, 16, 100))
        if way == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            out[at] = rng.choice((0, 255, 127, 128, rng.randrange(256)))
        elif way == 2:
            width = rng.choice((2, 4, 8))
            packed = (rng.choice(NUMBERS) & (2 ** (8 * width) - 1)).to_bytes(width, rng.choice(("little", "big")))
            out[at : at + width] = packed
        elif way == 3:
            width = rng.choice("fd")
            with np.errstate(over="ignore"):
                value = np.float32(rng.choice(FLOATS)) if width == "f" else np.float64(rng.choice(FLOATS))
            out[at : at + value.nbytes] = value.tobytes()
        elif way == 4:
            del out[at : at + size]
        elif way == 5:
            out[at:at] = out[at : at + size] * rng.choice((1, 2, 50))
        elif way == 6:
            del out[at:]
        elif way == 7:
            other = rng.randrange(len(out))
            out[at : at + size], out[other : other + size] = out[other : other + size], out[at : at + size]
        elif way == 8:
            out[at:at] = rng.randbytes(size)
        else:
            found = list(re.finditer(rb"[-+0-9.eE]+", bytes(out[:4000])))
            if found:
                match = rng.choice(found)
                out[match.start() : match.end()] = rng.choice(WORDS).encode()
    return bytes(out)


def damaged_json(data: bytes, rng: random.Random) -> bytes:
    """A mutant of a JSON text that is still JSON."""
    content = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        places: list[tuple[Any, Any]] = []

        def walk(node: Any) -> None:
            for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
                places.append((node, key))  # noqa: B023
                walk(node[key])

        walk(content)
        if not places:
            break
        node, key = rng.choice(places)
        way = rng.randrange(5)
        if way == 0 and isinstance(node, dict):
            del node[key]
        elif way == 1 and isinstance(node, list):
            node.append(copy.deepcopy(node[key]))
        elif way == 2 and isinstance(node[key], int | float) and not isinstance(node[key], bool):
            node[key] = node[key] * rng.choice((-1, 0, 2, 1e6, 1e-6)) + rng.choice((0, 1, -1))
        else:
            node[key] = copy.deepcopy(rng.choice(NODES))
    return json.dumps(content).encode()


def in_gzip(data: bytes, rng: random.Random) -> bytes:
    return gzip.compress(damaged(gzip.decompress(data), rng), 1)


def in_zip(data: bytes, rng: random.Random) -> bytes:
    """A zip with one of its files damaged, dropped, doubled or renamed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        victim, way = rng.choice([*names, *["meta.json"] * 4]), rng.randrange(8)
        for name in names:
            content = old.read(name)
            if name == victim:
                if way == 0:
                    continue
                content = damaged_json(content, rng) if name.endswith(".json") and way > 3 else damaged(content, rng)
                name = "../" + name if way == 1 else name
            new.writestr(name, content, zipfile.ZIP_DEFLATED if way == 2 else zipfile.ZIP_STORED)
    return out.getvalue()


def in_zstd(data: bytes, rng: random.Random) -> bytes:
    """An SPZ of version 4 with one stream or the header damaged; lengths are mostly made right again."""
    import zstandard

    head, toc_at, count = data[:32], struct.unpack_from("<I", data, 16)[0], data[15]
    sizes = [struct.unpack_from("<QQ", data, toc_at + 16 * k) for k in range(count)]
    streams, at = [], toc_at + 16 * count
    for packed, _ in sizes:
        streams.append(zstandard.ZstdDecompressor().decompress(data[at : at + packed]))
        at += packed
    victim = rng.randrange(-1, count)
    if victim < 0:
        head = damaged(head, rng)[:32].ljust(32, b"\0")
    else:
        streams[victim] = damaged(streams[victim], rng)
    frames = [zstandard.ZstdCompressor(1).compress(stream) for stream in streams]
    toc = b"".join(
        struct.pack("<QQ", len(f), rng.choice(NUMBERS) % 2**64 if rng.random() < 0.05 else len(s))
        for f, s in zip(frames, streams, strict=True)
    )
    return head + data[32:toc_at] + toc + b"".join(frames)


def in_glb(data: bytes, rng: random.Random) -> bytes:
    """A glb with its JSON damaged and all lengths right."""
    length = struct.unpack_from("<I", data, 12)[0]
    text, rest = data[20 : 20 + length], data[20 + length :]
    text = damaged_json(text, rng) if rng.random() < 0.8 else damaged(text, rng)
    text += b" " * (-len(text) % 4)
    return (
        struct.pack("<4sII", b"glTF", 2, 20 + len(text) + len(rest))
        + struct.pack("<I4s", len(text), b"JSON")
        + text
        + rest
    )


def mutant(target: Target, rng: random.Random) -> dict[str, bytes]:
    """The files of a target with one of them damaged."""
    victim = rng.choice(list(target.victims or target.files))
    data = target.files[victim]
    if target.repack is not None and rng.random() < 0.7:
        data = target.repack(data, rng)
    elif victim.endswith(".json") and rng.random() < 0.7:
        data = damaged_json(data, rng)
    else:
        data = damaged(data, rng)
    return {**target.files, victim: data}


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def attempt(target: Target, folder: Path) -> bool:
    """Read once; whether it was refused. Anything else than our one-line error comes through."""
    try:
        target.read(folder)
    except GaussianVAEError as error:
        assert "\n" not in str(error) and len(str(error)) < 700, "the error is no single line"
        return True
    return False


def traced(target: Target, folder: Path) -> tuple[bool, int]:
    """The same, and the most memory that it took."""
    tracemalloc.start()
    try:
        return attempt(target, folder), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def fuzz(target: Target, count: int, seed: int, keep: Path | None = None) -> Tally:
    """Read `count` mutants of a target; every eighth with its memory watched."""
    rng, tally = random.Random(f"{seed} {target.name}"), Tally()
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as place:
        folder = Path(place)
        write(folder, target.files)
        assert not attempt(target, folder), f"{target.name}: the honest file is refused"
        tally.honest_memory = honest = traced(target, folder)[1]
        for number in range(count):
            files = mutant(target, rng)
            write(folder, files)
            begin, why = time.process_time(), ""
            try:
                if number % 8 == 0:
                    refused, peak = traced(target, folder)
                    tally.most_memory = max(tally.most_memory, peak)
                    if peak > max(TIMES * honest, FLOOR):
                        why = f"took {peak / 1e6:.1f} MB, the honest file {honest / 1e6:.2f}"
                else:
                    refused = attempt(target, folder)
                    seconds = time.process_time() - begin
                    tally.slowest = max(tally.slowest, seconds)
                    if seconds > SECONDS:
                        why = f"took {seconds:.1f} s"
                tally.refused += refused
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
            if why:
                tally.failures.append(f"{target.name} {number}: {why}")
                if keep is not None:
                    shutil.copytree(folder, keep / f"{target.name}_{number}", dirs_exist_ok=True)
            for name in files.keys() - target.files.keys():
                (folder / name).unlink()
        tally.files = count
    return tally


def main() -> None:
    from fuzztargets import targets

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for mutants that failed")
    args = parser.parse_args()
    warnings.simplefilter("error")  # a warning is noise in a terminal
    chosen = [target for target in targets() if not args.only or target.name in args.only]
    for target in chosen:  # kernels and libraries are loaded before memory is watched
        fuzz(target, 8, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = []
    for target in chosen:
        tally = fuzz(target, -(-args.count // len(chosen)), args.seed, args.keep)
        rows.append(
            {
                "reader": target.name, "files": tally.files, "refused": tally.refused, "failures": len(tally.failures),
                "slowest_seconds": round(tally.slowest, 3), "honest_mb": round(tally.honest_memory / 1e6, 2),
                "most_mb": round(tally.most_memory / 1e6, 2),
            }
        )  # fmt: skip
        print(rows[-1], *tally.failures[:5], sep="\n  ", flush=True)  # noqa: T201
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{sum(row['files'] for row in rows)} files; the process grew by {grown:.0f} MB")  # noqa: T201
    if args.json:
        args.json.write_text(json.dumps({"seed": args.seed, "grown_mb": round(grown), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
