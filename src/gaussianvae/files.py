"""Atomic writes: a file is written beside its target and renamed, so that no one ever sees half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gaussianvae.errors import GaussianVAEError


@contextmanager
def replacing(path: Path | str, inputs: Iterable[Path | str] = ()) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block succeeds and vanishes when it fails.

    Args:
        path: the file to write; its folder is made if need be.
        inputs: files that were read for this result; `path` must be none of them.

    Raises:
        GaussianVAEError: `path` is an input, a folder, or can't be written.
    """
    path = Path(path)
    for source in inputs:
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise GaussianVAEError(f"{path}: is an input; choose another output, an input is never overwritten")
    if path.is_dir():
        raise GaussianVAEError(f"{path}: is a folder; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise GaussianVAEError(f"{path}: can't be written ({error.strerror or error})") from error
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    except OSError as error:
        raise GaussianVAEError(f"{path}: can't be written ({error.strerror or error})") from error
    finally:
        beside.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
