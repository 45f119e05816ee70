"""SPZ files against bytes made and decoded by hand, quantization as it is allowed, and a real scene in two formats."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from peers import angles
from spzfiles import decode_row, file_of, gzipped, random_parts, zstd

from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats import NO_OPTIONS, FileOptions, read_splats, write_splats
from gaussianvae.formats.spz import losses
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import STATE, Splats, covariances, transform
from scenes import Told, random_splats

RUB = FileOptions(spz_frame="rub")
TURN = torch.diag(torch.tensor([1.0, -1.0, -1.0]))

WORST_ANGLE = math.degrees(2 * 2 * math.sqrt(3) * 0.5 * math.sqrt(0.5) / 511) + 0.001
"""Degrees: three components are off by half a step each; where all four are alike, the largest follows and doubles the
length of the error, and a rotation turns by twice what its quaternion does."""


def read_bytes(data: bytes, options: FileOptions = NO_OPTIONS, report: Told | None = None) -> Splats:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.spz"
        path.write_bytes(data)
        return read_splats(path, options, report) if report else read_splats(path, options)  # type: ignore[arg-type]


def written(splats: Splats, options: FileOptions = NO_OPTIONS) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_splats(Path(folder) / "a.spz", splats, options=options)
        return (Path(folder) / "a.spz").read_bytes()


@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
def test_every_bit_is_understood(version: int, degree: int) -> None:
    bits = {1: 12, 2: 12, 3: 9, 4: 20}[version]
    parts = random_parts(version, 200, degree)
    splats = read_bytes(file_of(version, 200, degree, parts, bits))
    assert splats.sh_degree == min(degree, 3) and splats.stored is None
    truth = np.array([decode_row(version, degree, bits, parts, row) for row in range(200)])
    read = torch.cat([splats.means, splats.quats, splats.scales, splats.opacities[:, None], splats.sh.flatten(1)], 1)
    np.testing.assert_allclose(read.numpy(), truth, rtol=1e-6, atol=1e-6)


def test_bytes_written_by_hand() -> None:
    """One Gaussian at (1.5, -2, 1/4096), turned by 90 degrees about z, opaque, with one harmonic of each sign."""
    position = bytes([0x00, 0x18, 0x00, 0x00, 0xE0, 0xFF, 0x01, 0x00, 0x00])
    # sqrt(1/2) in z and w: z is the first of the two, index 2, and w is 511 steps
    rotation = (2 << 30 | 511).to_bytes(4, "little")
    body = position + b"\xff" + b"\x80\x00\xff" + bytes([160, 144, 176]) + rotation
    body += bytes([128, 0, 255, 192, 64, 128, 128, 128, 128])
    splats = read_bytes(gzipped(3, 1, 1, body))
    assert splats.means.tolist() == [[1.5, -2.0, 1 / 4096]]
    torch.testing.assert_close(splats.quats, torch.tensor([[0.5, 0, 0, 0.5]]).sqrt())
    torch.testing.assert_close(splats.scales.log(), torch.tensor([[0.0, -1.0, 1.0]]), atol=1e-6, rtol=0)
    assert splats.opacities.tolist() == [1.0]
    torch.testing.assert_close(splats.sh0[0, 0], torch.tensor([0.5 / 255, -0.5, 0.5]) / 0.15)
    assert splats.shN[0].tolist() == [[0.0, -1.0, 127 / 128], [0.5, -0.5, 0.0], [0.0, 0.0, 0.0]]
    # and written again, they are the same bytes
    again = read_bytes(written(splats))
    for name in STATE:
        assert torch.equal(getattr(again, name), getattr(splats, name)), name


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 2, 3]), st.sampled_from([3, 4]), st.floats(1e-3, 200))
def test_round_trips_are_off_by_half_a_step_at_most(seed: int, degree: int, version: int, size: float) -> None:
    """Random values, some beyond what a byte holds: those come back as the nearest that it does."""
    g = torch.Generator().manual_seed(seed)
    splats = random_splats(40, degree, seed)
    splats = replace(
        splats,
        means=splats.means * size,
        scales=torch.exp(torch.rand(40, 3, generator=g) * 18 - 11),
        opacities=torch.rand(40, generator=g).round(decimals=int(torch.randint(0, 4, (), generator=g))),
        sh0=torch.randn(40, 1, 3, generator=g) * 2,
        shN=splats.shN * 5,
    )
    data = written(splats, FileOptions(spz_version=version))  # type: ignore[arg-type]
    assert data[:4] == b"NGSP" if version == 4 else data[:2] == b"\x1f\x8b"
    back = read_bytes(data)

    def check(name: str, most: float, truth: torch.Tensor, value: torch.Tensor) -> None:
        assert float((truth.double() - value.double()).abs().max()) <= most * (1 + 1e-5) + 1e-7, name

    check("means", 2.0**-13 if size < 3 else 2.0**-13 + 1e-7 * size, splats.means, back.means)
    check("opacities", 0.5 / 255, splats.opacities, back.opacities)
    check("scales", 1 / 32, splats.scales.log().clamp(-10, 255 / 16 - 10), back.scales.log())
    check("sh0", 0.5 / 255 / 0.15, splats.sh0.clamp(-0.5 / 0.15, 0.5 / 0.15), back.sh0)
    if degree:
        check("shN", 1 / 256, splats.shN.clamp(-1, 127 / 128), back.shN)
    assert float(angles(splats.quats, back.quats).max()) < WORST_ANGLE
    torch.testing.assert_close(back.quats.norm(dim=1), torch.ones(40))
    assert back.recipe == Recipe(mode="mip")


@settings(max_examples=60)
@example([1.0, 0.99, 0.99, 0.99], 0)
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4), st.integers(0, 15))
def test_any_quaternion_keeps_its_rotation(values: list[float], zeroed: int) -> None:
    """Axes, ties and short ones among them; what has no length turns nothing."""
    quat = torch.tensor([[0.0 if zeroed >> k & 1 else value for k, value in enumerate(values)]])
    length = float(quat.double().norm())
    unit = quat.double() / length if length > 0 else torch.tensor([[1.0, 0, 0, 0]])
    back = read_bytes(written(replace(random_splats(1), quats=quat))).quats
    assert float(angles(unit, back)[0]) < WORST_ANGLE


@pytest.mark.parametrize("mode", ["mip", "classic", None])
@pytest.mark.parametrize("version", [3, 4])
def test_the_antialias_mark(mode: str | None, version: int) -> None:
    splats = replace(random_splats(3), recipe=Recipe(mode=mode))  # type: ignore[arg-type]
    back = read_bytes(written(splats, FileOptions(spz_version=version)))  # type: ignore[arg-type]
    assert back.recipe.mode == ("mip" if mode == "mip" else None)


def test_a_file_is_known_by_its_beginning_and_what_is_lost_is_said(tmp_path: Path) -> None:
    splats, notes = random_splats(3, recipe=Recipe(mode="classic")), Told()
    write_splats(tmp_path / "a.spz", splats, report=notes)  # type: ignore[arg-type]
    assert notes.messages[0].startswith("a.spz: SPZ can't hold the recipe of its training but for the antialias mark")
    (tmp_path / "a.spz").rename(tmp_path / "a.splat")
    assert len(read_splats(tmp_path / "a.splat")) == 3


def test_positions_at_the_very_edge_don_t_wrap() -> None:
    """The largest number of 24 bits with sign, and half a step more, which would round to the one that isn't there."""
    for steps in (8388607.0, 8388607.5, 8388606.5):
        for bits in (0, 12):
            means = torch.tensor([[steps, -steps, 0.0]]) / 2.0**bits
            splats = replace(random_splats(1), means=means)
            if bits == 0 and steps > 8388607:
                with pytest.raises(GaussianVAEError, match="8388607 units"):
                    written(splats)
                continue
            back = read_bytes(written(splats)).means
            assert float((back - means).abs().max()) <= 2.0**-bits


def test_extensions_and_the_fourth_band_are_left_out_with_a_note() -> None:
    parts, notes = random_parts(4, 5, 4), Told()
    extension = (0xADBE0002).to_bytes(4, "little") + (12).to_bytes(4, "little") + bytes(12)
    plain = read_bytes(zstd(5, 4, parts))
    splats = read_bytes(zstd(5, 4, parts, flags=3, extensions=extension), report=notes)
    assert torch.equal(splats.shN, plain.shN) and splats.shN.shape == (5, 15, 3) and splats.recipe.mode == "mip"
    assert [text.split(": ", 1)[1] for text in notes.messages] == [
        "SH degree 4: the fourth band is left out",
        "its extensions are left out",
    ]
    # in the older versions they follow the attributes
    parts, notes = random_parts(2, 5, 1), Told()
    splats = read_bytes(gzipped(2, 5, 1, b"".join(parts) + extension, flags=2), report=notes)
    assert len(splats) == 5 and len(notes.messages) == 1


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_rub_is_half_a_turn_about_x(degree: int) -> None:
    splats = random_splats(30, degree)
    truth = transform(splats, TURN, torch.zeros(3))
    for back in (read_bytes(written(splats), RUB), read_bytes(written(splats, RUB))):
        torch.testing.assert_close(back.means, truth.means, atol=2e-4, rtol=0)
        torch.testing.assert_close(back.shN, truth.shN, atol=0.005, rtol=0)
        there, here = covariances(back.quats, back.scales), covariances(truth.quats, truth.scales)
        torch.testing.assert_close(there, here, atol=0.07 * float(here.abs().max()), rtol=0)
        torch.testing.assert_close(back.sh0, splats.sh0.clamp(-3.34, 3.34), atol=0.014, rtol=0)
    both = read_bytes(written(splats, RUB), RUB)
    plain = read_bytes(written(splats))
    assert float(angles(both.quats, plain.quats).max()) < 1e-3
    for name in ("means", "scales", "opacities", "sh0", "shN"):
        # ties of rounding fall the other way, and a harmonic of +1 has one step less than one of -1
        torch.testing.assert_close(getattr(both, name), getattr(plain, name), atol=1 / 127, rtol=0)


@pytest.mark.parametrize(("farthest", "bits"), [(2047.0, 12), (2049.0, 11), (60_000.0, 7), (8_000_000.0, 0)])
def test_large_scenes_have_coarser_steps_and_never_wrap(farthest: float, bits: int) -> None:
    splats = random_splats(50)
    means = splats.means * 100
    means[7] = torch.tensor([farthest, -farthest, 0.1])
    splats = replace(splats, means=means)
    back = read_bytes(written(splats))
    assert float((back.means - means).abs().max()) <= 2.0 ** -(bits + 1)
    assert any("positions" in phrase for phrase in losses(splats)) == (bits < 12)


def test_what_is_too_far_is_refused(tmp_path: Path) -> None:
    splats = replace(random_splats(2), means=torch.tensor([[0.0, 0, 0], [0, 0, -9e6]]))
    with pytest.raises(GaussianVAEError, match=r"8388607 units.*9e\+06"):
        write_splats(tmp_path / "a.spz", splats)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [1e-4, 3e-4, 1e-3])
def test_small_gaussians_get_finer_steps(size: float) -> None:
    """A center is off by 1/16 of its Gaussian at most; a few specks of dust don't count, nor do the thin axes."""
    splats = random_splats(1000)
    scales = torch.tensor([size, 1e-6, size]).repeat(1000, 1)
    scales[:5] = 1e-7
    splats = replace(splats, scales=scales)
    back = read_bytes(written(splats))
    assert float((back.means - splats.means).abs().max()) <= size / 16 + 1e-7
    # as far as there is room: 24 bits hold 8192 units in steps of 2^-10
    wide = replace(splats, means=splats.means * 8000)
    assert float((read_bytes(written(wide)).means - wide.means).abs().max()) <= 2.0**-10


def test_losses_are_those_that_the_splat_has() -> None:
    plain = replace(random_splats(9, 1), recipe=Recipe(mode="mip"))
    plain = replace(plain, sh0=plain.sh0.clamp(-3, 3))
    assert losses(plain) == [] and losses(plain.select(torch.zeros(0, dtype=torch.long))) == []
    scales, shN, sh0 = plain.scales.clone(), plain.shN.clone(), plain.sh0.clone()
    scales[0], scales[1], scales[2] = 1e-6, 1000, torch.tensor([1e-9, 0.1, 0.1])
    shN[3, 0, 0], sh0[4:6] = -1.5, 4
    splats = replace(
        plain,
        scales=scales,
        shN=shN,
        sh0=sh0,
        comments=("by hand",),
        recipe=Recipe(mode="mip", eps2d=0.1),
        extras={"provenance": torch.zeros(9)},
    )
    assert losses(splats) == [
        "the recipe of its training but for the antialias mark",
        "comments",
        "extra properties (provenance)",
        "sizes below 4.5e-05 units (1 of 9 Gaussians)",
        "sizes above 379 units (1 of 9 Gaussians)",
        "colors outside -0.44 to 1.44 (2 of 9 Gaussians)",
        "spherical harmonics beyond 1 (1 of 9 Gaussians)",
    ]


@pytest.mark.parametrize("version", [3, 4])
def test_the_empty_splat_is_one(version: int) -> None:
    splats = random_splats(3).select(torch.zeros(0, dtype=torch.long))
    back = read_bytes(written(splats, FileOptions(spz_version=version)))  # type: ignore[arg-type]
    assert len(back) == 0 and back.sh_degree == 1


@pytest.mark.parametrize("name", ["means", "scales", "opacities", "quats", "sh0", "shN"])
def test_what_is_no_number_is_not_written(tmp_path: Path, name: str) -> None:
    splats = random_splats(4)
    values = getattr(splats, name).clone()
    values[2] = float("nan")
    with pytest.raises(GaussianVAEError, match="row 2"):
        write_splats(tmp_path / "a.spz", replace(splats, **{name: values}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
def test_a_real_scene_is_the_same_in_two_formats(data: Path) -> None:
    """This pair's SPZ has its axes as the format's text says (right, up, back), its PLY has them down and forward."""
    from scipy.spatial import cKDTree

    spz = read_splats(data / "splats" / "biker.spz", RUB)
    ply = read_splats(data / "splats" / "biker.compressed.ply")
    assert len(spz) == len(ply) == 152_746 and spz.sh_degree == 0

    def features(splats: Splats) -> np.ndarray:
        parts = [splats.means / 3e-4, splats.sh0[:, 0] / 0.02, splats.scales.log() / 0.03]
        return torch.cat([*parts, splats.opacities[:, None] / 0.003], 1).numpy()

    _, nearest = cKDTree(features(ply)).query(features(spz))
    match = ply.select(torch.from_numpy(nearest))
    same = torch.ones(len(spz), dtype=torch.bool)
    # half a step of SPZ, and the half steps of the other format's chunks of 256
    for name, most in (("means", 3e-4), ("sh0", 0.015), ("opacities", 0.004)):
        same &= ((getattr(match, name) - getattr(spz, name)).abs().reshape(len(spz), -1) < most).all(1)
    same &= ((match.scales.log() - spz.scales.log()).abs() < 0.04).all(1)
    same &= angles(match.quats, spz.quats) < 0.4
    assert float(same.float().mean()) > 0.999
