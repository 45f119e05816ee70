"""Refining: finer truth comes nearer from coarse photos alone, nothing gets worse, and a run resumes bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.captures import Views
from gaussianvae.cli import main
from gaussianvae.errors import GaussianVAEError
from gaussianvae.fitting import optics, refinement
from gaussianvae.fitting import refine as refining
from gaussianvae.fitting.holdout import Figure, hold_out, measure, select_views, unseen_by
from gaussianvae.fitting.optics import fit_operator
from gaussianvae.fitting.parameters import Parameters, activate, raw_parameters, to_splats
from gaussianvae.fitting.refine import Refined, fine_recipe, refine, settled
from gaussianvae.fitting.refinement import RATES, Check
from gaussianvae.fitting.sub_pixel import RefineConfig, grow, present, start_run, sub_pixel_loss, take_step
from gaussianvae.formats import find_cameras, read_splats, write_splats
from gaussianvae.rasterize import render
from gaussianvae.rasterize.losses import ssim_map
from gaussianvae.scene.cameras import Cameras, resize
from gaussianvae.scene.imaging import OPERATORS, Operator, area_weights, psnr, reduce_image, round_to_8_bits
from gaussianvae.scene.splats import Splats
from scenes import random_splats, ring_cameras
from tiny_capture import write_capture

SCALE = 2.5
CONFIG = RefineConfig(steps=160, budget=1.5, sh_degree=1, seed=3)
TENSORS = ("means", "scales", "quats", "opacities", "sh0", "shN")


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and growths as often as a short run needs them."""
    monkeypatch.setattr(refining, "EVERY", 20)


def truth() -> Splats:
    return random_splats(120, degree=0)


def photos(operator: Operator = "area", count: int = 10, size: int = 24) -> Views:
    """What a camera of few pixels sees of the truth."""
    cameras = ring_cameras(count, size)
    fine = resize(cameras, 1 / SCALE)
    shots = [render(truth(), fine, view, filter=PIXEL_FILTER).rgb for view in range(count)]
    images = [reduce_image(shot, (size, size), operator) for shot in shots]
    return Views(cameras, round_to_8_bits(torch.stack(images)), None, torch.zeros(3))


def perturbed() -> Splats:
    """A splat as a fit to few pixels might leave it: blurred and displaced."""
    splats, g = truth(), torch.Generator().manual_seed(1)
    return replace(
        splats,
        means=splats.means + 0.02 * torch.randn(splats.means.shape, generator=g),
        scales=1.3 * splats.scales,
        opacities=0.8 * splats.opacities,
    )


def fine_psnr(splats: Splats) -> float:
    """Against the truth, at the finer resolution, from directions that no photo was taken from."""
    ring = ring_cameras(20, 24)
    cameras = resize(ring.select(range(1, 20, 4)), 1 / SCALE)
    shots = [[render(s, cameras, v, filter=PIXEL_FILTER).rgb for v in range(5)] for s in (splats, truth())]
    return psnr(torch.stack(shots[0]), torch.stack(shots[1]).clamp(0, 1))


def same(a: Refined, b: Refined) -> bool:
    return all(torch.equal(getattr(a.splats, name), getattr(b.splats, name)) for name in TENSORS)


class _Stopped(Exception):
    pass


class Stopper:
    """A reporter that stops the run after some steps, as a kill would, and remembers what it was told."""

    def __init__(self, after: int = 0) -> None:
        self.left = after
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    @contextmanager
    def bar(self, label: str, total: int, start: int = 0) -> Iterator[Stopper]:
        yield self

    def advance(self, count: int = 1, **figures: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise _Stopped


@pytest.mark.parametrize("operator", ["area", "bicubic"])
def test_the_loss_is_that_of_the_reduced_fine_render(operator: Operator) -> None:
    views, splats = photos(operator), perturbed()
    # one axis reduced by another ratio than the other
    fine = replace(resize(views.cameras, 1 / SCALE), sizes=((60, 55),) * 10)
    out = activate(Parameters(raw_parameters(splats), RATES, 1.0).raw)
    loss = sub_pixel_loss(out, fine, 3, views.images[3], views.background, operator)
    low = reduce_image(render(splats, fine, 3, filter=PIXEL_FILTER).rgb, (24, 24), operator)
    expected = 0.8 * (low - views.images[3]).abs().mean() + 0.2 * (1 - ssim_map(low, views.images[3]).mean())
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)
    loss.backward()


def test_the_area_operator_is_the_integral_over_each_photo_pixel() -> None:
    """60 fine pixels under 24: the first photo pixel covers two and a half of them."""
    torch.testing.assert_close(area_weights(60, 24)[0, :4].float(), torch.tensor([0.4, 0.4, 0.2, 0.0]))


def test_coarse_photos_bring_a_splat_nearer_to_the_finer_truth() -> None:
    views, start = photos(), perturbed()
    result = refine(start, views, SCALE, CONFIG)
    assert fine_psnr(result.splats) > fine_psnr(start) + 2
    assert result.after.psnr > result.before.psnr + 2 and result.after.ssim > result.before.ssim
    assert result.checks[0].step == 0 and result.checks[-1].step == result.steps == CONFIG.steps
    assert result.splats.recipe.width == 60 and not result.splats.recipe.filter_3d
    assert same(result, refine(start, views, SCALE, CONFIG))
    assert not same(result, refine(start, views, SCALE, replace(CONFIG, seed=4)))


def test_bicubic_photos_are_refined_by_their_own_operator() -> None:
    views, start = photos("bicubic"), perturbed()
    result = refine(start, views, SCALE, replace(CONFIG, operator="bicubic", filter_3d=True))
    assert fine_psnr(result.splats) > fine_psnr(start) + 2


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_photos_tell_how_they_were_brought_down(operator: Operator) -> None:
    views = photos(operator, count=12)
    learned, held = hold_out(12, 0.25)
    parts = select_views(views, learned), select_views(views, held)
    start = replace(perturbed(), recipe=fine_recipe(perturbed().recipe, views.cameras, SCALE, None))
    assert fit_operator(start, *parts, SCALE, CONFIG, RATES) == operator


def test_a_fitted_operator_is_used_and_survives_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optics, "TRIAL", 40)
    monkeypatch.setattr(refining, "CHECKPOINT_SECONDS", 0.0)
    views = photos("softer")
    told = refine(perturbed(), views, SCALE, replace(CONFIG, operator="softer"))
    fitted = refine(perturbed(), views, SCALE, replace(CONFIG, operator="fit"))
    assert same(told, fitted)
    path = tmp_path / "run.safetensors"
    with pytest.raises(_Stopped):
        refine(perturbed(), views, SCALE, replace(CONFIG, operator="fit"), checkpoint=path, report=Stopper(200))
    again = refine(perturbed(), views, SCALE, replace(CONFIG, operator="fit"), checkpoint=path, resume=True)
    assert same(again, fitted)


@pytest.mark.parametrize("budget", [1.0, 1.15, 2.0])
def test_the_budget_is_never_exceeded(budget: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    grow = refining.grow

    def counted(run: refining.Run, fine: Cameras, most: int) -> bool:
        left = grow(run, fine, most)
        rows.append(len(run.parameters))
        return left

    monkeypatch.setattr(refining, "grow", counted)
    result = refine(perturbed(), photos(), SCALE, replace(CONFIG, budget=budget))
    # growth ends before 70 % of the steps: at step 100
    assert len(rows) == 5 and max([*rows, len(result.splats)]) <= int(budget * 120 + 1e-9)
    if budget == 2.0:
        assert max(rows) > 150
        assert int(result.edit.born.sum()) > 0 and len(result.edit) == len(result.splats)


def test_nothing_changes_beyond_a_region_and_the_budget_counts_its_rows(tmp_path: Path) -> None:
    start, box = perturbed(), (0.0, -9.0, -9.0, 9.0, 9.0, 9.0)
    within = start.means[:, 0] >= 0
    config = replace(CONFIG, budget=2.0, roi=box)
    result = refine(start, photos(), SCALE, config, checkpoint=tmp_path / "run.safetensors")
    parents = result.edit.parents
    outside = ~within[parents]
    assert int(outside.sum()) == int((~within).sum()) and not result.edit.born[outside].any()
    for name in TENSORS[:-1]:
        assert torch.equal(getattr(result.splats, name)[outside], getattr(start, name)[parents[outside]])
    assert not result.splats.shN[outside].any() and result.splats.sh_degree == CONFIG.sh_degree
    assert int(within.sum()) < int((~outside).sum()) <= 2 * int(within.sum())
    assert result.after.decibels > result.before.decibels + 0.3


def test_the_result_is_never_worse_than_its_start() -> None:
    views, start, report = photos(), perturbed(), Stopper()
    wild = replace(RATES, means=1e3, log_scales=3.0, logits=50.0, sh0=20.0)
    result = refine(start, views, SCALE, CONFIG, rates=wild, report=report)
    assert all(torch.equal(getattr(result.splats, name), getattr(start, name)) for name in TENSORS)
    assert result.after == result.before == result.checks[0].figure
    assert "the start is returned" in report.messages[-1]


def test_the_best_look_at_the_held_out_photos_is_kept() -> None:
    views = photos()
    result = refine(perturbed(), views, SCALE, CONFIG, rates=replace(RATES, final=1.0, means=3.0))
    _, held = hold_out(10, CONFIG.held_out)
    seen = select_views(views, held)
    again = measure(result.splats, seen, resize(seen.cameras, 1 / SCALE), "area")
    assert again == result.after
    assert result.after == max(result.checks, key=lambda check: check.decibels).figure


def test_what_is_judged_is_the_mean_of_the_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The i-th counts as i (i + 1) (i + 2), until each counts half; from single steps after rows changed."""
    monkeypatch.setattr(refinement, "AVERAGED", 2)
    views, config = photos(), replace(CONFIG, filter_3d=False)
    fine = resize(views.cameras, 1 / SCALE)
    run = start_run(perturbed(), fine, config, RATES, "area")
    states = []
    for count in range(1, 9):
        take_step(run, views, fine, config)
        states.append({name: value.detach().clone().double() for name, value in run.parameters.raw.items()})
        cubes = [i * (i + 1) * (i + 2) for i in range(1, min(count, 5) + 1)]
        weights = [0.5 ** max(count - 5, 0) * cube / sum(cubes) for cube in cubes]
        weights += [0.5 ** (count - i + 1) for i in range(6, count + 1)]
        mean = {name: sum(w * state[name] for w, state in zip(weights, states, strict=True)) for name in states[0]}
        expected = to_splats({name: value.float() for name, value in mean.items()}, run.start.recipe)
        shown = present(run, config)
        for name in TENSORS:
            torch.testing.assert_close(getattr(shown, name), getattr(expected, name), rtol=1e-4, atol=1e-5)
    assert grow(run, fine, 130)
    take_step(run, views, fine, config)
    torch.testing.assert_close(present(run, config).means, run.parameters.raw["means"].detach())


def test_only_a_start_that_saw_the_judges_is_judged_without_their_favor() -> None:
    views = photos()
    flattered = refine(perturbed(), views, SCALE, CONFIG).checks
    fair = refine(perturbed(), views, SCALE, CONFIG, held=hold_out(10, CONFIG.held_out)[1]).checks
    assert [check.figure for check in flattered] == [check.figure for check in fair]
    assert all(check.favor == 0 for check in [*fair, *flattered[1:]]) and flattered[0].favor >= 0
    assert flattered[0].decibels == flattered[0].figure.decibels - flattered[0].favor


def test_killed_three_times_it_ends_where_an_undisturbed_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views, start = photos(), perturbed()
    whole = refine(start, views, SCALE, CONFIG)
    monkeypatch.setattr(refining, "CHECKPOINT_SECONDS", 0.0)
    checkpoint = tmp_path / "out.refine.safetensors"
    for after in (17, 44, 63):
        with pytest.raises(_Stopped):
            refine(start, views, SCALE, CONFIG, checkpoint=checkpoint, resume=True, report=Stopper(after))
    resumed = refine(start, views, SCALE, CONFIG, checkpoint=checkpoint, resume=True)
    assert same(whole, resumed) and whole.checks == resumed.checks
    assert torch.equal(whole.edit.parents, resumed.edit.parents)
    assert whole.splats.recipe == resumed.splats.recipe
    assert not checkpoint.exists()


def test_a_checkpoint_is_neither_lost_nor_taken_for_another_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views, start = photos(), perturbed()
    monkeypatch.setattr(refining, "CHECKPOINT_SECONDS", 0.0)
    checkpoint = tmp_path / "out.refine.safetensors"
    with pytest.raises(_Stopped):
        refine(start, views, SCALE, CONFIG, checkpoint=checkpoint, report=Stopper(5))
    with pytest.raises(GaussianVAEError, match="--resume"):
        refine(start, views, SCALE, CONFIG, checkpoint=checkpoint)
    with pytest.raises(GaussianVAEError, match="another run"):
        refine(start, views, SCALE, replace(CONFIG, seed=9), checkpoint=checkpoint, resume=True)
    with pytest.raises(GaussianVAEError, match="another run"):
        refine(truth(), views, SCALE, CONFIG, checkpoint=checkpoint, resume=True)
    checkpoint.write_bytes(b"broken")
    with pytest.raises(GaussianVAEError, match="no readable checkpoint"):
        refine(start, views, SCALE, CONFIG, checkpoint=checkpoint, resume=True)


def test_the_clock_ends_a_run() -> None:
    result = refine(perturbed(), photos(), SCALE, replace(CONFIG, steps=10**6, minutes=0.005))
    assert 0 < result.steps < 10**4


def test_a_run_ends_when_nothing_more_is_gained() -> None:
    def checks(*decibels: float, growing: int = 2) -> list[Check]:
        return [Check(20 * i, Figure(db, 1 - 10 ** (-db / 10)), i < growing) for i, db in enumerate(decibels)]

    assert not settled(checks(20, 21, 22, 22))
    assert not settled(checks(20, 21, 20.9, 20.9, 21.03))
    assert settled(checks(20, 21, 20.9, 20.9, 21.01))
    assert not settled(checks(20, 21, 20.9, 20.9, 21.01, growing=3))
    assert not settled(checks(20, 20, 20, growing=0))
    # while rows are still split, patience lasts twice as long
    assert settled(checks(20, 21, *[20.9] * 6, growing=99))
    assert not settled(checks(20, 21, *[20.9] * 5, growing=99))


def test_photos_are_held_out_evenly() -> None:
    fitted, held = hold_out(100, 0.125)
    assert len(held) == 12 and sorted(fitted + held) == list(range(100))
    assert {b - a for a, b in itertools.pairwise(held)} == {9}
    assert hold_out(4, 0.01) == ([1, 2], [0, 3])


def test_photos_that_a_splat_was_not_fitted_to_are_known_by_their_names() -> None:
    views = replace(ring_cameras(8), names=tuple(f"photo_{view}" for view in range(8)))
    assert unseen_by(views.select([0, 1, 3, 4, 6]), views) == [2, 5, 7]
    assert unseen_by(views.select([5, 6, 1]), views) == [0, 2, 3, 4, 7]
    for chosen in (range(8), range(7), [3]):  # none is new, one is, one is left to learn from
        assert unseen_by(views.select(list(chosen)), views) is None
    assert unseen_by(None, views) is None and unseen_by(replace(views, names=()), views) is None


def test_named_judges_are_the_ones_that_judge() -> None:
    views = photos()
    result = refine(perturbed(), views, SCALE, CONFIG, held=[1, 2, 7])
    seen = select_views(views, [1, 2, 7])
    assert measure(result.splats, seen, resize(seen.cameras, 1 / SCALE), "area") == result.after


def test_photos_held_out_of_the_fit_judge_its_refinement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_capture(tmp_path / "toy", size=64, train=12, test=1)
    low, out = tmp_path / "LR.ply", tmp_path / "HR.ply"
    argv = ["reconstruct", str(tmp_path / "toy"), "-o", str(low), "--factor", "4", "--held-out", "0.25"]
    assert main([*argv, "--steps", "60", "--max-gaussians", "200"]) == 0
    known = find_cameras(low)
    assert known is not None and len(known) == 9
    assert main(["refine", str(low), str(tmp_path / "toy"), "-o", str(out), "--steps", "40", "--start", "anchor"]) == 0
    assert "3 photos that the splat wasn't fitted to" in capsys.readouterr().err
    assert main([*argv[:-1], "0.7"]) == 2
    assert "0 to 0.5" in capsys.readouterr().err


def test_photos_of_another_scene_are_refused_with_their_psnr() -> None:
    views = photos()
    bright = replace(views, images=1 - views.images)
    with pytest.raises(GaussianVAEError, match=r"median PSNR \d+\.\d dB over 10 views"):
        refine(perturbed(), bright, SCALE, CONFIG)


@pytest.mark.parametrize(
    "bad",
    [{"budget": 0.9}, {"steps": 0}, {"minutes": 0.0}, {"sh_degree": 4}, {"held_out": 0.0}, {"held_out": 0.6}],
)
def test_configs_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(GaussianVAEError):
        RefineConfig(**bad)  # type: ignore[arg-type]


def test_inputs_out_of_range_are_refused() -> None:
    views, splats = photos(), perturbed()
    for scale in (0.5, 9.0, float("nan")):
        with pytest.raises(GaussianVAEError, match="1 to 8"):
            refine(splats, views, scale, CONFIG)
    with pytest.raises(GaussianVAEError, match="no Gaussians"):
        refine(splats.select(torch.arange(0)), views, SCALE, CONFIG)
    with pytest.raises(GaussianVAEError, match="at least 4"):
        refine(splats, select_views(views, [0, 1, 2]), SCALE, CONFIG)
    with pytest.raises(GaussianVAEError, match="budget"):
        refine(splats.select(torch.arange(50)), views, SCALE, CONFIG, start=splats)


@pytest.mark.parametrize("start", ["vae", "anchor", "as-is"])
def test_the_command_writes_a_splat_and_its_cameras_and_no_more(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = write_capture(tmp_path / "toy", size=64, train=12, test=1)
    # wrong in a way that no start repairs, so that refining has something to gain
    write_splats(tmp_path / "LR.ply", replace(given, sh0=0.2 * given.sh0))
    out = tmp_path / "out" / "HR.ply"
    argv = ["refine", str(tmp_path / "LR.ply"), str(tmp_path / "toy"), "-o", str(out), "--start", start, "--resume"]
    assert main([*argv, "--scale", "4", "--steps", "60", "--budget", "1.6"]) == 0
    assert "held-out photos" in capsys.readouterr().err
    result, cameras = read_splats(out), find_cameras(out)
    assert cameras is not None and len(cameras) == 12 and cameras.sizes[0] == (64, 64)
    recipe = result.recipe
    assert (recipe.mode, recipe.eps2d, recipe.width, recipe.factor) == ("mip", 0.1, 64, 1.0)
    assert len(result) <= 320 and result.sh_degree == 3
    assert set(result.extras["provenance"].tolist()) <= {0.0, 1.0, 2.0}
    assert sorted(path.name for path in out.parent.iterdir()) == ["HR.cameras.json", "HR.ply"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--scale", "9"], "1 to 8"),
        (["--factor", "0.5"], "at least 1"),
        (["--budget", "0.5"], "at least 1"),
        (["--start", "best"], "best"),
        (["--background", "grey"], "black, white"),
    ],
)
def test_requests_out_of_range_are_one_line(
    options: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_splats(tmp_path / "LR.ply", random_splats(5))
    argv = ["refine", str(tmp_path / "LR.ply"), str(tmp_path / "toy"), "-o", str(tmp_path / "out.ply")]
    assert main([*argv, *options]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and complaint in err, err
