"""Time the CPU rasterizer on scene S: one thread, process CPU milliseconds, medians.

    python benchmarks/rasterizer.py [--size N,WIDTH ...] [--json FILE] [--against FOLDER] [--repeats R]
    python benchmarks/rasterizer.py --threads [--seconds S] [--json FILE]

Scene S: seed 0, means uniform in the unit ball, scales log-normal (ln 0.0173, 0.4) per axis, random rotations,
opacities 0.1-0.9, SH of degree 3; camera at distance 3 with 50 degrees of horizontal field of view.

Timed is a whole `Frame` (image and gradients allocated anew, absolute 2D gradients included), without autograd around
it; `cpu+autograd` is `rasterize` as users call it. `--against` times another implementation in the same run, taking
turns: a folder with a rasterizer.py that has Frame, Workspace and camera_vector.

`--threads` instead measures wall times, on a machine that does nothing else: 1 and 2 threads, code for AVX2 and without
FMA, plain C++ (baseline.cpp, where there is a g++) and scratch memory, and says which targets are met; 3 minutes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from raster_rows import Case, measure_all, serve

from gaussianvae.progress import Reporter, Silent
from gaussianvae.rasterize import Filter, rasterize
from gaussianvae.rasterize.cpu import warm_up
from gaussianvae.rasterize.cpu.frame import Frame, camera_vector, flatten

Pass = Callable[[bool], None]
"""One frame; with gradients if asked."""


class Printing(Silent):
    def message(self, text: str) -> None:
        print(text)


def scene_s(count: int, seed: int = 0) -> list[torch.Tensor]:
    """means, quats, scales, opacities, sh (N, 16, 3)."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(count, 3))
    means = direction / np.linalg.norm(direction, axis=1, keepdims=True) * rng.uniform(size=(count, 1)) ** (1 / 3)
    scales = np.exp(rng.normal(np.log(0.0173), 0.4, (count, 3)))
    quats = rng.normal(size=(count, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    sh = rng.normal(0, 0.1, (count, 16, 3))
    opacities = rng.uniform(0.1, 0.9, count)
    sh[:, 0] = rng.uniform(-1.7, 1.7, (count, 3))
    return [torch.tensor(a, dtype=torch.float32) for a in (means, quats, scales, opacities, sh)]


def camera_s(width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """viewmat and K of a square image."""
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[2, 3] = 3
    focal = width / 2 / np.tan(np.radians(25))
    K = torch.tensor([[focal, 0, width / 2], [0, focal, width / 2], [0, 0, 1]], dtype=torch.float64)
    return viewmat, K


def case_s(count: int, width: int) -> Case:
    """Scene S with gradients of all five planes, noise."""
    v = np.random.default_rng(1).normal(size=5 * width * width).astype(np.float32)
    return flatten(*scene_s(count)), camera_vector(*camera_s(width), (width, width)), (width, width), v


def ours(count: int, width: int) -> Pass:
    parameters, camera = flatten(*scene_s(count)), camera_vector(*camera_s(width), (width, width))
    v = np.random.default_rng(1).normal(size=5 * width * width).astype(np.float32)
    pixels = width * width

    def frame(gradients: bool) -> None:
        frame = Frame(parameters, camera, (width, width))
        frame.forward()
        if gradients:
            frame.backward(v[: 3 * pixels], v[3 * pixels : 4 * pixels], v[4 * pixels :])
        frame.release()

    return frame


def ours_with_autograd(count: int, width: int) -> Pass:
    tensors, (viewmat, K) = scene_s(count), camera_s(width)
    v = torch.randn(3, width, width).permute(1, 2, 0)

    def frame(gradients: bool) -> None:
        for tensor in tensors:
            tensor.requires_grad_(gradients)
            tensor.grad = None
        rendering = rasterize(*tensors, viewmat, K, (width, width), filter=Filter(), threads=1)
        if gradients:
            rendering.rgb.backward(v)

    return frame


def other(folder: Path, count: int, width: int) -> Pass:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    module = importlib.import_module("rasterizer")
    viewmat, K = camera_s(width)
    camera = module.camera_vector(
        viewmat.numpy(), float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]), width, width
    )
    parameters, workspace = [np.ascontiguousarray(t.numpy().reshape(-1)) for t in scene_s(count)], module.Workspace()
    v = np.random.default_rng(1).normal(size=5 * width * width).astype(np.float32)

    def frame(gradients: bool) -> None:
        frame = module.Frame(parameters, camera, width, width, workspace=workspace)
        frame.forward()
        if gradients:
            frame.backward(v)

    return frame


def measure(passes: dict[str, Pass], repeats: int) -> dict[str, tuple[float, float]]:
    """Median CPU ms of forward, and of forward + backward, for each; the implementations take turns."""
    times: dict[tuple[str, bool], list[float]] = {}
    for repeat in range(-2, repeats):
        for name, frame in passes.items():
            for gradients in (False, True):
                start = time.process_time()
                frame(gradients)
                if repeat >= 0:
                    times.setdefault((name, gradients), []).append(1e3 * (time.process_time() - start))
    return {name: (float(np.median(times[name, False])), float(np.median(times[name, True]))) for name in passes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", default=["50000,512", "200000,512", "10000,256"], metavar="N,WIDTH")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--against", type=Path, metavar="FOLDER")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", action="store_true", help="wall times, of more than one thread too")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each small size takes with --threads")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(case_s)
    torch.set_num_threads(1)
    report: Reporter = Printing()
    warm_up(report)
    if arguments.threads:
        rows = measure_all(case_s, Path(__file__), arguments.seconds)
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
        return
    rows = []
    for size in arguments.size:
        count, width = map(int, size.split(","))
        passes = {"cpu": ours(count, width), "cpu+autograd": ours_with_autograd(count, width)}
        if arguments.against:
            passes["other"] = other(arguments.against, count, width)
        result = measure(passes, arguments.repeats)
        for name, (forward, both) in result.items():
            ratio = ""
            if "other" in result and name != "other":
                ratio = f"   ratio to other {forward / result['other'][0]:.2f} {both / result['other'][1]:.2f}"
            print(f"{count:7d} Gaussians {width:4d} px  {name:13s} forward {forward:6.2f}  both {both:6.2f} ms{ratio}")
            rows.append(
                dict(
                    backend=name,
                    size=[width, width],
                    num_gaussians=count,
                    threads=1,
                    forward_cpu_ms=round(forward, 3),
                    forward_backward_cpu_ms=round(both, 3),
                )
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
