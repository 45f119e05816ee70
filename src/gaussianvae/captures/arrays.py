"""Numpy files (.npy), read without believing what their headers promise."""

from __future__ import annotations

import io
import tokenize
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gaussianvae.errors import GaussianVAEError

MOST_HEADER = 1 << 16
_BROKEN = (
    ValueError, TypeError, KeyError, EOFError, SyntaxError, RecursionError, MemoryError, OverflowError,
    tokenize.TokenError, UserWarning, DeprecationWarning,
)  # fmt: skip
"""What numpy raises or warns of at headers that make no sense."""


def read_floats(path: Path, expected: str) -> NDArray[Any]:
    """The array of floats in a .npy file, of any shape and precision.

    Args:
        path: the file.
        expected: what should be in it, for the error's text.

    Raises:
        GaussianVAEError: no such file, no array of floats, or less data than its header promises.
    """
    try:
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            file = io.BytesIO(data[:MOST_HEADER])  # a file would make room for as much as the header claims
            read_header = npy.read_array_header_1_0 if npy.read_magic(file)[0] == 1 else npy.read_array_header_2_0
            shape, by_columns, dtype = read_header(file)
            start = file.tell()
        count = 1
        for side in shape:
            count *= side
        if dtype.kind != "f" or len(data) - start < count * dtype.itemsize:
            what = f"{dtype} {shape}" + ("" if dtype.kind != "f" else f", of which {len(data) - start} bytes are there")
            raise GaussianVAEError(f"{path}: holds {what}; expected {expected}")
        flat = np.frombuffer(data, dtype, count, start)
        return flat.reshape(shape[::-1]).T if by_columns else flat.reshape(shape)
    except OSError as error:
        raise GaussianVAEError(f"{path}: can't be read ({error.strerror or error})") from error
    except _BROKEN as error:
        raise GaussianVAEError(f"{path}: is no readable array ({_line(error)}); expected {expected}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
