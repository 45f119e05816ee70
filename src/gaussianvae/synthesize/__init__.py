"""Scenes with known truth: procedural or from meshes, as captures on disk or as images in memory."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from gaussianvae.errors import GaussianVAEError
from gaussianvae.synthesize.config import SynthesisConfig

if TYPE_CHECKING:
    from gaussianvae.synthesize.capture import (
        place_cameras,
        synthesize_many,
        synthesize_mesh,
        synthesize_procedural,
    )
    from gaussianvae.synthesize.meshes import build_mesh_scene
    from gaussianvae.synthesize.procedural import build_scene
    from gaussianvae.synthesize.raytrace import TracedScene, trace

__all__ = [
    "SynthesisConfig",
    "TracedScene",
    "build_mesh_scene",
    "build_scene",
    "place_cameras",
    "synthesize_many",
    "synthesize_mesh",
    "synthesize_procedural",
    "trace",
]

_HOMES = {
    "TracedScene": "raytrace",
    "trace": "raytrace",
    "build_scene": "procedural",
    "build_mesh_scene": "meshes",
    "place_cameras": "capture",
    "synthesize_many": "capture",
    "synthesize_mesh": "capture",
    "synthesize_procedural": "capture",
}


def __getattr__(name: str) -> object:
    # trimesh and embreex belong to an extra, and are slow to import: only who makes a scene needs them
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("trimesh", "embreex", "manifold3d"):
            raise
        raise GaussianVAEError(
            f"making scenes needs the package {error.name}; pip install 'gaussianvae[synthesize]'"
        ) from error
