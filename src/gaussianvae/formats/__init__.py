"""Splat files: one module a format, one registry; and the cameras beside them."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats.cameras_json import read_cameras, write_cameras
from gaussianvae.formats.gltf import GLTF
from gaussianvae.formats.ply import COMPRESSED_PLY, PLY
from gaussianvae.formats.registry import Bytes, FileOptions, Format
from gaussianvae.formats.sog import SOG, SOG_FOLDER
from gaussianvae.formats.splat32 import SPLAT
from gaussianvae.formats.spz import SPZ
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.splats import Splats, concatenate

__all__ = [
    "FORMATS", "FileOptions", "cameras_beside", "check_format", "find_cameras", "format_named", "read_cameras",
    "read_splats", "split_ending", "write_cameras", "write_parts",
    "write_splats",
]  # fmt: skip

FORMATS: tuple[Format, ...] = (COMPRESSED_PLY, PLY, SPZ, SPLAT, SOG, SOG_FOLDER, GLTF)
"""Longer endings first: `.compressed.ply` ends like `.ply`."""
READABLE = tuple(suffix for format in FORMATS for suffix in format.suffixes)
WRITABLE = tuple(suffix for format in FORMATS if format.write for suffix in format.suffixes)
NO_OPTIONS = FileOptions()


def format_named(path: Path | str) -> Format | None:
    """The format that a file's ending names."""
    name = Path(path).name.lower()
    return next((format for format in FORMATS for suffix in format.suffixes if name.endswith(suffix)), None)


def split_ending(path: Path | str) -> tuple[str, str]:
    """The name of a file before the ending that tells its format, and that ending: LR.compressed.ply -> LR."""
    path = Path(path)
    known = format_named(path)
    ending = next(suffix for suffix in known.suffixes if path.name.lower().endswith(suffix)) if known else path.suffix
    return path.name[: len(path.name) - len(ending)], path.name[len(path.name) - len(ending) :]


def read_splats(path: Path | str, options: FileOptions = NO_OPTIONS, report: Reporter = SILENT) -> Splats:
    """Read a splat file of any known format: by what it begins with, else by its ending.

    Args:
        path: the file; a folder stands for the meta.json in it.
        options: what the file doesn't say.
        report: receives a message about what is left out.

    Raises:
        GaussianVAEError: no such file, an unknown format, or broken content.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / "meta.json").is_file():
            raise GaussianVAEError(f"{path}: is a folder; name a splat file ({', '.join(READABLE)})")
        path = path / "meta.json"
    try:
        with path.open("rb") as file:
            start = file.peek(64)[:64]
            known = next((format for format in FORMATS if format.begins(start)), None) or format_named(path)
            if known is None:
                raise GaussianVAEError(f"{path}: is of no known splat format; readable are {', '.join(READABLE)}")
            data = _contents(file)
    except OSError as error:
        raise GaussianVAEError(f"{path}: can't be read ({error.strerror or error})") from error
    if not len(data):
        raise GaussianVAEError(f"{path}: is empty; expected a splat ({known.name})")
    return known.read(path, data, options, report)


def _contents(file: BufferedReader) -> Bytes:
    """The bytes of a file, mapped where that is possible: a map costs half of the time that a copy does."""
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and os.fstat(file.fileno()).st_size:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return file.read()


def check_format(path: Path | str) -> Format:
    """The format that a path to be written names.

    Raises:
        GaussianVAEError: none that can be written.
    """
    known = format_named(path)
    if known is None or known.write is None:
        raise GaussianVAEError(f"{path}: this format can't be written; writable are {', '.join(WRITABLE)}")
    return known


def write_splats(
    path: Path | str,
    splats: Splats,
    inputs: Iterable[Path | str] = (),
    options: FileOptions = NO_OPTIONS,
    report: Reporter = SILENT,
) -> None:
    """Write a splat in the format that the ending names, atomically.

    Args:
        path: where to; must be none of `inputs`.
        splats: what.
        inputs: files that were read for it.
        options: which of the ways that a format leaves open.
        report: receives progress, and a message about what the format can't hold.

    Raises:
        GaussianVAEError: a format that can't be written, or a place that can't.
    """
    write_parts(path, len(splats), [splats], inputs, options, report)


def write_parts(
    path: Path | str,
    count: int,
    parts: Iterable[Splats],
    inputs: Iterable[Path | str] = (),
    options: FileOptions = NO_OPTIONS,
    report: Reporter = SILENT,
) -> None:
    """Write a splat of `count` Gaussians that comes in parts (see `write_splats`); PLY needs one part in memory."""
    path = Path(path)
    known = check_format(path)
    if known.write_parts is not None:
        known.write_parts(path, count, parts, inputs, options, report)
        return
    assert known.write is not None
    together = list(parts)
    splats = together[0] if len(together) == 1 else concatenate(together)
    known.write(path, splats, inputs, options, report)
    lost = known.losses(splats) if known.losses else []
    if lost:
        report.message(f"{path.name}: {known.name} can't hold {', '.join(lost)}")


def cameras_beside(path: Path | str) -> Path:
    """Where the training cameras of a splat file lie: LR.ply -> LR.cameras.json."""
    path = Path(path)
    stem = split_ending(path)[0]
    return path.with_name(f"{stem}.cameras.json" if stem else "cameras.json")


def find_cameras(path: Path | str) -> Cameras | None:
    """The cameras beside a splat file, if there are any."""
    beside = cameras_beside(path)
    return read_cameras(beside) if beside.is_file() else None
