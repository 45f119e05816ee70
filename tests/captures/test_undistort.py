"""Undistorted photos against what a pinhole sees, in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from colmapfiles import Array, Model, Shot, bent_photo, distorted, write_binary
from hypothesis import given
from hypothesis import strategies as st
from nerfsynthetic import save

from gaussianvae.captures import load_views, read_capture
from gaussianvae.captures.undistort import Lens, bend, displacement, straighten, undistort
from gaussianvae.errors import GaussianVAEError

SIZE, FOCALS, CENTER = (96, 72), np.array([80.0, 84.0]), np.array([50.5, 34.25])
K = torch.tensor([[80.0, 0, 50.5], [0, 84.0, 34.25], [0, 0, 1]], dtype=torch.float64)
LENSES = [
    ("SIMPLE_RADIAL", (0.12, 0.0, 0.0, 0.0)),
    ("SIMPLE_RADIAL", (-0.2, 0.0, 0.0, 0.0)),
    ("RADIAL", (-0.25, 0.08, 0.0, 0.0)),
    ("OPENCV", (0.06, -0.08, 0.006, -0.009)),
    ("OPENCV", (-0.15, 0.03, -0.01, 0.004)),
]


def checker(x: Array, y: Array) -> Array:
    """A soft checker on the plane z = 1, in red; a second one across it in green."""
    red = 0.5 + 0.4 * np.sin(21 * x) * np.sin(21 * y)
    return np.stack([red, 0.5 + 0.4 * np.cos(14 * (x + y)) * np.cos(14 * (x - y)), np.full_like(x, 0.25)], -1)


def rays_of(K: torch.Tensor, size: tuple[int, int]) -> tuple[Array, Array]:
    u, v = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    k = K.double().numpy()
    return (u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1]


def write_bent(folder: Path, model: str, lens: tuple[float, float, float, float], size: tuple[int, int] = SIZE) -> None:
    """A COLMAP capture of two views that see the checker through a lens."""
    used = {"SIMPLE_RADIAL": 1, "RADIAL": 2, "OPENCV": 4}[model]
    focals = FOCALS if model == "OPENCV" else FOCALS[:1].repeat(2)
    parameters = [*FOCALS[: 1 + (model == "OPENCV")], *CENTER, *lens[:used]]
    shots = {n: Shot([1.0, 0, 0, 0], [0, 0, 0], 1, f"{n}.png") for n in range(3)}
    write_binary(folder / "sparse" / "0", Model({1: (model, *SIZE, parameters)}, shots, {}))
    (folder / "images").mkdir()
    ratio = np.array(size) / SIZE
    photo = bent_photo(size, focals * ratio, CENTER * ratio, lens, checker)
    for shot in shots.values():
        save(folder / "images" / shot.name, photo)


@pytest.mark.parametrize("shrink", [1, 2])
@pytest.mark.parametrize(("model", "lens"), LENSES)
def test_undistorted_photos_are_the_pinholes(
    tmp_path: Path, model: str, lens: tuple[float, float, float, float], shrink: int
) -> None:
    size = (SIZE[0] // shrink, SIZE[1] // shrink)
    write_bent(tmp_path, model, lens, size)
    views = load_views(read_capture(tmp_path), [0], 1)
    expected = checker(*rays_of(views.cameras.Ks[0], size))
    error = (views.images[0].double().numpy() - expected)[2:-2, 2:-2, :2]
    assert np.sqrt(np.square(error).mean()) < 0.6 / 255  # of which two roundings to 8 bits are 0.41
    # a pattern whose phase is off shows as a mean product with its slope: a twentieth of a pixel would be seen
    for axis in (0, 1):
        slope = np.gradient(expected, axis=axis)[2:-2, 2:-2, :2]
        assert abs((error * slope).sum() / np.square(slope).sum()) < 0.02
    # the same lens left in would be far off
    bent = bent_photo(size, FOCALS / shrink, CENTER / shrink, lens, checker)
    assert np.sqrt(np.square(bent - expected)[2:-2, 2:-2, :2].mean()) > 3 * np.sqrt(np.square(error).mean())


@given(
    st.floats(-0.3, 0.3), st.floats(-0.1, 0.1), st.floats(-0.01, 0.01), st.floats(-0.01, 0.01),
    st.floats(0.4, 0.6), st.floats(0.4, 0.6),
)  # fmt: skip
def test_no_pixel_outside_the_photo_is_needed_and_none_is_wasted(
    k1: float, k2: float, p1: float, p2: float, x: float, y: float
) -> None:
    own = torch.tensor([[90.0, 0, 96 * x], [0, 90.0, 72 * y], [0, 0, 1]], dtype=torch.float64)
    straight, lens = straighten("here", own, (k1, k2, p1, p2), SIZE)
    if lens is None:
        assert not any((k1, k2, p1, p2)) and torch.equal(straight, own)
        return
    a, b = distorted(*rays_of(straight, SIZE), k1, k2, p1, p2)
    u, v = a * 90 + 96 * x, b * 90 + 72 * y
    room = min(u.min() - 0.5, v.min() - 0.5, 95.5 - u.max(), 71.5 - v.max())
    assert -1e-5 < room < 1e-3
    assert float(straight[0, 0] / own[0, 0]) == pytest.approx(float(straight[1, 1] / own[1, 1]))
    assert torch.equal(straight[:, 2], own[:, 2])


def test_bend_is_opencvs_polynomial() -> None:
    rays = torch.randn(50, 2, dtype=torch.float64)
    pixels = bend(Lens(K, (0.1, -0.2, 0.03, -0.04)), rays).numpy()
    x, y = distorted(*rays.numpy().T, 0.1, -0.2, 0.03, -0.04)
    np.testing.assert_allclose(pixels, np.stack([80 * x + 50.5, 84 * y + 34.25], -1), rtol=1e-12)
    # and OpenCV's documentation worked out by hand for one ray
    one = bend(Lens(torch.eye(3, dtype=torch.float64), (0.5, 0.25, 0.1, 0.2)), torch.tensor([[1.0, 2.0]]).double())
    torch.testing.assert_close(one, torch.tensor([[1 * 9.75 + 0.4 + 1.4, 2 * 9.75 + 0.8 + 1.3]]).double())


@pytest.mark.parametrize("coefficients", [(3.0, 9.0, 0, 0), (-1.5, 0, 0, 0), (0, 0, 2.0, 0), (float("nan"), 0, 0, 0)])
def test_lenses_that_can_not_be_undone(coefficients: tuple[float, float, float, float]) -> None:
    wide = torch.tensor([[20.0, 0, 48], [0, 20.0, 36], [0, 0, 1]], dtype=torch.float64)
    with pytest.raises(GaussianVAEError, match=r"^here: a distortion of .* can't be undone") as caught:
        straighten("here", wide, coefficients, SIZE)
    assert "\n" not in str(caught.value)


def test_interpolation_keeps_ramps_constants_and_the_photo_itself() -> None:
    still = Lens(K, (0.0, 0.0, 0.0, 0.0))
    image = torch.rand(72, 96, 3)
    torch.testing.assert_close(undistort(image, still, K), image, atol=1e-6, rtol=0)
    moved = K.clone()
    moved[0, 2] -= 0.3  # a pinhole whose center lies 0.3 px further left looks 0.3 px further right
    ramp = ((torch.arange(96) + 0.5) / 96)[None, :, None].expand(72, 96, 3).contiguous()
    shifted = undistort(ramp, still, moved)
    torch.testing.assert_close(shifted[:, 2:-2], ramp[:, 2:-2] + 0.3 / 96, atol=1e-6, rtol=0)
    ones = torch.ones(72, 96, 4)
    torch.testing.assert_close(undistort(ones, Lens(K, (0.1, 0.0, 0.0, 0.0)), K), ones, atol=1e-6, rtol=0)


def test_colors_under_transparent_pixels_do_not_bleed(tmp_path: Path) -> None:
    write_bent(tmp_path, "SIMPLE_RADIAL", (0.1, 0.0, 0.0, 0.0))
    photo = np.zeros((72, 96, 4))
    photo[:, :48] = [1, 0, 0, 1]
    photo[:, 48:] = [0, 1, 0, 0]  # green that no one may see
    for path in (tmp_path / "images").iterdir():
        save(path, photo)
    views = load_views(read_capture(tmp_path), [0], 1, background=(0.0, 0.0, 1.0))
    assert views.alphas is not None and float(views.images[..., 1].max()) == 0
    torch.testing.assert_close(views.images[..., 0], views.alphas, atol=2 / 255, rtol=0)
    torch.testing.assert_close(views.images[..., 2], 1 - views.alphas, atol=2 / 255, rtol=0)
    assert 0 < float(views.alphas.mean()) < 1


def looked_up(image: torch.Tensor, lens: Lens, K: torch.Tensor) -> torch.Tensor:
    """`undistort` in plain tensor operations: all pixels at once."""
    height, width, channels = image.shape
    x = (torch.arange(width, dtype=torch.float64) + 0.5 - K[0, 2]) / K[0, 0]
    y = (torch.arange(height, dtype=torch.float64) + 0.5 - K[1, 2]) / K[1, 1]
    rays = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), -1)
    u, v = bend(lens, rays).unbind(-1)

    def taps(places: torch.Tensor, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        first = (places - 0.5).floor()
        found = []
        for step in (-1, 0, 1, 2):
            d = (places - 0.5 - first - step).abs()
            near, far = (1.5 * d - 2.5) * d * d + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2  # Keys' kernel, a = -1/2
            found.append(((first.long() + step).clamp(0, size - 1), torch.where(d <= 1, near, far)))
        return found

    total = torch.zeros(height, width, channels, dtype=torch.float64)
    for row, down in taps(v, height):
        for column, across in taps(u, width):
            total += (down * across)[..., None] * image[row, column].double()
    return total.clamp(0, 1).float()


@given(
    st.tuples(st.floats(-0.3, 0.3), st.floats(-0.1, 0.1), st.floats(-0.02, 0.02), st.floats(-0.02, 0.02)),
    st.tuples(st.floats(-0.1, 0.1), st.floats(-0.05, 0.05)),
    st.booleans(), st.integers(3, 4), st.integers(1, 3),
)  # fmt: skip
def test_the_compiled_look_up_is_the_plain_one(
    first: tuple[float, ...], more: tuple[float, ...], fisheye: bool, channels: int, threads: int
) -> None:
    """Of any lens, straightened or not: pixels beyond the photo repeat its border."""
    lens = Lens(K, (*first[:2], *more) if fisheye else (*first, *more), fisheye)
    image = torch.rand(72, 96, channels)
    torch.set_num_threads(threads)
    seen = undistort(image, lens, K)
    torch.set_num_threads(1)
    torch.testing.assert_close(seen, looked_up(image, lens, K), atol=1e-6, rtol=0)


def test_k3_and_k4_are_the_next_powers() -> None:
    rays = torch.randn(50, 2, dtype=torch.float64)
    r2 = rays.square().sum(1, keepdim=True)
    plain = bend(Lens(K, (0.1, -0.2, 0.03, -0.04)), rays)
    for coefficients, added in (((0.5,), 0.5 * r2**3), ((0.5, -0.25), 0.5 * r2**3 - 0.25 * r2**4)):
        bent = bend(Lens(K, (0.1, -0.2, 0.03, -0.04, *coefficients)), rays)
        torch.testing.assert_close(bent, plain + rays * added * K.diagonal()[:2])


FISHEYES = [(0.0, 0.0, 0.0, 0.0), (-0.05, 0.01, 0.0, 0.0), (0.03, -0.02, 0.004, -0.001)]


@pytest.mark.parametrize("k", FISHEYES)
def test_fisheyes_see_what_a_pinhole_sees(k: tuple[float, float, float, float]) -> None:
    """A photo made by inverting the fisheye's equation, theta_d = theta (1 + k1 theta^2 + ...), by bisection."""
    u, v = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    a, b = (u - CENTER[0]) / 60, (v - CENTER[1]) / 60
    distance = np.hypot(a, b)
    low, high = np.zeros_like(distance), np.full_like(distance, 1.5)
    for _ in range(60):
        middle = 0.5 * (low + high)
        bent = middle * (1 + sum(c * middle ** (2 * n + 2) for n, c in enumerate(k)))
        low, high = np.where(bent < distance, middle, low), np.where(bent < distance, high, middle)
    ratio = np.tan(low) / np.maximum(distance, 1e-12)
    photo = torch.from_numpy(checker(a * ratio / 3, b * ratio / 3)).float()
    own = torch.tensor([[60.0, 0, CENTER[0]], [0, 60.0, CENTER[1]], [0, 0, 1]], dtype=torch.float64)
    straight, lens = straighten("here", own, k, SIZE, fisheye=True)
    assert lens is not None and 0.5 <= float(straight[0, 0] / own[0, 0]) < 1
    seen = undistort(photo, lens, straight).numpy()
    x, y = rays_of(straight, SIZE)
    error = (seen - checker(x / 3, y / 3))[2:-2, 2:-2]
    assert np.abs(error).max() < 0.02
    # the photo's border pixels are needed, and none beyond them
    places = bend(lens, torch.from_numpy(np.stack([x, y], -1)))
    assert float(places.min()) > 0.5 - 1e-5 and bool((places < torch.tensor(SIZE) - 0.5 + 1e-5).all())


@pytest.mark.parametrize("k", [(-2.0, 0, 0, 0), (float("nan"), 0, 0, 0), (0, 0, 0, -50.0)])
def test_fisheyes_that_turn_back_can_not_be_undone(k: tuple[float, float, float, float]) -> None:
    wide = torch.tensor([[20.0, 0, 48], [0, 20.0, 36], [0, 0, 1]], dtype=torch.float64)
    with pytest.raises(GaussianVAEError, match=r"^here: a fisheye distortion of .*k1, k2, k3, k4.* can't be undone"):
        straighten("here", wide, k, SIZE, fisheye=True)


def test_displacement_is_that_of_the_corner() -> None:
    center = torch.tensor([[100.0, 0, 48], [0, 100.0, 36], [0, 0, 1]], dtype=torch.float64)
    # r^2 = 0.48^2 + 0.36^2 = 0.36: the corner, 60 px from the center, moves by k1 r^2 of that
    assert displacement(Lens(center, (0.1, 0.0, 0.0, 0.0)), center, SIZE) == pytest.approx(60 * 0.1 * 0.36)
    assert displacement(Lens(center, (0.0, 0.0, 0.0, 0.0)), center, SIZE) == 0
