"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gaussianvae.errors import GaussianVAEError

Output = Annotated[Path, Parameter(name=["--output", "-o"])]
"""`-o`: what the command writes."""

_COLORS = {"black": (0.0, 0.0, 0.0), "white": (1.0, 1.0, 1.0)}


def parse_background(text: str) -> tuple[float, float, float]:
    """`black`, `white` or `r,g,b` in 0-1.

    Raises:
        GaussianVAEError: anything else.
    """
    if text in _COLORS:
        return _COLORS[text]
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        red = green = blue = -1.0
    if not all(0 <= value <= 1 for value in (red, green, blue)):
        raise GaussianVAEError(f"the background is {text}; allowed are black, white, or r,g,b between 0 and 1")
    return red, green, blue


def parse_named_files(entries: tuple[str, ...]) -> dict[str, Path]:
    """`NAME=FILE` texts as a dictionary.

    Raises:
        GaussianVAEError: no such text, or a name twice.
    """
    files: dict[str, Path] = {}
    for entry in entries:
        name, separator, path = entry.partition("=")
        if not (name and separator and path):
            raise GaussianVAEError(f"--with {entry}: give NAME=FILE, for instance --with enhanced=OUT.ply")
        if name in files:
            raise GaussianVAEError(f"--with {entry}: the name {name} is given twice")
        files[name] = Path(path)
    return files


def check_folder(folder: Path) -> None:
    """Make the output folder, or raise GaussianVAEError now instead of after minutes of work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GaussianVAEError(f"{folder}: can't be made ({error.strerror or error}); name another folder") from error


def check_writable(path: Path, inputs: tuple[Path, ...] = ()) -> None:
    """Raise GaussianVAEError now if `path` can't be written at the end; it is left as it is."""
    from gaussianvae.files import replacing

    try:
        with replacing(path, inputs):
            raise _Unchanged
    except _Unchanged:
        return


def check_splat_output(path: Path, inputs: tuple[Path, ...] = ()) -> None:
    """Raise GaussianVAEError now if a splat can't be written to `path` at the end: no such format, or no such place."""
    from gaussianvae.formats import check_format

    check_format(path)
    check_writable(path, inputs)


class _Unchanged(Exception):
    """Leaves the block of `replacing` without replacing anything."""
