"""`gaussianvae info`."""

from __future__ import annotations

import json as codec
import math
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import Parameter
from rich.table import Table
from torch import Tensor

from gaussianvae.captures import largest_distortion, read_capture
from gaussianvae.cli.terminal import TerminalReporter, results_console
from gaussianvae.formats import cameras_beside, find_cameras, read_splats

SCHEMA = "gaussianvae.info/1"


def info(file: Path, /, *, json: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Say what is in a splat file or a capture's folder.

    Args:
        file: A splat or a capture.
        json: Print JSON instead of a table.
    """
    is_capture = file.is_dir() and not (file / "meta.json").is_file()  # SOG is a folder, too
    facts = capture_facts(file) if is_capture else splat_facts(file)
    if json:
        text = codec.dumps({"schema": SCHEMA, "file": str(file), **facts}, indent=2, allow_nan=False)
        results_console().file.write(text + "\n")
        return
    table = Table(show_header=False)
    for name, value in {"file": str(file), **facts}.items():
        table.add_row(name.replace("_", " "), _show(value))
    results_console().print(table)


def splat_facts(path: Path) -> dict[str, object]:
    """What a splat file holds, as plain data."""
    splats = read_splats(path, report=TerminalReporter())
    cameras = find_cameras(path)
    facts: dict[str, object] = {
        "kind": "splat",
        "bytes": sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path])),
        "num_gaussians": len(splats),
        "sh_degree": splats.sh_degree,
        "recipe": splats.recipe.known(),
        "cameras": None if cameras is None else {"file": str(cameras_beside(path)), "views": len(cameras)},
        "extra_properties": sorted(splats.extras),
        "comments": list(splats.comments),
    }
    if len(splats):
        facts |= {
            "low_corner": _plain(splats.means.amin(0)),
            "high_corner": _plain(splats.means.amax(0)),
            "median_center": _plain(splats.means.median(0).values),
            "scale_quartiles": _quartiles(splats.scales.amax(1)),
            "opacity_quartiles": _quartiles(splats.opacities),
        }
    return facts


def capture_facts(folder: Path) -> dict[str, object]:
    """What a capture holds, as plain data."""
    capture = read_capture(folder, TerminalReporter())
    return {
        "kind": "capture",
        "views": len(capture.cameras),
        "train": len(capture.train),
        "test": len(capture.test),
        "sizes": sorted({f"{width}x{height}" for width, height in capture.cameras.sizes}),
        "focal_px": _plain(capture.cameras.focals.median()),
        "alpha": capture.has_alpha,
        "depth": any(path is not None for path in capture.depth_paths),
        "points": None if capture.points is None else len(capture.points.means),
        "missing_photos": capture.missing,
        "undistorted_photos": sum(lens is not None for lens in capture.lenses),
        "distortion_px": round(largest_distortion(capture), 2),
    }


def _plain(values: Tensor) -> object:
    """Numbers with six digits; None where not finite."""
    if values.ndim:
        return [_plain(value) for value in values]
    number = float(values)
    return float(f"{number:.6g}") if math.isfinite(number) else None


def _quartiles(values: Tensor) -> object:
    ordered = values.sort().values
    return _plain(ordered[torch.tensor([round(share * (len(ordered) - 1)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)])])


def _show(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_show(entry)}" for name, entry in value.items()) or "unknown"
    if isinstance(value, list):
        return ", ".join(_show(entry) for entry in value) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
