"""Posed photos: one module a layout, and what is read from them."""

from __future__ import annotations

from pathlib import Path

from gaussianvae.captures.blender import is_blender, read_blender
from gaussianvae.captures.capture import Capture, SparsePoints
from gaussianvae.captures.colmap import is_colmap, read_colmap
from gaussianvae.captures.instant_ngp import is_instant_ngp, read_instant_ngp
from gaussianvae.captures.llff import is_llff, read_llff
from gaussianvae.captures.views import Views, digest, load_depths, load_views
from gaussianvae.errors import GaussianVAEError
from gaussianvae.progress import SILENT, Reporter

__all__ = ["Capture", "SparsePoints", "Views", "digest", "load_depths", "load_views", "read_capture"]


def read_capture(path: Path | str, report: Reporter = SILENT) -> Capture:
    """Read a capture's poses; its photos are read later.

    Args:
        path: a folder with transforms_train.json (NeRF-synthetic), a COLMAP model in sparse/0 beside images/,
            transforms.json (instant-ngp, nerfstudio) or poses_bounds.npy (LLFF); the first that is there counts.
        report: receives a message about photos that are left out.

    Raises:
        GaussianVAEError: no such folder, no layout that is known, or a broken capture.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise GaussianVAEError(f"{folder}: no such folder of photos")
    if is_blender(folder):
        return read_blender(folder)
    if is_colmap(folder):
        return read_colmap(folder)
    if is_instant_ngp(folder):
        return read_instant_ngp(folder, report)
    if is_llff(folder):
        return read_llff(folder)
    raise GaussianVAEError(
        f"{folder}: no capture of a known layout; expected transforms_train.json (NeRF-synthetic), "
        "cameras and images in sparse/0 (COLMAP), transforms.json (instant-ngp, nerfstudio) or poses_bounds.npy (LLFF)"
    )
