from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from gaussianvae.captures import Capture, load_views, read_capture
from gaussianvae.errors import GaussianVAEError
from gaussianvae.evaluate import Evaluation, Method, baselines, evaluate
from gaussianvae.evaluate.pictures import largest_difference, typical_view, write_pictures
from gaussianvae.evaluate.rows import Truth, measure, measure_view, plain_ply_bytes
from gaussianvae.evaluate.tables import make_table, to_json, write_json
from gaussianvae.fitting.reconstruct import ReconstructConfig, Reconstruction
from gaussianvae.growth.lineage import Lineage
from gaussianvae.rasterize import Filter, render
from gaussianvae.scene.imaging import psnr, round_to_8_bits
from gaussianvae.scene.splats import Splats
from scenes import Told, random_splats
from tiny_capture import RECIPE, write_capture

FIELDS = [
    "method", "psnr", "ssim", "lpips_alex", "lpips_vgg", "flip", "lr_consistency", "num_gaussians", "bytes", "renders",
    "cpu_seconds", "peak_mb", "depth_error", "per_view",
]  # fmt: skip


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Splats, Capture]:
    """A splat and a capture whose photos show exactly that splat."""
    folder = tmp_path_factory.mktemp("toy")
    return write_capture(folder / "toy"), read_capture(folder / "toy")


@pytest.fixture(scope="module")
def worse(shown: tuple[Splats, Capture]) -> Splats:
    """The splat with its Gaussians a fifth larger: some LR fit."""
    return replace(shown[0], scales=1.2 * shown[0].scales)


@pytest.fixture(scope="module")
def judged(shown: tuple[Splats, Capture], worse: Splats) -> Evaluation:
    return evaluate(worse, shown[1], 4.0, {"true": shown[0]}, ("bicubic",))


def test_rows_come_in_the_stated_order(judged: Evaluation) -> None:
    names = [row.method for row in judged.rows]
    assert names[:3] == ["as_is", "classic_view", "scale_adaptive"]
    assert {"mip", "mip_kept", "split"} < set(judged.closed)
    assert names[len(judged.closed) :] == ["true", "true@classic_view", "bicubic"]
    assert [method.name for method in judged.methods] == names


def test_the_splat_that_the_photos_show_is_told_apart(judged: Evaluation) -> None:
    true = judged.row("true")
    # 8-bit rounding of colors and alpha is all that is left
    assert true.psnr > 45 and true.ssim > 0.995 and true.lr_consistency > 45
    assert true.psnr > judged.best_closed.psnr + 5
    assert true.psnr > judged.row("true@classic_view").psnr
    assert judged.best_closed.psnr == max(judged.row(name).psnr for name in judged.closed)
    assert judged.best_closed_ssim >= judged.best_closed.ssim


def test_a_row_is_the_mean_over_views_of_independently_computed_figures(
    judged: Evaluation, shown: tuple[Splats, Capture], worse: Splats
) -> None:
    capture = shown[1]
    views = load_views(capture, capture.test, 1.0)
    values = []
    for view in range(len(capture.test)):
        image = render(worse, views.cameras, view, filter=Filter("classic", 0.3)).rgb
        error = (image.clamp(0, 1).double() - views.images[view].double()).square().mean()
        values.append(-10 * math.log10(float(error)))
    row = judged.row("classic_view")
    assert [one.view for one in row.per_view] == list(judged.protocol.views)
    np.testing.assert_allclose([one.psnr for one in row.per_view], values, atol=1e-3)
    assert row.psnr == pytest.approx(np.mean(values), abs=1e-3)
    assert row.num_gaussians == len(worse)
    assert row.renders == 100
    assert row.bytes == 4 * len(worse) * (3 + 3 + 9 + 1 + 3 + 4)


def test_json_has_exactly_the_documented_fields(judged: Evaluation) -> None:
    parsed = json.loads(to_json(judged))
    assert list(parsed) == ["schema", "scene", "protocol", "rows", "versions"]
    assert parsed["schema"] == "gaussianvae.evaluation/1"
    assert parsed["scene"] == "toy"
    assert {"name", "hash", "factor", "background", "views"} <= set(parsed["protocol"])
    assert all(list(row) == FIELDS for row in parsed["rows"])
    assert parsed["rows"][0]["lpips_vgg"] is None and parsed["rows"][0]["depth_error"] is None
    assert len(parsed["rows"][0]["per_view"]) == 3


def test_figures_that_are_no_numbers_become_null(judged: Evaluation) -> None:
    row = replace(judged.rows[0], psnr=math.inf)
    text = to_json(replace(judged, rows=(row, *judged.rows[1:])))
    assert json.loads(text)["rows"][0]["psnr"] is None


def test_table_and_json_file(judged: Evaluation, tmp_path: Path) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(make_table(judged))
    text = console.export_text()
    assert all(row.method in text for row in judged.rows)
    write_json(tmp_path / "metrics.json", judged)
    assert json.loads((tmp_path / "metrics.json").read_text())["scene"] == "toy"
    with pytest.raises(GaussianVAEError, match="never overwritten"):
        write_json(tmp_path / "metrics.json", judged, [tmp_path / "metrics.json"])


def test_truth_rendered_is_perfect_and_its_depth_exact(shown: tuple[Splats, Capture]) -> None:
    splats, capture = shown
    fine, coarse = (load_views(capture, capture.test, factor) for factor in (1.0, 4.0))
    pixel = Filter("mip", 0.1)
    renders = [render(splats, fine.cameras, view, filter=pixel) for view in range(len(capture.test))]
    depths = torch.stack([torch.where(seen.alpha > 0.5, seen.depth, torch.inf) for seen in renders])
    images = torch.stack([seen.rgb.clamp(0, 1) for seen in renders])
    truth = Truth(replace(fine, images=images), coarse, depths, 2.0)
    method = Method("self", splats, pixel)
    figures = measure_view(method, truth, 1, "v")
    assert figures.psnr == math.inf and figures.depth_error == pytest.approx(0, abs=1e-7)
    # pushed along the optical axis by 0.1, all depths grow by 0.1: a twentieth of the diagonal
    forward = fine.cameras.viewmats[1, 2, :3]
    pushed = measure_view(replace(method, splats=replace(splats, means=splats.means + 0.1 * forward)), truth, 1, "v")
    assert pushed.depth_error == pytest.approx(0.05, rel=0.15)
    enlarged = measure_view(replace(method, enlarged=True), truth, 1, "v")
    assert enlarged.depth_error is None and enlarged.psnr < 40
    assert measure(method, truth, ["a", "b", "c"]).depth_error == pytest.approx(0, abs=1e-7)


def test_bicubic_row_is_pillow_s_enlargement_of_the_lr_render(
    judged: Evaluation, shown: tuple[Splats, Capture], worse: Splats
) -> None:
    capture = shown[1]
    fine, coarse = (load_views(capture, capture.test, factor) for factor in (1.0, 4.0))
    small = render(worse, coarse.cameras, 0, filter=Filter("mip", 0.1)).rgb
    planes = [Image.fromarray(small[..., c].numpy()).resize((48, 48), Image.Resampling.BICUBIC) for c in range(3)]
    large = torch.from_numpy(np.stack([np.asarray(plane) for plane in planes], -1))
    # Pillow's bicubic has a = -0.5, torch's -0.75
    assert judged.row("bicubic").per_view[0].psnr == pytest.approx(psnr(large, fine.images[0]), abs=0.3)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ReconstructConfig, tuple[int, int]]]:
    """Fits are replaced by a splat of the asked size; what was asked is returned."""
    asked: list[tuple[ReconstructConfig, tuple[int, int]]] = []

    def fit(views: object, config: ReconstructConfig, **_: object) -> Reconstruction:
        asked.append((config, views.cameras.sizes[0]))  # type: ignore[attr-defined]
        return Reconstruction(random_splats(config.max_gaussians, seed=config.seed, recipe=RECIPE), Lineage(), (0.0,))

    monkeypatch.setattr(baselines, "reconstruct", fit)
    return asked


def test_baselines_get_equal_means_and_are_cached_by_content(
    shown: tuple[Splats, Capture], worse: Splats, fits: list[tuple[ReconstructConfig, tuple[int, int]]], tmp_path: Path
) -> None:
    splats, capture = shown
    rich = replace(splats, recipe=replace(splats.recipe, steps=300))
    names = tuple(baselines.BASELINES)

    def run(seed: int = 0) -> Evaluation:
        few = worse.select(torch.arange(80))
        return evaluate(few, capture, 4.0, {"rich": rich}, names, seed=seed, cache=tmp_path)

    first = run()
    by_mode = {(config.mode, size): config for config, size in fits}
    assert by_mode["classic", (12, 12)].max_gaussians == 80 and by_mode["classic", (12, 12)].steps == 100
    assert by_mode["mip", (12, 12)].max_gaussians == 200 and by_mode["mip", (12, 12)].steps == 300
    assert len(fits) == 4 and sum(size == (48, 48) for _, size in fits) == 2
    assert [row.method for row in first.rows[-5:]] == list(names)
    assert first.row("mip_matched").cpu_seconds is not None and first.row("mip_matched").renders == 300
    second = run()
    assert len(fits) == 4, "the second run takes every fit from the cache"
    for a, b in zip(first.rows, second.rows, strict=True):
        assert a.psnr == pytest.approx(b.psnr, abs=1e-3)
    run(seed=1)
    assert len(fits) == 8, "another seed is another fit"
    next(tmp_path.glob("classic_fit-*.ply")).write_bytes(b"ply\nnonsense")
    run()
    assert len(fits) in (8, 9), "an unreadable cache entry is made anew"


def test_bicubic_images_are_enlarged_photos(
    shown: tuple[Splats, Capture], worse: Splats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def keep(name: str, views: object, *_: object) -> Method:
        seen.append(views.images)  # type: ignore[attr-defined]
        return Method(name, worse, Filter())

    monkeypatch.setattr(baselines, "cached_fit", keep)
    evaluate(worse, shown[1], 4.0, baselines=("bicubic_images",), cache=tmp_path)
    photos = load_views(shown[1], shown[1].train, 1.0).images
    assert seen[0].shape == photos.shape
    assert 15 < psnr(seen[0], photos) < 45
    torch.testing.assert_close(seen[0], round_to_8_bits(seen[0]))


def test_what_evaluate_refuses(shown: tuple[Splats, Capture], worse: Splats) -> None:
    capture = shown[1]
    with pytest.raises(GaussianVAEError, match="no baseline named nerf"):
        evaluate(worse, capture, 4.0, baselines=("nerf",))
    with pytest.raises(GaussianVAEError, match="row name split is taken"):
        evaluate(worse, capture, 4.0, {"split": worse})
    with pytest.raises(GaussianVAEError, match="no Gaussians"):
        evaluate(worse.select(torch.arange(0)), capture, 4.0)


def test_notes_about_unknown_or_contradicting_recipes(shown: tuple[Splats, Capture], worse: Splats) -> None:
    told = Told()
    messages = told.messages
    recipe = replace(worse.recipe, mode=None, factor=8.0)
    result = evaluate(replace(worse, recipe=recipe), shown[1], 4.0, report=told)
    assert any("factor 8, not 4" in text for text in messages)
    assert any("sizes look like a" in text for text in messages)
    assert ("mip" in result.closed) == any("look like a mip fit" in text for text in messages)


def test_pictures(judged: Evaluation, tmp_path: Path) -> None:
    (path,) = write_pictures(tmp_path / "new", judged)
    assert path.stem == judged.protocol.views[typical_view(judged)]
    picture = np.asarray(Image.open(path))
    # truth, best closed form, true, bicubic; a crop of a quarter, four times enlarged
    assert picture.shape == (16 + 48 + 6 + 48, 4 * 48 + 3 * 6, 3)
    truth = (judged.truth.fine.images[typical_view(judged)] * 255).round().numpy()
    rows, columns = np.nonzero((picture[16:64, :48] != truth).any(-1))
    # only the red frame of the crop hides pixels of the truth
    assert len(rows) <= 4 * 12 and np.ptp(rows) <= 11 and np.ptp(columns) <= 11
    y, x = rows.min(), columns.min()
    crop = picture[70:118, :48]
    np.testing.assert_array_equal(crop[2::4, 2::4][1:-1, 1:-1], truth[y + 1 : y + 11, x + 1 : x + 11])


def test_largest_difference_finds_the_changed_patch() -> None:
    a = torch.rand(40, 50, 3, generator=torch.Generator().manual_seed(0))
    b = a.clone()
    b[21:31, 7:17] += 0.5
    assert largest_difference(a, b, 10) == (7, 21)


def test_bytes_are_those_of_the_layout() -> None:
    splats = random_splats(10)
    assert plain_ply_bytes(splats) == 10 * 4 * (3 + 3 + 9 + 1 + 3 + 4)
    assert plain_ply_bytes(replace(splats, shN=torch.zeros(10, 0, 3))) == 10 * 4 * 14
