"""Enhancing from file to file at 1, 3 and 6 million Gaussians: time, and the most memory; and PLY alone.

    python benchmarks/scale.py [MILLIONS ...] [--polish STEPS] [--work DIR] [--json FILE]

The scene is spheres on a plain, covered by flat Gaussians with harmonics of degree 3 (62 floats a row with normals,
59 here). Each row runs the command line in a process of its own; memory is that process's peak, its limit 1.5 GB +
2.5 times the file. PLY is read and written in one process on one core, the median of five warm runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

SPHERES = 100
SIDE = 10.0


def scene(count: int) -> object:
    """Flat Gaussians on spheres and the ground under them, seeded."""
    import torch

    from gaussianvae.scene.recipe import Recipe
    from gaussianvae.scene.rotations import normalize_quats
    from gaussianvae.scene.splats import Splats

    g = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    centers = torch.stack([*(SIDE * torch.rand(2, SPHERES, generator=g)), torch.full((SPHERES,), 0.4)], 1)
    radii = 0.1 + 0.3 * torch.rand(SPHERES, generator=g)
    which = torch.randint(SPHERES, (count,), generator=g)
    ground = torch.arange(count) < count // 3
    normals[ground] = torch.tensor([0.0, 0.0, 1.0])
    flat = torch.cat([SIDE * torch.rand(count, 2, generator=g), torch.zeros(count, 1)], 1)
    means = torch.where(ground[:, None], flat, centers[which] + radii[which, None] * normals)
    area = SIDE**2 + float((4 * torch.pi * radii**2).sum())
    size = 0.7 * (area / count) ** 0.5 * torch.exp(0.3 * torch.randn(count, 3, generator=g))
    size[:, 2] *= 0.2
    pattern = torch.sin(9 * means) * torch.cos(5 * means.roll(1, 1))
    return Splats(
        means,
        # the turn from the z axis to the normal
        normalize_quats(torch.stack([1 + normals[:, 2], -normals[:, 1], normals[:, 0], 0 * normals[:, 0]], 1)),
        size,
        0.3 + 0.7 * torch.rand(count, generator=g),
        pattern[:, None],
        0.05 * torch.randn(count, 15, 3, generator=g),
        Recipe("mip", 0.1, width=800),
    )


def ply_times(path: Path) -> dict[str, float]:
    """CPU seconds to read and to write a PLY, one core, warm."""
    import torch

    from gaussianvae.formats import read_splats, write_splats

    torch.set_num_threads(1)
    read, write = [], []
    splats = read_splats(path)
    for _ in range(5):
        begin = time.process_time()
        splats = read_splats(path)
        read.append(time.process_time() - begin)
        begin = time.process_time()
        write_splats(path.with_name("again.ply"), splats)
        write.append(time.process_time() - begin)
    path.with_name("again.ply").unlink()
    return {"read_seconds": round(statistics.median(read), 3), "write_seconds": round(statistics.median(write), 3)}


def enhance(path: Path, polish: int | None) -> dict[str, float]:
    """Wall and CPU seconds of the command, and its peak memory."""
    out = path.with_name("finer.ply")
    command = [sys.executable, "-m", "gaussianvae.cli", "enhance", str(path), "-o", str(out)]
    begin = time.monotonic()
    process = subprocess.Popen(command + (["--polish", str(polish)] if polish is not None else []))
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"enhance failed: {status}")
    row = {
        "seconds": round(time.monotonic() - begin, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1000),
        "out_mb": round(out.stat().st_size / 1e6),
    }
    out.unlink()
    return row


def one_file(millions: float, work: Path) -> Path:
    """The scene's file, made once, in a process of its own (its memory must not count)."""
    path = work / f"scene_{millions:g}M.ply"
    if not path.is_file():
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from scale import scene; "
            f"from gaussianvae.formats import write_splats; write_splats({str(path)!r}, scene({int(millions * 1e6)}))"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("millions", nargs="*", type=float)
    parser.add_argument("--polish", type=int, nargs="*", help="steps, a row each; by default 0 and the default's 100")
    parser.add_argument("--work", type=Path, default=Path("runs/scale"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--ply", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ply:
        print(json.dumps(ply_times(args.ply)))
        return
    args.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for millions in args.millions or (1, 3, 6):
        path = one_file(millions, args.work)
        file_mb = path.stat().st_size / 1e6
        for polish in args.polish or (0, 100):
            row = {"millions": millions, "polish": polish, "file_mb": round(file_mb)}
            row |= enhance(path, polish) | {"limit_mb": round(1500 + 2.5 * file_mb)}
            rows.append(row)
            print(row, flush=True)
    result: dict[str, object] = {"enhance": rows}
    if not args.millions or 1 in args.millions:
        command = [sys.executable, __file__, "--ply", str(one_file(1, args.work))]
        result["ply"] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(result["ply"])
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
