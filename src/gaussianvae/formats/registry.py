"""What a splat format is, and the options of those that leave something open."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gaussianvae.progress import Reporter
from gaussianvae.scene.splats import Splats

Bytes = bytes | mmap.mmap
"""The contents of a file."""


@dataclass(frozen=True)
class FileOptions:
    """What a file doesn't say of itself, or may be written in several ways."""

    spz_version: Literal[3, 4] = 3
    """Of SPZ files that are written: 3, which every viewer reads, or 4."""
    spz_frame: Literal["rdf", "rub"] = "rdf"
    """Axes of SPZ files, read or written: rdf, as nearly every tool leaves them, or rub (right, up, back) as the
    text of the format says and some phone apps do."""


Reader = Callable[[Path, Bytes, FileOptions, Reporter], Splats]
"""Decodes the contents of a file; the path is for messages and for files beside it."""
Writer = Callable[[Path, Splats, Iterable[Path | str], FileOptions, Reporter], None]
"""Writes a splat atomically to a path that is none of the given inputs."""
PartsWriter = Callable[[Path, int, Iterable[Splats], Iterable[Path | str], FileOptions, Reporter], None]
"""The same for a number of Gaussians that come in parts, so that the whole need never be in memory."""


@dataclass(frozen=True)
class Format:
    """One splat format."""

    name: str
    suffixes: tuple[str, ...]
    """Endings of file names, lower case, with the dot (or a whole name, as meta.json); the first is the usual one."""
    begins: Callable[[bytes], bool]
    """Whether a file that begins with these (at most 64) bytes is of this format, whatever its name."""
    read: Reader
    write: Writer | None = None
    losses: Callable[[Splats], list[str]] | None = None
    """What of a splat a file can't hold, as phrases ("the spherical harmonics"); empty: nothing."""
    write_parts: PartsWriter | None = None
    """Where a format can be written as its Gaussians come; such a format loses nothing."""
