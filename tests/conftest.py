"""Shape checks, the real data folder, and seeds for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# compiled kernels and busy machines make the first call slow; a law is no timing
settings.register_profile("house", deadline=None)
settings.load_profile("house")

# scene shapes are checked at every call while testing; kernels and the command line have none to check
install_import_hook(
    [
        "gaussianvae.scene",
        "gaussianvae.antialias",
        "gaussianvae.growth",
        "gaussianvae.guess",
        "gaussianvae.model",
        "gaussianvae.enhance",
        "gaussianvae.evaluate",
    ],
    "typechecking.checked",
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    # small tensors: more threads only wait for one another
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real captures, splats and meshes; tests that need it are skipped where it is absent."""
    folder = os.environ.get("GAUSSIANVAE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("GAUSSIANVAE_DATA names no folder: the real data are not on this machine")
    return Path(folder)
