"""Files that a splat file names: they lie in its folder, or below, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from gaussianvae.errors import GaussianVAEError


def check_name(path: Path, name: object) -> str:
    """A file name, possibly with folders, that doesn't lead out of the folder of `path`.

    Raises:
        GaussianVAEError: an absolute name, one with "..", or no name at all.
    """
    plain = isinstance(name, str) and name.isprintable() and not set(name) & set('\\:*?"<>|')
    if not isinstance(name, str) or not plain or not name or name.startswith("/") or ".." in name.split("/"):
        raise GaussianVAEError(f"{path}: names a file {str(name)[:40]!r}, which isn't in its folder")
    return name


def read_beside(path: Path, name: str, most: int) -> bytes:
    """The contents of a file in the folder of `path`.

    Args:
        path: the file that names it.
        name: as it is named there.
        most: bytes that such a file can honestly have.

    Raises:
        GaussianVAEError: it leads out of the folder, isn't there, or is larger.
    """
    beside = path.parent / check_name(path, name)
    try:
        if not beside.is_file():
            raise GaussianVAEError(f"{path}: names {name}, which isn't there")
        if beside.stat().st_size > most:
            raise GaussianVAEError(f"{beside}: has {beside.stat().st_size} bytes; expected at most {most}")
        return beside.read_bytes()
    except OSError as error:
        raise GaussianVAEError(f"{beside}: can't be read ({error.strerror or error})") from error
