"""Splits, choices and lineages against independent truth."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussianvae.errors import GaussianVAEError
from gaussianvae.growth.choice import children_allowed, choose
from gaussianvae.growth.lineage import Recorder, read_lineage, write_lineage
from gaussianvae.growth.sensitivity import SCORES, curvature, score
from gaussianvae.scene.cameras import footprints
from gaussianvae.scene.edits import append_children, keep, reorder
from gaussianvae.scene.splats import covariances
from gaussianvae.scene.split import halve, split_rows
from scenes import random_splats, ring_cameras


def test_halves_keep_the_second_moment_and_the_peak() -> None:
    splats = random_splats(50).to(dtype=torch.float64)
    halves = halve(splats.quats, splats.scales, splats.opacities)
    sigma = covariances(splats.quats, halves.scales)
    spread = halves.offsets[:, :, None] * halves.offsets[:, None, :]
    torch.testing.assert_close(sigma + spread, covariances(splats.quats, splats.scales))
    inverse = torch.linalg.inv(sigma)
    falloff = torch.exp(-0.5 * torch.einsum("nx,nxy,ny->n", halves.offsets, inverse, halves.offsets))
    one = halves.opacities * falloff
    torch.testing.assert_close(1 - (1 - one) ** 2, splats.opacities)


def test_split_rows_keeps_places_and_appends() -> None:
    splats = random_splats(10)
    fine, edit = split_rows(splats, torch.tensor([7, 2]))
    assert edit.parents.tolist() == [*range(10), 7, 2]
    assert edit.born.tolist() == [False] * 10 + [True] * 2
    untouched = [0, 1, 3, 4, 5, 6, 8, 9]
    assert torch.equal(fine.means[untouched], splats.means[untouched])
    torch.testing.assert_close(fine.means[7] + fine.means[10], 2 * splats.means[7])


@given(st.integers(1, 300), st.floats(1, 2))
def test_budget_is_exact(count: int, budget: float) -> None:
    extra = children_allowed(count, budget)
    chosen = choose(torch.rand(count), extra)
    assert count + int(chosen.sum()) == int(budget * count + 1e-9)
    assert children_allowed(100, 1.15) == 15


@pytest.mark.parametrize("budget", [0.5, 2.5, float("nan")])
def test_budgets_out_of_range_are_refused(budget: float) -> None:
    with pytest.raises(GaussianVAEError, match="budget"):
        children_allowed(10, budget)


def test_choice_takes_the_largest_and_draws_in_proportion() -> None:
    scores = torch.tensor([0.0, 3.0, 1.0, 2.0])
    assert choose(scores, 2).tolist() == [False, True, False, True]
    first = torch.stack([choose(scores, 1, tau=1.0, seed=s) for s in range(2000)]).float().mean(0)
    # the first of a Gumbel top-k is a draw with p = score / sum
    torch.testing.assert_close(first, scores / scores.sum(), atol=0.04, rtol=0)


EDITS = st.lists(
    st.tuples(st.sampled_from(["prune", "split", "permute", "record"]), st.integers(0, 1000)), min_size=1, max_size=8
)


@settings(max_examples=40)
@given(st.integers(1, 10), EDITS)
def test_recorder_never_names_a_wrong_parent(count: int, edits: list[tuple[str, int]]) -> None:
    """A slow recorder copies every ancestor's whole state along with every row; both must agree at the end."""
    splats = random_splats(count, degree=0)
    recorder = Recorder(count)
    copies: list[list[torch.Tensor]] = [[] for _ in range(count)]
    for kind, seed in edits:
        generator = torch.Generator().manual_seed(seed)
        n = len(splats)
        if kind == "record":
            recorder.record(float(seed + 1), splats)
            copies = [[*history, splats.means[row]] for row, history in enumerate(copies)]
            continue
        if kind == "prune":
            edit = keep(torch.rand(n, generator=generator) < 0.6)
        elif kind == "split":
            edit = append_children(torch.nonzero(torch.rand(n, generator=generator) < 0.5)[:, 0], n)
        else:
            edit = reorder(torch.randperm(n, generator=generator), n)
        recorder.edit(edit)
        copies = [copies[parent] for parent in edit.parents.tolist()]
        splats = splats.select(edit.parents)
        moved = splats.means + torch.randn(len(splats), 3, generator=generator)
        splats = type(splats)(moved, splats.quats, splats.scales, splats.opacities, splats.sh0, splats.shN)
    for index, level in enumerate(recorder.lineage.levels):
        expected = [history[index] for history in copies]
        inherited = level.inherited().means
        assert len(inherited) == len(expected)
        assert all(torch.equal(a, b) for a, b in zip(inherited, expected, strict=True))


def test_lineages_survive_a_file(tmp_path: Path) -> None:
    splats = random_splats(12)
    recorder = Recorder(12)
    recorder.record(2.0, splats)
    edit = append_children(torch.tensor([3, 4]), 12)
    recorder.edit(edit)
    recorder.record(1.0, splats.select(edit.parents))
    write_lineage(tmp_path / "a.safetensors", recorder.lineage)
    back = read_lineage(tmp_path / "a.safetensors")
    assert [level.factor for level in back.levels] == [2.0, 1.0]
    assert torch.equal(back.levels[0].ancestors, recorder.lineage.levels[0].ancestors)
    assert torch.equal(back.levels[1].state.shN, recorder.lineage.levels[1].state.shN)


@pytest.mark.parametrize("content", [b"", b"not a lineage", b"\xff" * 64])
def test_broken_lineages_are_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(GaussianVAEError, match="lineage"):
        read_lineage(path)


def test_every_score_has_one_finite_value_a_row() -> None:
    splats, cameras = random_splats(40), ring_cameras(3)
    phi = footprints(cameras, splats.means)
    for name in SCORES:
        values = score(name, splats, cameras, phi, 2.0)
        assert values.shape == (40,) and bool(values.isfinite().all()) and bool((values >= 0).all()), name
    with pytest.raises(GaussianVAEError, match="no score"):
        score("nonsense", splats, cameras, phi, 2.0)


def test_curvature_is_positive_semidefinite_and_blind_to_what_no_view_sees() -> None:
    splats, cameras = random_splats(30), ring_cameras(4)
    far = splats.means.clone()
    far[0] = torch.tensor([0.0, 0.0, 100.0])
    splats = type(splats)(far, splats.quats, splats.scales, splats.opacities, splats.sh0, splats.shN, splats.recipe)
    known = curvature(splats, cameras)
    assert float(torch.linalg.eigvalsh(known.block.double()).min()) > -1e-3 * float(known.block.abs().max())
    assert float(known.block[0].abs().max()) == 0 and float(known.speedy[0]) == 0
