"""Posed photos: one module a layout, and what is read from them."""

from __future__ import annotations

from pathlib import Path

from gaussianvae.captures.blender import is_blender, read_blender
from gaussianvae.captures.capture import Capture
from gaussianvae.captures.views import Views, digest, load_depths, load_views
from gaussianvae.errors import GaussianVAEError

__all__ = ["Capture", "Views", "digest", "load_depths", "load_views", "read_capture"]


def read_capture(path: Path | str) -> Capture:
    """Read a capture's poses; its photos are read later.

    Args:
        path: a folder with transforms_train.json (NeRF-synthetic).

    Raises:
        GaussianVAEError: no such folder, or no layout that is known.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise GaussianVAEError(f"{folder}: no such folder of photos")
    if is_blender(folder):
        return read_blender(folder)
    raise GaussianVAEError(f"{folder}: no capture of a known layout; expected transforms_train.json (NeRF-synthetic)")
