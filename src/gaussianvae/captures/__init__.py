"""Posed photos: one module a layout, and what is read from them."""

from __future__ import annotations

from pathlib import Path

from gaussianvae.captures.blender import is_blender, read_blender
from gaussianvae.captures.capture import Capture, SparsePoints, largest_distortion
from gaussianvae.captures.colmap import is_colmap, read_colmap
from gaussianvae.captures.llff import is_llff, read_llff
from gaussianvae.captures.nerfstudio import is_nerfstudio, read_nerfstudio
from gaussianvae.captures.views import Images, Planes, Views, digest, gather, load_depths, load_views
from gaussianvae.errors import GaussianVAEError
from gaussianvae.progress import SILENT, Reporter

__all__ = [
    "Capture", "Images", "Planes", "SparsePoints", "Views", "digest", "gather", "largest_distortion", "load_depths",
    "load_views", "read_capture",
]  # fmt: skip


def read_capture(path: Path | str, report: Reporter = SILENT) -> Capture:
    """Read a capture's poses; its photos are read later.

    Args:
        path: a folder with transforms_train.json (NeRF-synthetic), a COLMAP model in sparse/0 beside images/,
            transforms.json (instant-ngp, nerfstudio) or poses_bounds.npy (LLFF); the first that is there counts.
        report: receives messages about photos that are left out, and about the lenses' distortion.

    Raises:
        GaussianVAEError: no such folder, no layout that is known, or a broken capture.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise GaussianVAEError(f"{folder}: no such folder of photos")
    capture = _read(folder, report)
    bent = sum(lens is not None for lens in capture.lenses)
    if bent:
        moved = largest_distortion(capture)
        report.message(f"lens distortion removed: up to {moved:.1f} px at the corners ({bent} photos)")
    return capture


def _read(folder: Path, report: Reporter) -> Capture:
    if is_blender(folder):
        return read_blender(folder)
    if is_colmap(folder):
        return read_colmap(folder)
    if is_nerfstudio(folder):
        return read_nerfstudio(folder, report)
    if is_llff(folder):
        return read_llff(folder)
    raise GaussianVAEError(
        f"{folder}: no capture of a known layout; expected transforms_train.json (NeRF-synthetic), "
        "cameras and images in sparse/0 (COLMAP), transforms.json (instant-ngp, nerfstudio) or poses_bounds.npy (LLFF)"
    )
