"""Fits: they learn, repeat, resume bit for bit, and know where every Gaussian came from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gaussianvae.captures import Views
from gaussianvae.errors import GaussianVAEError
from gaussianvae.fitting import reconstruct as fitting
from gaussianvae.fitting.parameters import Parameters, Rates, activate, raw_parameters, to_splats
from gaussianvae.fitting.reconstruct import ReconstructConfig, Reconstruction, reconstruct
from gaussianvae.rasterize import Filter, render
from gaussianvae.scene.edits import append_children, keep
from gaussianvae.scene.imaging import psnr, round_to_8_bits
from gaussianvae.scene.recipe import Recipe
from scenes import random_splats, ring_cameras

CONFIG = ReconstructConfig(steps=240, max_gaussians=300, seed=3)


def tiny_views(count: int = 10, size: int = 32) -> Views:
    """Photos of a random cloud, as a perfect camera would take them."""
    splats, cameras = random_splats(150, degree=0), ring_cameras(count, size)
    shots = [render(splats, cameras, view, filter=Filter("mip", 0.1)) for view in range(count)]
    images = round_to_8_bits(torch.stack([shot.rgb for shot in shots]).clamp(0, 1))
    return Views(cameras, images, torch.stack([shot.alpha for shot in shots]), torch.zeros(3))


def fit_psnr(result: Reconstruction, views: Views) -> float:
    shots = [render(result.splats, views.cameras, v, filter=CONFIG.pixel).rgb for v in range(len(views.cameras))]
    return psnr(torch.stack(shots), views.images)


def same(a: Reconstruction, b: Reconstruction) -> bool:
    return all(torch.equal(getattr(a.splats, n), getattr(b.splats, n)) for n in ("means", "scales", "quats", "shN"))


class _Stopped(Exception):
    pass


class Stopper:
    """A reporter that stops the run after some steps, as a kill would."""

    def __init__(self, after: int) -> None:
        self.left = after

    def message(self, text: str) -> None:
        return None

    @contextmanager
    def bar(self, label: str, total: int, start: int = 0) -> Iterator[Stopper]:
        yield self

    def advance(self, count: int = 1, **figures: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise _Stopped


def test_a_fit_learns_its_photos_and_repeats() -> None:
    views = tiny_views()
    first, again = reconstruct(views, CONFIG), reconstruct(views, CONFIG)
    beginning = reconstruct(views, replace(CONFIG, steps=1))
    assert fit_psnr(first, views) > fit_psnr(beginning, views) + 3
    assert len(first.splats) <= CONFIG.max_gaussians
    assert same(first, again)
    assert not same(first, reconstruct(views, replace(CONFIG, seed=4)))


def test_stopped_three_times_it_ends_where_an_undisturbed_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = tiny_views()
    whole = reconstruct(views, CONFIG)
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    checkpoint = tmp_path / "fit.safetensors"
    for after in (37, 64, 101):
        with pytest.raises(_Stopped):
            reconstruct(views, CONFIG, checkpoint=checkpoint, report=Stopper(after))
    resumed = reconstruct(views, CONFIG, checkpoint=checkpoint)
    assert same(whole, resumed) and whole.losses == resumed.losses
    for a, b in zip(whole.lineage.levels, resumed.lineage.levels, strict=True):
        assert torch.equal(a.ancestors, b.ancestors) and torch.equal(a.state.means, b.state.means)
    assert not checkpoint.exists()


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views = tiny_views()
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    checkpoint = tmp_path / "fit.safetensors"
    with pytest.raises(_Stopped):
        reconstruct(views, CONFIG, checkpoint=checkpoint, report=Stopper(10))
    with pytest.raises(GaussianVAEError, match="another run"):
        reconstruct(views, replace(CONFIG, seed=9), checkpoint=checkpoint)
    other = replace(views, images=views.images.flip(0))
    with pytest.raises(GaussianVAEError, match="another run"):
        reconstruct(other, CONFIG, checkpoint=checkpoint)
    checkpoint.write_bytes(b"broken")
    with pytest.raises(GaussianVAEError, match="checkpoint"):
        reconstruct(views, CONFIG, checkpoint=checkpoint)


def test_the_lineage_has_three_levels_that_end_in_the_splat() -> None:
    result = reconstruct(tiny_views(), CONFIG)
    levels = result.lineage.levels
    assert [level.factor for level in levels] == [4.0, 2.0, 1.0]
    assert all(len(level.ancestors) == len(result.splats) for level in levels)
    assert torch.equal(levels[-1].inherited().means, result.splats.means)
    # ancestors are near their descendants: a wrong parent would be anywhere in the scene
    distance = (levels[1].inherited().means - result.splats.means).norm(dim=1)
    shuffled = (levels[1].inherited().means.flip(0) - result.splats.means).norm(dim=1)
    assert float(distance.median()) < 0.3 * float(shuffled.median())


def test_one_photo_is_not_enough() -> None:
    views = tiny_views(1)
    with pytest.raises(GaussianVAEError, match="at least 2"):
        reconstruct(views, CONFIG)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"max_gaussians": 0}, {"sh_degree": 4}, {"eps2d": -1.0}])
def test_configs_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(GaussianVAEError):
        ReconstructConfig(**bad)  # type: ignore[arg-type]


def test_moments_follow_row_edits() -> None:
    """An edit that keeps every row, twice over, leaves the next steps of the originals as they were."""
    splats = random_splats(20)
    one, two = (Parameters(raw_parameters(splats), Rates(), 1.0) for _ in range(2))

    def step(parameters: Parameters) -> None:
        out = activate(parameters.raw)
        (out.means.square().sum() + out.scales.sum() + out.opacities.sum() + out.sh.square().sum()).backward()
        parameters.step(0.5)

    step(one)
    step(two)
    two.edit(append_children(torch.arange(20), 20))
    two.edit(keep(torch.arange(40) < 20))
    step(one)
    step(two)
    for name, value in one.raw.items():
        torch.testing.assert_close(two.raw[name], value)


def test_raw_parameters_return_the_splat() -> None:
    splats = random_splats(15, degree=2)
    back = to_splats(raw_parameters(splats), Recipe())
    torch.testing.assert_close(back.scales, splats.scales)
    torch.testing.assert_close(back.opacities, splats.opacities)
    grown = raw_parameters(splats, sh_degree=3)["shN"]
    assert grown.shape == (15, 15, 3) and float(grown[:, 8:].abs().max()) == 0
    assert raw_parameters(splats, sh_degree=1)["shN"].shape == (15, 3, 3)
