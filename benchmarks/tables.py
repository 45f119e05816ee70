"""Write the results tables of README.md and docs/ from benchmarks/results, and the plot of gain over scale.

    python benchmarks/tables.py

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`; everything between them is replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gaussianvae.charts import line_chart
from gaussianvae.files import replacing

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PLOT = ROOT / "docs" / "images" / "gain_over_scale.svg"


def load(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def gain() -> str:
    """Means over the meshes, and lego, for mip and classic fits: the default beside the pass alone."""
    names = (
        "13 meshes, mean", "worst mesh", "meshes made worse", "SSIM, mean", "as most viewers show it, over the anchor",
        "depth error, relative to the best closed form's", "lego, mean of its fits", "lego, each fit", "lego, SSIM",
    )  # fmt: skip
    columns = []
    for mode in ("mip", "classic"):
        rows = load(f"gain_{mode}")["rows"]
        meshes = [row for row in rows if row["scene"] != "lego"]
        lego = [row for row in rows if row["scene"] == "lego"] if mode == "classic" else load("gain_mip_lego")["rows"]
        for prefix in ("", "pass_"):
            gains = [row[f"{prefix}gain"] for row in meshes]
            depth = sum(row[f"{prefix}depth_error"] for row in meshes)
            depth /= sum(row["best_closed_depth_error"] for row in meshes)
            columns.append(
                [
                    f"**{np.mean(gains):+.2f} dB**",
                    f"{min(gains):+.2f} dB",
                    f"{sum(value < 0 for value in gains)}",
                    f"{np.mean([row[f'{prefix}gain_ssim'] for row in meshes]):+.4f}",
                    f"{np.mean([row[f'{prefix}classic_view_gain'] for row in meshes]):+.2f} dB",
                    f"{100 * (depth - 1):+.0f} %",
                    f"**{np.mean([row[f'{prefix}gain'] for row in lego]):+.2f} dB**",
                    ", ".join(f"{row[f'{prefix}gain']:+.2f}" for row in lego),
                    f"{np.mean([row[f'{prefix}gain_ssim'] for row in lego]):+.4f}",
                ]
            )
    head = ["", "mip fits", "mip, one pass", "classic 3DGS fits", "classic, one pass"]
    return table(head, list(zip(names, *columns, strict=True)))


def worth() -> str:
    """What the model and polish are worth, alone and together: mean gain of the meshes and of lego."""
    rows = []
    for label, prefix in (
        ("model, polished", ""), ("model, one pass", "pass_"), ("closed form `split`, polished", "split_"),
    ):  # fmt: skip
        row = [label]
        for mode in ("mip", "classic"):
            everyone = load(f"gain_{mode}")["rows"]
            lego = [one for one in everyone if one["scene"] == "lego"]
            meshes = [one for one in everyone if one["scene"] != "lego"]
            row += [f"{np.mean([one[f'{prefix}gain'] for one in group]):+.2f}" for group in (meshes, lego)]
        rows.append(row)
    return table(["gain, dB", "mip, meshes", "mip, lego", "classic, meshes", "classic, lego"], rows)


def polish() -> str:
    """Gain by steps of polish on the held-out scenes."""
    rows = [
        [r["variant"], f"{r['classic']:+.3f}", f"{r['mip']:+.3f}", f"{r['worst']:+.2f}", f"{r['cpu_seconds']:.1f} s"]
        for r in load("polish")["rows"]
    ]
    return table(["start, steps", "classic", "mip", "worst scene", "CPU time"], rows)


def scales() -> str:
    """Gain by scale and scene; draws the plot, too."""
    tables = [json.loads(path.read_text()) for path in RESULTS.glob("gain_mip_x*.json")]
    scenes = sorted({row["scene"] for one in tables for row in one["rows"]})
    tables = sorted([*tables, load("gain_mip")], key=lambda one: one["scale"])
    gains = {one["scale"]: {row["scene"]: row["gain"] for row in one["rows"]} for one in tables}
    lines = {scene: [(scale, row[scene]) for scale, row in gains.items()] for scene in scenes}
    with replacing(PLOT) as beside:
        beside.write_text(line_chart(lines, "scale", "gain, dB", marks=True))
    rows = [[f"{scale:g}", *(f"{row[scene]:+.2f}" for scene in scenes)] for scale, row in gains.items()]
    return table(["scale", *scenes], rows)


def time() -> str:
    """Wall time and memory by count."""
    rows = [
        [
            f"{r['num_gaussians']:,}", f"{r['model_seconds']:.2f} s", f"{r['all_seconds']:.1f} s",
            f"{r['polished_seconds']:.1f} s", f"{r['peak_mb']} MB",
        ]
        for r in load("enhance")["rows"]
    ]  # fmt: skip
    region = next(r for r in load("enhance")["rows"] if "region_seconds" in r)
    return (
        table(["Gaussians", "model", "with sensitivity", "with polish", "peak memory"], rows)
        + f"\n\nA region of {region['region_gaussians']:,} in {region['num_gaussians']:,} Gaussians takes "
        f"{region['region_seconds']:.2f} s, sensitivity included, without polish."
    )


def scores() -> str:
    """Every score at both budgets."""
    rows = [
        [
            r["choice"],
            f"{r['gain']:+.3f}",
            *(f"{r[key]:+.3f} ± {r[f'{key}_error']:.3f}" for key in ("over_random", "viewer", "both")),
        ]
        for r in load("scores")
    ]
    return table(["choice", "gain, dB", "over `random`", "the same, classic view", "mean of both"], rows)


def latent() -> str:
    """The means over the held-out scenes."""
    mean = load("latent")["mean"]
    rows = [
        ["PSNR at HR from the posterior's mean, relative to the prior's", f"{mean['posterior_over_prior']:+.2f} dB"],
        ["two draws differ by, RMS of 255", f"{mean['draw_rms']:.1f}"],
        ["a draw's LR consistency, relative to the mean's", f"{mean['draw_lr']:+.2f} dB"],
        ["a draw's PSNR at HR, relative to the mean's", f"{mean['draw_psnr']:+.2f} dB"],
        ["rank correlation of a Gaussian's error with the spread of its draws", f"{mean['rank_spread']:+.2f}"],
        ["and with its projected area", f"{mean['rank_area']:+.2f}"],
    ]  # fmt: skip
    return table(["", ""], rows)


def ablations() -> str:
    """What each part is worth."""
    result = load("ablations")
    rows = [
        [
            r["variant"], f"{r['gain_bare']:+.3f}", f"{r['gain_lineage']:+.3f}",
            f"{r['to_whole']:+.3f} (s.e. {r['standard_error']:.3f})" if "to_whole" in r else "",
        ]
        for r in result["rows"]
    ]  # fmt: skip
    return table(["variant", "gain, bare splat", "gain, lineage shown", "bare, to `whole` of its seed"], rows)


def guesses() -> str:
    """What stripping a splat of all it says costs."""
    result = load("guesses")
    rows = [
        [row["mode"], f"{row['commented']:.2f}", f"{row['stripped']:.2f}", f"{row['difference']:+.2f}"]
        for row in result["lego"]
    ]
    counts = result["right"]
    text = table(["lego", "PSNR, commented", "stripped", "difference, dB"], rows)
    return (
        f"{text}\n\nOf {result['fits']} fits the mode is guessed right in {counts['mode']}, the 3D filter in "
        f"{counts['filter_3d']}; the background in {result['background']['right']} (wrong in "
        f"{result['background']['wrong']}, else left open); ln(pixel) is off by "
        f"{result['classic']['deviation']:.2f} (classic) and {result['mip']['deviation']:.2f} (mip), "
        "standard deviation over fits left out."
    )


def refine() -> str:
    """Gain by photos alone."""
    rows = [
        [
            r["scene"], f"{r['closed_psnr']:.2f}", f"{r['start_gain']:+.2f}", f"**{r['gain']:+.2f}**",
            f"{r['gain_ssim']:+.4f}",
            f"{100 * (r['depth_error'] / r['start_depth_error'] - 1):+.0f} %" if r["depth_error"] else "",
            f"{r['num_gaussians']:,}", str(r["steps"]), f"{r['cpu_seconds']:.0f} s",
        ]
        for r in load("refine")["rows"]
    ]  # fmt: skip
    head = [
        "scene",
        "best closed form, dB",
        "start",
        "refined",
        "SSIM",
        "depth error, to the start's",
        "Gaussians",
        "steps",
        "CPU time",
    ]
    return table(head, rows)


def lego() -> str:
    """Lego 200 -> 800 beside the published rows."""
    rows = []
    for name, photos in (("lego_area", "area"), ("lego_bicubic", "bicubic"), ("lego_white", "area, over white")):
        for row in load(name)["rows"]:
            label = {"anchor": "best closed form", "refined": "**refined**"}.get(row["method"])
            if label:
                rows.append([label, photos, f"{row['psnr']:.2f}", f"{row['ssim']:.3f}", f"{row['num_gaussians']:,}"])
    rows += [
        ["bicubic photos, 3DGS *", "bicubic", "27.46", "", ""],
        ["SwinIR photos, 3DGS *", "bicubic", "32.05", "", ""],
        ["Sequence Matters *", "bicubic", "33.03", "", ""],
        ["3DGS trained at 800 px *", "", "35.77", "", ""],
    ]
    return table(["method", "photos brought down by", "PSNR, dB", "SSIM", "Gaussians"], rows)


def equivariance() -> str:
    """Rows that follow a similarity of splat and cameras."""
    rows = [
        [r["splat"], str(r["steps of polish"])]
        + [f"{100 * r[key]:.2f} %" for key in ("within 0.0001", "within 0.001", "centers within 0.0001")]
        for r in load("equivariance")["rows"]
    ]
    return table(["splat", "steps of polish", "within 1e-4", "within 1e-3", "centers alone, 1e-4"], rows)


def renders() -> str:
    """What few renders reach: means over seeds."""
    result = load("renders")
    rows = []
    for scene in dict.fromkeys(r["scene"] for r in result["rows"]):
        of = [r for r in result["rows"] if r["scene"] == scene]
        psnr = {key: sum(r[key] for r in of) / len(of) for key in of[0] if isinstance(of[0][key], float)}
        keys = ("closed_psnr", "plain", "ours", "from_anchor", "from_split", "from_model")
        rows.append([scene, *(f"{psnr[key]:.2f}" for key in keys)])
    head = [
        "scene", "closed form", f"prototype, {result['plain_steps']} steps", f"`refine`, {result['renders']} renders",
        "anchor, 100 steps", "split, 100 steps", "model, 100 steps",
    ]  # fmt: skip
    return table(head, rows)


def splits() -> str:
    """What a split does to the picture."""
    return table(
        ["split", "PSNR to the picture before"], [[r["rule"], f"{r['psnr']:.1f} dB"] for r in load("splits")["rows"]]
    )


def refine_ablations() -> str:
    """Differences to the whole at equal time."""
    result = load("refine_ablations")
    scenes = list(dict.fromkeys(r["scene"] for r in result["rows"]))
    of = {(r["scene"], r["variant"]): r for r in result["rows"]}
    rows = []
    for variant in dict.fromkeys(r["variant"] for r in result["rows"]):
        cells = []
        for scene in scenes:
            ours, whole = of[scene, variant], of[scene, "as it is"]
            shown = f"{ours['psnr']:.2f} dB" if ours is whole else f"{ours['psnr'] - whole['psnr']:+.2f}"
            cells.append(f"{shown}, {ours['steps']} steps")
        rows.append([variant, *cells])
    minutes = result["minutes"]
    return table(["variant", *(f"{scene}, {60 * minutes[scene]:.0f} s" for scene in scenes)], rows)


def captures() -> str:
    """Real captures."""
    keys = ("mip", "split", "closed", "enhanced", "refined", "mip_matched")
    rows = [
        [
            r["scene"], "x".join(map(str, r["size"])) + f", x{r['scale']:g}",
            *(f"{r[f'{key}_psnr']:.2f} / {r[f'{key}_ssim']:.3f}" for key in keys),
            f"{r['num_gaussians']:,}", str(r["steps"]),
        ]
        for r in load("captures")["rows"]
    ]  # fmt: skip
    head = [
        "capture", "photos", "mip", "split", "best closed form", "enhanced", "refined", "mip_matched", "Gaussians",
        "steps",
    ]  # fmt: skip
    return table(head, rows)


def fuzz() -> str:
    """Damaged files, reader by reader."""
    result = load("fuzz")
    rows = [
        [
            r["reader"], f"{r['files']:,}", f"{r['refused']:,}", str(r["failures"]), f"{r['slowest_seconds']:.3f} s",
            f"{r['honest_mb']:.2f} MB", f"{r['most_mb']:.2f} MB",
        ]
        for r in result["rows"]
    ]  # fmt: skip
    total = sum(r["files"] for r in result["rows"])
    head = ["reader", "damaged files", "refused in one line", "anything else", "slowest", "memory, honest", "most"]
    return table(head, rows) + f"\n\n{total:,} files; the process grew by {result['grown_mb']} MB."


def levels() -> str:
    """Levels of detail, each against the next finer one."""
    rows = []
    for r in load("levels")["rows"]:
        best, psnr, ssim = r["best_closed"], r["psnr"], r["ssim"]
        rows.append(
            [f"lod{r['level']}, {r['num_gaussians']:,}", f"lod{r['level'] - 1}, {r['against']:,}"]
            + [f"{psnr[key]:.2f} / {ssim[key]:.3f}" for key in ("as_is", best, "one_pass", "enhanced")]
            + [best]
        )
    head = ["splat, Gaussians", "against", "as it is", "best closed form", "one pass", "enhanced", "which form"]
    return table(head, rows)


def bare() -> str:
    """What estimated cameras are worth beside the true ones."""
    rows = [
        [
            r["fit"], r["kind"], " / ".join(f"{value:.2f}" for value in r["pixel"]), r["best_closed"],
            *(f"{r[f'{key}_gain']:+.2f}" for key in ("true", "unposed", "bare", "bare_circles")),
        ]
        for r in load("bare")["rows"]
    ]  # fmt: skip
    head = [
        "fit", "taken for", "pixel over the true one, 10 / 50 / 90 %", "best closed form", "gain, true cameras",
        "gain, recipe known", "gain, bare", "gain, bare, circles",
    ]  # fmt: skip
    return table(head, rows)


def rasterizer() -> str:
    """Threads, instruction sets, plain C++."""
    rows = []
    for r in load("rasterizer"):
        what = f"{r['num_gaussians']:,}, {r['size'][0]} px"
        if r["kind"] == "small":
            rows.append(
                [what, f"2 threads (chosen are {r['chosen']})", "", f"{r['speedup_of_two']:.2f} times as fast as 1"]
            )
            continue
        if r["kind"] == "scratch":
            rows.append([what, "scratch memory, 2 threads", "", f"{r['megabytes']:.1f} MB"])
            continue
        both = r["forward_backward_ms"]
        note, who = "", f"{r['threads']} thread" + "s" * (r["threads"] > 1)
        if r["kind"] == "threads" and "speedup" in r:
            note = f"{r['speedup']['forward_backward']:.2f} times as fast as 1"
        if r["kind"] == "baseline":
            who, note = "plain C++, 1 thread", f"{r['times_ours']:.0f} times ours"
        if r["kind"] == "code":
            who, note = f"code: {r['code']}", f"{r['times_native']['forward_backward']:.2f} times native"
        rows.append([what, who, f"{r['forward_ms']:.1f} / {both:.1f} ms", note])
    return table(["Gaussians, image", "what", "forward / with gradients", ""], rows)


def scale() -> str:
    """Millions of Gaussians from file to file."""
    result = load("scale")
    rows = [
        [
            f"{r['millions']:g} M", f"{r['file_mb']:,} MB", str(r["polish"]), f"{r['cpu_seconds']:,.0f} s",
            f"{r['cpu_seconds'] / r['millions']:.0f} s", f"{r['peak_mb']:,} MB", f"{r['limit_mb']:,} MB",
        ]
        for r in result["enhance"]
    ]  # fmt: skip
    head = ["Gaussians", "file", "steps of polish", "CPU time", "a million", "peak memory", "1.5 GB + 2.5 files"]
    return (
        table(head, rows)
        + f"\n\nA PLY of a million Gaussians is read in {result['ply']['read_seconds']:.2f} s and written "
        f"in {result['ply']['write_seconds']:.2f} s of one core."
    )


TABLES: dict[str, Callable[[], str]] = {
    "gain": gain, "scales": scales, "time": time, "scores": scores, "latent": latent, "ablations": ablations,
    "guesses": guesses, "worth": worth, "polish": polish,
    "refine": refine, "lego": lego, "equivariance": equivariance, "renders": renders,
    "refine_ablations": refine_ablations, "captures": captures, "splits": splits,
    "fuzz": fuzz, "levels": levels, "scale": scale, "bare": bare, "rasterizer": rasterizer,
}  # fmt: skip


def main() -> None:
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text()
        for name in re.findall(r"<!-- (\w+) -->", text):
            body = f"<!-- {name} -->\n\n{TABLES[name]()}\n\n<!-- /{name} -->"
            text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, body=body: body, text, flags=re.S)
        with replacing(path) as beside:
            beside.write_text(text)


if __name__ == "__main__":
    main()
