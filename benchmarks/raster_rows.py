"""What `rasterizer.py --threads` measures: wall times of 1 and 2 threads, other instruction sets, plain C++, memory.

Rows are dicts. All times are medians of wall milliseconds in which the variants take turns, so that a busy moment of
the machine hits all of them; those of large frames are medians over several processes, too. `busy_elsewhere` is the
share of the processors that other programs took; two threads are worth judging only where that is about 0.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gaussianvae.rasterize.cpu import frame as frames
from gaussianvae.rasterize.cpu import warm_up
from gaussianvae.rasterize.cpu.frame import Frame, default_threads

Row = dict[str, Any]
Case = tuple[tuple[Any, ...], Any, tuple[int, int], Any]
"""Parameters, camera, size, gradients of the five planes."""
MakeCase = Callable[[int, int], Case]

SIZES = (10_000, 256), (50_000, 512), (200_000, 512)
SMALL = (100, 256), (1000, 256), (3000, 256), (1000, 512), (100, 800), (20_000, 64), (6000, 200)
MIDDLE = SIZES[1]
FEATURES = {
    "native": None,
    "avx2": ("x86-64-v3", "+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt"),
    "no fma": ("x86-64", "+sse2"),
}
"""NUMBA_CPU_NAME and NUMBA_CPU_FEATURES."""
LAUNCHES, TURNS = 5, 5


def time_frame(case: Case, threads: int) -> tuple[float, float]:
    """Milliseconds of a forward pass, and of forward and backward."""
    parameters, camera, size, v = case
    pixels = size[0] * size[1]
    start = time.perf_counter()
    frame = Frame(parameters, camera, size, threads=threads)
    frame.forward()
    middle = time.perf_counter()
    frame.backward(v[: 3 * pixels], v[3 * pixels : 4 * pixels], v[4 * pixels :])
    end = time.perf_counter()
    frame.release()
    return 1e3 * (middle - start), 1e3 * (end - start)


def _ticks() -> tuple[float, float] | None:
    try:
        values = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return None
    idle = values[3] + values[4]
    return (sum(values) - idle) / os.sysconf("SC_CLK_TCK"), sum(values) / os.sysconf("SC_CLK_TCK")


@contextmanager
def watch() -> Iterator[Row]:
    """A dict that says afterwards how busy others kept the machine (empty where that can't be known)."""
    found: Row = {}
    before, own = _ticks(), sum(os.times()[:4])
    yield found
    after, own = _ticks(), sum(os.times()[:4]) - own
    if before and after and after[1] > before[1]:
        found["busy_elsewhere"] = round(max(0.0, after[0] - before[0] - own) / (after[1] - before[1]), 3)


def summary(times: list[tuple[float, float]]) -> Row:
    """Medians and quartiles."""
    (forward, both), spread = np.median(times, 0), np.percentile(times, (25, 75), axis=0)
    return dict(
        forward_ms=round(float(forward), 3),
        forward_backward_ms=round(float(both), 3),
        forward_quartiles_ms=[round(float(x), 3) for x in spread[:, 0]],
        forward_backward_quartiles_ms=[round(float(x), 3) for x in spread[:, 1]],
        repetitions=len(times),
    )


def alternate(case: Case, variants: tuple[int, ...], seconds: float) -> list[list[tuple[float, float]]]:
    """Times of some numbers of threads that take turns, each of them at least nine times."""
    times: list[list[tuple[float, float]]] = [[] for _ in variants]
    for _ in range(3):
        for threads in variants:
            time_frame(case, threads)
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times[0]) < 9:
        for own, threads in zip(times, variants, strict=True):
            own.append(time_frame(case, threads))
    return times


class Worker:
    """Another process with its own compiled kernels, that times frames when told to."""

    def __init__(self, code: str, script: Path, cache: Path) -> None:
        environment = dict(os.environ, OMP_NUM_THREADS="1")
        target = FEATURES[code]
        if target:
            environment |= dict(
                NUMBA_CPU_NAME=target[0], NUMBA_CPU_FEATURES=target[1], NUMBA_CACHE_DIR=str(cache / code)
            )
        self.process = subprocess.Popen(
            [sys.executable, str(script), "--serve"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, *job: int) -> list[tuple[float, float]]:
        """count, width, threads, repeats -> times."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"a worker of this benchmark died (exit code {self.process.wait()})")
        return [(forward, both) for forward, both in json.loads(answer)]

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait(30)


def serve(make: MakeCase) -> None:
    """What a worker does: a job a line in, times a line out."""
    torch.set_num_threads(1)
    warm_up()
    cases: dict[tuple[int, int], Case] = {}
    for line in sys.stdin:
        count, width, threads, repeats = json.loads(line)
        case = cases.setdefault((count, width), make(count, width))
        print(json.dumps([time_frame(case, threads) for _ in range(repeats)]), flush=True)


def launched(script: Path, variants: dict[str, tuple[str, int]], size: tuple[int, int], cache: Path) -> dict[str, Row]:
    """Variants (code, threads) at one size (Gaussians, width), each in processes of its own that take turns.

    Of each process the median counts, and of the processes theirs: some are slower throughout, by a fifth.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for _ in range(LAUNCHES):
        workers = {name: Worker(code, script, cache) for name, (code, _) in variants.items()}
        own: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        try:
            for turn in range(-1, TURNS):
                for name, worker in workers.items():
                    found = worker.ask(*size, variants[name][1], 3)
                    own[name] += found if turn >= 0 else []
        finally:
            for worker in workers.values():
                worker.close()
        for name, found in own.items():
            forward, both = np.median(found, 0)
            times[name].append((float(forward), float(both)))
    return {name: summary(found) for name, found in times.items()}


def thread_rows(script: Path, cache: Path) -> list[Row]:
    """1 and 2 threads, where frames are large."""
    rows = []
    for count, width in SIZES:
        with watch() as others:
            found = launched(script, {"one": ("native", 1), "two": ("native", 2)}, (count, width), cache)
        one, two = found["one"], found["two"]
        ratios = {k: round(one[f"{k}_ms"] / two[f"{k}_ms"], 3) for k in ("forward", "forward_backward")}
        print(
            f"{count:7d} Gaussians {width:4d} px  forward {one['forward_ms']:6.2f} -> {two['forward_ms']:6.2f} "
            f"({ratios['forward']:.2f}x)  both {one['forward_backward_ms']:6.2f} -> {two['forward_backward_ms']:6.2f} "
            f"ms ({ratios['forward_backward']:.2f}x)  1 -> 2 threads, others {others.get('busy_elsewhere', 'unknown')}"
        )
        common = dict(kind="threads", num_gaussians=count, size=[width, width], **others)
        rows += [dict(common, threads=1, **one), dict(common, threads=2, **two, speedup=ratios)]
    return rows


def small_rows(make: MakeCase, seconds: float) -> list[Row]:
    """1 thread against as many as `default_threads` takes of two, where it decides."""
    rows = []
    for count, width in SMALL:
        case = make(count, width)
        chosen = default_threads(count, (width, width))
        with watch() as others:
            one, two = (summary(t) for t in alternate(case, (1, 2), seconds))
        ratio = round(one["forward_backward_ms"] / two["forward_backward_ms"], 3)
        print(f"{count:7d} Gaussians {width:4d} px  two threads {ratio:.2f}x as fast, chosen are {chosen}")
        rows.append(
            dict(kind="small", num_gaussians=count, size=[width, width], chosen=chosen, speedup_of_two=ratio, **others)
        )
    return rows


def scratch_row(make: MakeCase) -> Row:
    """Memory kept between frames of the largest size, of two threads."""
    count, width = SIZES[2]
    frames._free.clear()
    time_frame(make(count, width), 2)
    megabytes = sum(workspace.nbytes for workspace in frames._free) / 1e6
    print(f"{count:7d} Gaussians {width:4d} px  {megabytes:.1f} MB of scratch memory")
    return dict(kind="scratch", num_gaussians=count, size=[width, width], threads=2, megabytes=round(megabytes, 1))


def code_rows(script: Path, cache: Path) -> list[Row]:
    """One thread, compiled for other instruction sets than the machine's own."""
    if platform.machine() not in ("x86_64", "AMD64"):
        print("instruction sets: measured on x86-64 only")
        return []
    count, width = MIDDLE
    with watch() as others:
        found = launched(script, {code: (code, 1) for code in FEATURES}, MIDDLE, cache)
    rows = []
    for code, one in found.items():
        ratio = {k: round(one[f"{k}_ms"] / found["native"][f"{k}_ms"], 3) for k in ("forward", "forward_backward")}
        print(
            f"{count:7d} Gaussians {width:4d} px  {code:7s} forward {one['forward_ms']:6.2f} both "
            f"{one['forward_backward_ms']:6.2f} ms, {ratio['forward_backward']:.2f} times native"
        )
        common = dict(kind="code", code=code, num_gaussians=count, size=[width, width], threads=1)
        rows.append(dict(common, **one, times_native=ratio, **others))
    return rows


def baseline_rows(make: MakeCase, repeats: int) -> list[Row]:
    """baseline.cpp on one thread beside our kernels on one, and how far its image and gradients are from ours."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        print("plain C++: no g++ or clang++ here")
        return []
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program, given, made = folder / "baseline", folder / "in", folder / "out"
        source = Path(__file__).with_name("baseline.cpp")
        flags = "-std=c++17", "-O3", "-march=native", "-fno-math-errno"
        subprocess.run([compiler, *flags, str(source), "-o", str(program)], check=True)
        for count, width in SIZES:
            case = make(count, width)
            parameters, camera, size, v = case
            pixels = width * width
            with given.open("wb") as file:
                for array in (np.array([count, width, width], np.int32), camera, *parameters, v):
                    array.tofile(file)
            with watch() as others:
                run = subprocess.run([program, given, made, str(repeats)], check=True, capture_output=True, text=True)
                times = [(float(a), float(b)) for a, b in (line.split() for line in run.stdout.splitlines())]
                own = summary([time_frame(case, 1) for _ in range(9)])
            frame = Frame(parameters, camera, size)
            ours = [frame.forward(), *frame.backward(v[: 3 * pixels], v[3 * pixels : 4 * pixels], v[4 * pixels :])]
            frame.release()
            theirs = np.split(np.fromfile(made, np.float32), np.cumsum([array.size for array in ours])[:-1])
            away = max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(theirs, ours, strict=True))
            one = summary(times)
            ratio = round(one["forward_backward_ms"] / own["forward_backward_ms"], 2)
            print(
                f"{count:7d} Gaussians {width:4d} px  plain C++ forward {one['forward_ms']:6.1f} both "
                f"{one['forward_backward_ms']:6.1f} ms, {ratio:.1f} times ours; {away:.1e} from ours"
            )
            common = dict(kind="baseline", num_gaussians=count, size=[width, width], threads=1)
            rows.append(dict(common, **one, times_ours=ratio, relative_difference=away, **others))
    return rows


def verdicts(rows: list[Row]) -> None:
    """The targets, met or not."""
    middle = next(r for r in rows if r["kind"] == "threads" and r["threads"] == 2 and r["num_gaussians"] == MIDDLE[0])
    codes = {r["code"]: r["times_native"]["forward_backward"] for r in rows if r["kind"] == "code"}
    # what 1 thread is chosen for can't be slower than 1 thread
    least = min(
        [r["speedup_of_two"] for r in rows if r["kind"] == "small" and r["chosen"] > 1]
        + [r["speedup"]["forward_backward"] for r in rows if r["kind"] == "threads" and r["threads"] == 2]
    )
    scratch = next(r["megabytes"] for r in rows if r["kind"] == "scratch")
    checks: list[tuple[str, float, str, float]] = [
        ("two threads as one, 50k", middle["speedup"]["forward_backward"], ">=", 1.5),
        ("two threads as one, least where chosen", least, ">=", 1.0),
        ("scratch memory at 200k, MB", scratch, "<=", 60),
    ]
    if codes:
        checks += [("AVX2 times native", codes["avx2"], "<=", 1.4), ("no FMA times native", codes["no fma"], "<=", 3.0)]
    for name, value, sign, target in checks:
        met = value >= target if sign == ">=" else value <= target
        print(f"{'met   ' if met else 'MISSED'} {name}: {value:.2f} (target {sign} {target:g})")


def measure_all(make: MakeCase, script: Path, seconds: float) -> list[Row]:
    """Every row, in about 3 minutes; each of the small sizes takes `seconds`."""
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        rows = thread_rows(script, Path(name))
        rows += small_rows(make, seconds)
        rows.append(scratch_row(make))
        rows += baseline_rows(make, 3)
        rows += code_rows(script, Path(name))
    verdicts(rows)
    return rows
