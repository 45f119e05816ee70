"""The main job's laws: budgets, regions, scales, provenance, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussianvae.antialias import PIXEL_FILTER, anchor, bake, closed_forms, kept_share
from gaussianvae.enhance import INVENTED, EnhanceConfig, enhance, trust
from gaussianvae.enhance import block as blocks
from gaussianvae.errors import GaussianVAEError
from gaussianvae.growth.lineage import Level, Lineage
from gaussianvae.rasterize import Filter, render
from gaussianvae.scene.cameras import footprints, resize
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import Splats
from scenes import random_splats, ring_cameras, some_weights


@pytest.fixture(autouse=True)
def _believing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Untrained weights predict nonsense; most laws are about what is made of it."""
    monkeypatch.setattr(blocks, "SHORTFALL", math.inf)


@settings(max_examples=15)
@given(
    st.integers(1, 40),
    st.floats(1, 2),
    st.sampled_from([1.0, 1.3, 2.0, 3.7, 8.0]),
    st.sampled_from(["vae", "split"]),
    st.sampled_from(["mip", "classic"]),
)
def test_the_budget_is_exact_and_values_are_sane(
    count: int, budget: float, scale: float, method: str, mode: str
) -> None:
    splats = random_splats(count, recipe=Recipe(mode=mode, eps2d=0.3))  # type: ignore[arg-type]
    config = EnhanceConfig(budget=budget, method=method, score="size", polish=3)  # type: ignore[arg-type]
    result = enhance(splats, scale, config, cameras=ring_cameras(2), weights=some_weights())
    fine = result.splats
    assert len(fine) == (int(budget * count + 1e-9) if scale > 1 else count)
    assert int((fine.extras["provenance"] == INVENTED).sum()) == len(fine) - count
    assert bool((fine.scales > 0).all()) and bool(((fine.opacities >= 0) & (fine.opacities <= 1)).all())
    assert all(bool(getattr(fine, name).isfinite().all()) for name in ("means", "quats", "scales", "sh0", "shN"))
    assert result.edit.num_before == count and int(result.edit.born.sum()) == len(fine) - count


def test_a_region_leaves_the_rest_at_its_anchor() -> None:
    splats, cameras = random_splats(60), ring_cameras(3)
    roi = (-1.0, -1.0, 0.0, 1.0, 1.0, 1.0)
    result = enhance(splats, 4.0, EnhanceConfig(roi=roi, score="size"), cameras=cameras, weights=some_weights())
    inside = splats.means[:, 2] >= 0
    count = int(inside.sum())
    assert 0 < count < 60 and len(result.splats) == 60 - count + int(1.5 * count)
    start = anchor(splats, cameras, 4.0)
    outside = torch.nonzero(~inside)[:, 0]
    assert torch.equal(result.edit.parents[: len(outside)], outside)
    assert torch.equal(result.splats.means[: len(outside)], start.means[outside])
    assert bool(inside[result.edit.parents[len(outside) :]].all())


def test_predictions_that_contradict_the_splat_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    splats, cameras = random_splats(80), ring_cameras(4)
    config = EnhanceConfig(budget=1.0, polish=0)
    start = anchor(splats, cameras, 4.0)
    wild, gentle = some_weights(1.0), some_weights(0.01)
    believed, sound = (enhance(splats, 4.0, config, cameras=cameras, weights=w).splats for w in (wild, gentle))
    monkeypatch.setattr(blocks, "SHORTFALL", 5.0)
    unasked = enhance(splats, 4.0, config, cameras=cameras, weights=wild).splats
    assert torch.equal(unasked.scales, believed.scales)  # nothing in it is large
    monkeypatch.setattr(blocks, "LARGE", 0.1)
    rejected, taken = (enhance(splats, 4.0, config, cameras=cameras, weights=w).splats for w in (wild, gentle))
    assert not torch.equal(believed.scales, start.scales) and not torch.equal(sound.scales, start.scales)
    torch.testing.assert_close(rejected.scales, start.scales)
    assert torch.equal(taken.scales, sound.scales)


@pytest.mark.parametrize(
    ("limit", "expected"), [(2.0, [1.0, 1.0, 0.5, 0.0, 0.0]), (math.inf, [1.0] * 5), (0.0, [0.0] * 5)]
)
def test_residuals_fade_from_a_size_to_twice_that(limit: float, expected: list[float]) -> None:
    longest = torch.tensor([0.3, 2.0, 2 * math.sqrt(2), 4.0, 50.0]).log()
    torch.testing.assert_close(trust(longest, limit), torch.tensor(expected))


def test_a_lineage_follows_into_a_region() -> None:
    splats = random_splats(30)
    lineage = Lineage((Level(2.0, splats, torch.arange(30)),))
    roi = (-1.0, -1.0, -1.0, 1.0, 1.0, 0.2)
    args = {"cameras": ring_cameras(2), "weights": some_weights()}
    with_history = enhance(splats, 4.0, EnhanceConfig(roi=roi, score="size"), lineage=lineage, **args)  # type: ignore[arg-type]
    bare = enhance(splats, 4.0, EnhanceConfig(roi=roi, score="size"), **args)  # type: ignore[arg-type]
    assert len(with_history.splats) == len(bare.splats)
    assert not torch.equal(with_history.splats.means, bare.splats.means)


@pytest.mark.parametrize(
    ("config", "scale", "steps"),
    [
        (EnhanceConfig(), 4.0, 100),
        (EnhanceConfig(), 1.25, 50),
        (EnhanceConfig(), 1.0, 0),
        (EnhanceConfig(polish=7), 2.0, 7),
        (EnhanceConfig(method="split"), 4.0, 0),
        (EnhanceConfig(method="anchor", polish=8), 4.0, 8),
    ],
)
def test_what_comes_out_is_polished_after_the_model_and_not_after_a_closed_form(
    config: EnhanceConfig, scale: float, steps: int
) -> None:
    assert config.polish_steps(scale) == steps


def test_negative_steps_are_refused() -> None:
    with pytest.raises(GaussianVAEError, match="-1 steps of polish"):
        EnhanceConfig(polish=-1)


def test_the_mean_repeats_and_draws_differ_by_seed() -> None:
    splats, weights = random_splats(40), some_weights()

    def run(config: EnhanceConfig) -> torch.Tensor:
        return enhance(splats, 4.0, config, cameras=ring_cameras(2), weights=weights).splats.means

    mean, again = run(EnhanceConfig(score="size")), run(EnhanceConfig(score="size"))
    draws = [run(EnhanceConfig(score="size", samples=1, seed=seed)) for seed in (1, 1, 2)]
    assert torch.equal(mean, again) and torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2]) and not torch.equal(draws[0], mean)


@pytest.mark.parametrize(
    ("scale", "config"),
    [
        (0.5, EnhanceConfig()),
        (9.0, EnhanceConfig()),
        (float("nan"), EnhanceConfig()),
        (4.0, EnhanceConfig(budget=3)),
        (4.0, EnhanceConfig(score="nonsense")),
        (4.0, EnhanceConfig(roi=(0, 0, 0, -1, 1, 1))),
        (4.0, EnhanceConfig(roi=(50, 50, 50, 51, 51, 51))),
    ],
)
def test_what_is_out_of_range_is_refused(scale: float, config: EnhanceConfig) -> None:
    with pytest.raises(GaussianVAEError):
        enhance(random_splats(10), scale, config, cameras=ring_cameras(2), weights=some_weights())


def test_a_lineage_of_another_splat_is_refused() -> None:
    lineage = Lineage((Level(2.0, random_splats(5), torch.arange(5)),))
    with pytest.raises(GaussianVAEError, match="speaks of 5"):
        enhance(random_splats(10), 4.0, cameras=ring_cameras(2), lineage=lineage, weights=some_weights())


def test_nothing_in_nothing_out() -> None:
    empty = random_splats(0)
    assert len(enhance(empty, 4.0, cameras=ring_cameras(2), weights=some_weights()).splats) == 0


def test_a_baked_classic_splat_shows_at_hr_what_it_showed_at_lr() -> None:
    """One Gaussian, seen by the cameras at its own footprint: the LR filter in the world equals the baked one."""
    cameras = ring_cameras(4, 40)
    splats = Splats(
        torch.zeros(1, 3), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.02), torch.tensor([0.8]),
        torch.ones(1, 1, 3), torch.zeros(1, 0, 3), Recipe(mode="classic", eps2d=0.3),
    )  # fmt: skip
    phi = footprints(cameras, splats.means)
    wide = bake(splats, cameras, phi, 0.3, keep_opacity=True)
    fine = resize(cameras, 1 / 4)
    by_filter = render(splats, fine, 0, filter=Filter("classic", 0.3 * 16)).rgb
    by_baking = render(wide, fine, 0, filter=Filter("classic", 0.0)).rgb
    torch.testing.assert_close(by_baking, by_filter, atol=2e-3, rtol=0)


def test_the_anchor_tends_to_the_splat_as_the_scale_tends_to_one() -> None:
    splats = random_splats(20, recipe=Recipe(mode="classic", eps2d=0.1))
    cameras = ring_cameras(2)
    assert anchor(splats, cameras, 1.0) is splats


def test_compensated_baking_keeps_the_mass_of_a_projection() -> None:
    """Opacity times projected area is what a far viewer sees of a small Gaussian; mip baking must keep it."""
    splats = replace(random_splats(30), recipe=Recipe(mode="mip", eps2d=0.3))
    cameras = ring_cameras(6, 64, 20.0)
    phi = footprints(cameras, splats.means)
    wide = bake(splats, cameras, phi, 0.3, keep_opacity=False)
    shots = [render(s, cameras, 0, filter=PIXEL_FILTER).alpha.sum() for s in (splats, wide)]
    assert float((shots[1] / shots[0] - 1).abs()) < 0.1


@pytest.mark.parametrize(
    ("recipe", "share"),
    [
        (Recipe(mode="classic", eps2d=0.3), 0.75),
        (Recipe(), 0.75),
        (Recipe(mode="mip", eps2d=0.1), 0.1),
        (Recipe(mode="mip", eps2d=0.3), 0.2),
    ],
)
def test_how_much_of_the_filter_is_kept(recipe: Recipe, share: float) -> None:
    assert kept_share(recipe) == share
    cameras = ring_cameras(2)
    splats = random_splats(8, recipe=recipe)
    forms = closed_forms(splats, cameras, footprints(cameras, splats.means), 4.0)
    assert {"as_is", "classic_view", "scale_adaptive", "mip_kept", "anchor", "split"} <= set(forms)
    assert ("mip" in forms) == (recipe.mode == "mip")
    assert len(forms["split"].splats) == 16


@pytest.mark.parametrize("config", [EnhanceConfig(polish=0), EnhanceConfig(roi=(-1, -1, -1, 1, 1, 0), polish=0)])
def test_everything_is_made_where_the_splat_is(config: EnhanceConfig) -> None:
    """With a default device that holds no values, whatever isn't made on the splat's own device fails."""
    splats = random_splats(60, recipe=Recipe("mip", 0.1, background=(0.0, 0.0, 0.0)))
    args = {"cameras": ring_cameras(4), "weights": some_weights()}
    expected = enhance(splats, 4.0, config, **args)  # type: ignore[arg-type]
    with torch.device("meta"):
        result = enhance(splats, 4.0, config, **args)  # type: ignore[arg-type]
    assert torch.equal(result.splats.means, expected.splats.means)
