"""Other programs that read and write splats, for tests with the marker `peer`; `make peers` installs them.

Each is asked through files only, so that what is compared is what a user of both would see: `splat_transform(a, b)`
(PlayCanvas, node) converts by endings, `gsply_convert(a, b)` (Python) knows PLY, compressed PLY and SPZ.
"""

from __future__ import annotations

import json
import os
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gaussianvae.scene.splats import Splats
from scenes import random_splats

FOLDER = os.environ.get("GAUSSIANVAE_PEERS", "")
"""Holds node_modules with splat-transform, and node (22 or later) where the machine's own is older."""


def lively_splats(count: int = 2000, degree: int = 3) -> Splats:
    """A scene without any symmetry that would hide a swapped axis, sign, band or channel; within every format's range.

    No two rows are alike and each has another mean, so that rows can be found again after they were sorted.
    """
    splats = random_splats(count, degree, seed=7)
    g = torch.Generator().manual_seed(7)
    offset, stretch = torch.tensor([0.7, -0.2, 1.9]), torch.tensor([3.0, 1.0, 2.0])
    k = splats.shN.shape[1]
    pattern = torch.linspace(-0.3, 0.4, 3 * k).reshape(k, 3)
    return replace(
        splats,
        means=splats.means * stretch + offset,
        scales=torch.exp(torch.rand(count, 3, generator=g) * torch.tensor([1.0, 2.0, 1.5]) - 5),
        sh0=torch.rand(count, 1, 3, generator=g) * 2 - 1.2,
        shN=pattern + 0.2 * (torch.rand(count, k, 3, generator=g) - 0.5),
    )


def node() -> str:
    """The node that came with the peers, else the machine's."""
    own = Path(FOLDER) / "node_modules" / "node" / "bin" / "node"
    return str(own) if own.is_file() else "node"


def splat_transform(*arguments: Path | str) -> str:
    """Run splat-transform quietly, overwriting; its stdout. Skips the test where it isn't installed."""
    script = Path(FOLDER or ".") / "node_modules" / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
    if not FOLDER or not script.is_file():
        pytest.skip("GAUSSIANVAE_PEERS names no folder with splat-transform (make peers)")
    command = [node(), str(script), "-q", "-w", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}"
    return done.stdout


def splat_transform_info(path: Path) -> dict[str, Any]:
    """What splat-transform says of a file's structure."""
    info = json.loads(splat_transform(path, "--info", "json", "null"))
    assert isinstance(info, dict)
    return info


def gsply_convert(source: Path, target: Path, spz_version: int = 3) -> None:
    """Read one file and write another with gsply. Skips the test where it isn't installed."""
    gsply = pytest.importorskip("gsply", reason="gsply is not installed (make peers)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = gsply.read_spz(source) if source.suffix == ".spz" else gsply.plyread(source)
        if target.suffix == ".spz":
            gsply.write_spz(target, data, version=spz_version)
        else:
            gsply.plywrite(target, data, compressed=target.name.endswith(".compressed.ply"))


def matched(splats: Splats, truth: Splats) -> Splats:
    """Rows in the order of the truth, by their means: for formats that sort. Fails unless each has its own."""
    from scipy.spatial import cKDTree

    _, nearest = cKDTree(splats.means.numpy()).query(truth.means.numpy())
    assert len(set(nearest.tolist())) == len(truth) == len(splats)
    return splats.select(torch.from_numpy(nearest))


def angles(a: Tensor, b: Tensor) -> Tensor:
    """Degrees between rotations (wxyz, unit); from the chord, which is exact near zero."""
    a, b = a.double(), b.double()
    near = torch.minimum((a - b).norm(dim=1), (a + b).norm(dim=1))
    return torch.rad2deg(4 * torch.asin(near / 2))


def assert_same(
    splats: Splats,
    truth: Splats,
    means: float = 1e-6,
    degrees: float = 1e-3,
    log_scales: float = 1e-5,
    opacities: float = 1e-6,
    sh0: float = 1e-6,
    shN: float = 1e-6,
) -> None:
    """Row by row within what the format quantizes to."""
    assert len(splats) == len(truth) and splats.shN.shape == truth.shN.shape
    off = {
        "means": (splats.means - truth.means, means),
        "degrees": (angles(splats.quats, truth.quats), degrees),
        "log_scales": (splats.scales.log() - truth.scales.log(), log_scales),
        "opacities": (splats.opacities - truth.opacities, opacities),
        "sh0": (splats.sh0 - truth.sh0, sh0),
        "shN": (splats.shN - truth.shN, shN),
    }
    for name, (difference, most) in off.items():
        worst = float(difference.abs().max()) if difference.numel() else 0.0
        assert worst <= most * (1 + 1e-3), f"{name} are off by {worst:.3g}, at most {most:.3g} is allowed"
