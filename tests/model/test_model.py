"""The network's laws: zero is the anchor or its split, budgets are exact, the scene's frame doesn't matter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussianvae.antialias import anchor
from gaussianvae.errors import GaussianVAEError
from gaussianvae.growth.lineage import Level, Lineage
from gaussianvae.growth.sensitivity import curvature
from gaussianvae.model.residuals import Residuals, insert
from gaussianvae.model.tokens import Tokens, descendant_summary, make_tokens, truncated
from gaussianvae.model.vae import LineageVAE, ModelConfig, Normal, predict
from gaussianvae.model.weights import Weights, read_weights, untrained, write_weights
from gaussianvae.scene.cameras import Cameras, footprints
from gaussianvae.scene.rotations import quats_to_rotmats, random_quats
from gaussianvae.scene.splats import Splats, covariances, transform
from gaussianvae.scene.split import split_rows
from scenes import random_splats, ring_cameras


def tokens_of(splats: Splats, cameras: Cameras, lineage: Lineage | None = None) -> tuple[Tokens, Splats]:
    phi = footprints(cameras, splats.means)
    start = anchor(splats, cameras, 4.0)
    return make_tokens(splats, start, phi, 4.0, lineage=lineage, known=curvature(splats, cameras).determinacy()), start


def random_residuals(count: int, seed: int = 0) -> Residuals:
    g = torch.Generator().manual_seed(seed)
    return Residuals(0.3 * torch.randn(count, 3, 10, generator=g), 0.1 * torch.randn(count, 3, 4, generator=g))


def test_zero_residuals_are_exactly_the_anchor_or_its_split() -> None:
    splats = random_splats(30)
    tokens, start = tokens_of(splats, ring_cameras(4))
    zero = Residuals(torch.zeros(30, 3, 10), torch.zeros(30, 3, 4))
    chosen = torch.arange(30) % 3 == 0
    fine, edit = insert(start, zero, tokens.frames, tokens.order, chosen)
    single = torch.nonzero(~chosen)[:, 0]
    for name in ("means", "scales", "opacities", "sh0", "shN"):
        assert torch.equal(getattr(fine, name)[single], getattr(start, name)[single]), name
    torch.testing.assert_close(fine.quats[single], start.quats[single])
    rows = torch.nonzero(chosen)[:, 0]
    split, split_edit = split_rows(start, rows)
    assert torch.equal(edit.parents, split_edit.parents) and torch.equal(edit.born, split_edit.born)
    # which half is which is free: compare the pairs as sets
    low, high = torch.minimum(fine.means[rows], fine.means[30:]), torch.maximum(fine.means[rows], fine.means[30:])
    torch.testing.assert_close(low, torch.minimum(split.means[rows], split.means[30:]))
    torch.testing.assert_close(high, torch.maximum(split.means[rows], split.means[30:]))
    assert torch.equal(fine.scales[30:], split.scales[30:]) and torch.equal(fine.opacities[30:], split.opacities[30:])


def test_an_untrained_network_predicts_zero() -> None:
    tokens, _ = tokens_of(random_splats(20), ring_cameras(3))
    residuals = predict(untrained(ModelConfig(width=16, latent=4), seed=0), tokens)
    assert float(residuals.geometry.abs().max()) == 0 and float(residuals.appearance.abs().max()) == 0


def noisy_model(latent: int = 4) -> LineageVAE:
    torch.manual_seed(1)
    model = LineageVAE(ModelConfig(width=16, latent=latent))
    for head in (model.decoder.geometry, model.decoder.appearance):
        torch.nn.init.normal_(head.out.weight, std=0.3)
    return model.eval()


def test_moving_turning_and_scaling_the_world_moves_the_result_alike() -> None:
    count = 3000
    splats, cameras = random_splats(count), ring_cameras(4)
    rotation = quats_to_rotmats(random_quats(1, torch.Generator().manual_seed(5)))[0]
    shift, scale = torch.tensor([0.3, -2.0, 0.7]), 1.7
    moved = transform(splats, rotation, shift, scale)
    # x' = s R x + t: the camera that sees the same picture, up to the unit of depth
    viewmats = cameras.viewmats.clone()
    viewmats[:, :3, :3] = cameras.viewmats[:, :3, :3] @ rotation.T
    viewmats[:, :3, 3] = scale * cameras.viewmats[:, :3, 3] - (viewmats[:, :3, :3] @ shift)
    turned = Cameras(viewmats, cameras.Ks, cameras.sizes)
    model = noisy_model()
    results = []
    for s, c in ((splats, cameras), (moved, turned)):
        tokens, start = tokens_of(s, c)
        results.append(insert(start, predict(model, tokens), tokens.frames, tokens.order, torch.ones(count) > 0)[0])
    expected = transform(results[0], rotation, shift, scale)
    # what is left are near ties: of neighbors, of axes, of the sides of a slope
    near = (results[1].means - expected.means).norm(dim=1) < 1e-4
    a, b = covariances(results[1].quats, results[1].scales), covariances(expected.quats, expected.scales)
    near &= (a - b).flatten(1).norm(dim=1) < 1e-3 * b.flatten(1).norm(dim=1)
    near &= (results[1].opacities - expected.opacities).abs() < 1e-4
    assert float(near.float().mean()) >= 0.999


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(0, 3))
def test_tokens_are_finite_for_any_count_and_lineage(count: int, ancestors: int) -> None:
    splats = random_splats(count, degree=2)
    levels = tuple(Level(2.0**k, splats, torch.arange(count).flip(0)) for k in range(ancestors, 0, -1))
    tokens, start = tokens_of(splats, ring_cameras(2), Lineage(levels))
    for part in (tokens.own, tokens.ancestors, tokens.neighbors):
        assert bool(part.isfinite().all())
    assert tokens.ancestors.shape == (count, ancestors, 14)
    summary = descendant_summary(start, tokens, splats, torch.arange(count))
    assert summary.shape == (count, 16) and bool(summary.isfinite().all())
    fine, _ = insert(start, predict(noisy_model(), tokens), tokens.frames, tokens.order, torch.zeros(count) > 0)
    assert bool((fine.scales > 0).all()) and bool(((fine.opacities >= 0) & (fine.opacities <= 1)).all())


def test_truncation_hides_ancestors_and_determinacy_as_if_they_had_never_been_known() -> None:
    splats, cameras = random_splats(10), ring_cameras(2)
    phi = footprints(cameras, splats.means)
    start = anchor(splats, cameras, 4.0)
    lineage = Lineage(tuple(Level(f, splats, torch.arange(10).flip(0)) for f in (4.0, 2.0)))
    whole = make_tokens(splats, start, phi, 4.0, lineage=lineage, known=curvature(splats, cameras).determinacy())
    bare = make_tokens(splats, start, phi, 4.0)
    hidden = truncated(whole, 0, keep_curvature=False)
    assert torch.equal(hidden.own, bare.own) and hidden.ancestors.shape == bare.ancestors.shape
    one = make_tokens(splats, start, phi, 4.0, lineage=lineage.last(1))
    assert torch.equal(truncated(whole, 1).ancestors, one.ancestors)
    own_level = Lineage((Level(1.0, splats, torch.arange(10)),))
    assert torch.equal(make_tokens(splats, start, phi, 4.0, lineage=own_level).own, bare.own)


def test_divergence_agrees_with_torch() -> None:
    q, p = (Normal(torch.randn(5, 3), torch.randn(5, 3)) for _ in range(2))

    def normal(n: Normal) -> torch.distributions.Normal:
        return torch.distributions.Normal(n.mean, (0.5 * n.log_variance).exp())

    expected = torch.distributions.kl_divergence(normal(q), normal(p))
    torch.testing.assert_close(q.divergence(p), expected)


def test_draws_repeat_for_a_seed_and_differ_between_seeds() -> None:
    tokens, _ = tokens_of(random_splats(25), ring_cameras(2))
    model = noisy_model()
    first, again, other = (predict(model, tokens, torch.Generator().manual_seed(s)).geometry for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_chunks_do_not_change_the_prediction() -> None:
    tokens, _ = tokens_of(random_splats(25), ring_cameras(2))
    model = noisy_model()
    torch.testing.assert_close(predict(model, tokens, chunk=7).geometry, predict(model, tokens).geometry)


def test_weights_survive_a_file(tmp_path: Path) -> None:
    model = noisy_model()
    path = tmp_path / "w.safetensors"
    write_weights(path, Weights(model, {"mip": 0.75}, {"steps": 3}))
    back = read_weights(path)
    assert back.steps == {"mip": 0.75} and back.notes == {"steps": 3} and back.model.config == model.config
    tokens, _ = tokens_of(random_splats(9), ring_cameras(2))
    assert torch.equal(predict(back.model, tokens).geometry, predict(model, tokens).geometry)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_broken_weights_are_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(GaussianVAEError, match="weights"):
        read_weights(path)
