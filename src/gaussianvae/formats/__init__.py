"""Splat files: one module a format, one registry; and the cameras beside them."""

from __future__ import annotations

import mmap
import os
import re
import stat
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats.cameras_json import read_cameras, write_cameras
from gaussianvae.formats.ply import read_ply, write_ply
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.splats import Splats

__all__ = ["cameras_beside", "find_cameras", "read_cameras", "read_splats", "write_cameras", "write_splats"]

READABLE = (".ply", ".compressed.ply")
WRITABLE = (".ply",)


def read_splats(path: Path | str) -> Splats:
    """Read a splat file, whatever its format.

    Args:
        path: a PLY in INRIA's layout or PlayCanvas's compressed one.

    Raises:
        GaussianVAEError: no such file, an unknown format, or broken content.
    """
    path = Path(path)
    if path.is_dir():
        raise GaussianVAEError(f"{path}: is a folder; name a splat file ({', '.join(READABLE)})")
    try:
        with path.open("rb") as file:
            # whatever its name, a file is read only when it begins like one of ours
            if path.suffix.lower() != ".ply" and file.peek(3)[:3] != b"ply":
                raise GaussianVAEError(f"{path}: is of no known splat format; readable are {', '.join(READABLE)}")
            data = _contents(file)
    except OSError as error:
        raise GaussianVAEError(f"{path}: can't be read ({error.strerror or error})") from error
    return read_ply(path, data)


def _contents(file: BufferedReader) -> bytes | mmap.mmap:
    """The bytes of a file, mapped where that is possible: a map costs half of the time that a copy does."""
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and os.fstat(file.fileno()).st_size:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return file.read()


def write_splats(path: Path | str, splats: Splats, inputs: Iterable[Path | str] = ()) -> None:
    """Write a splat in the format that the extension names, atomically.

    Args:
        path: where to; must be none of `inputs`.
        splats: what.
        inputs: files that were read for it.

    Raises:
        GaussianVAEError: a format that can't be written, or a place that can't.
    """
    path = Path(path)
    if path.suffix.lower() != ".ply" or path.name.lower().endswith(".compressed.ply"):
        raise GaussianVAEError(f"{path}: this format can't be written; writable are {', '.join(WRITABLE)}")
    write_ply(path, splats, inputs)


def cameras_beside(path: Path | str) -> Path:
    """Where the training cameras of a splat file lie: LR.ply -> LR.cameras.json."""
    path = Path(path)
    stem = re.sub(r"(\.compressed)?\.ply$", "", path.name, flags=re.IGNORECASE)
    return path.with_name(f"{stem}.cameras.json")


def find_cameras(path: Path | str) -> Cameras | None:
    """The cameras beside a splat file, if there are any."""
    beside = cameras_beside(path)
    return read_cameras(beside) if beside.is_file() else None
