"""Real captures of every layout, against what COLMAP itself says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from colmapfiles import distorted, read_real, straight

from gaussianvae.captures import load_views, read_capture
from gaussianvae.scene.cameras import project, to_camera
from scenes import Told

pytestmark = pytest.mark.real


@pytest.mark.parametrize(("name", "views", "size"), [("beer_can", 71, (720, 1280)), ("desk", 29, (1920, 1080))])
def test_points_of_real_captures_fall_where_colmap_saw_them(
    data: Path, name: str, views: int, size: tuple[int, int]
) -> None:
    folder = data / "captures" / name
    capture = read_capture(folder)
    assert len(capture.cameras) == views and set(capture.cameras.sizes) == {size} and not capture.has_alpha
    assert len(capture.test) == -(-views // 8) and all(lens is not None for lens in capture.lenses)
    cameras, shots, points = read_real(folder / "sparse" / "0")
    assert capture.points is not None and len(capture.points.means) == len(points)
    row = {key: index for index, key in enumerate(points)}
    view_of = {path.name: view for view, path in enumerate(capture.image_paths)}
    off, sums = [], np.zeros((len(points), 2))
    for shot in shots.values():
        seen = np.array([point != -1 for point in shot.ids])
        rows = [row[point] for point in shot.ids if point != -1]
        view, (model, values) = view_of[shot.name], cameras[shot.camera]
        two, zeros = int(model == 4), (0.0, 0.0, 0.0)
        fx, fy, cx, cy = values[0], values[two], values[1 + two], values[2 + two]
        lens = (*values[3 + two :], *zeros)[:4]
        pixels, depths = project(capture.cameras, view, capture.points.means[rows].double())
        assert float(depths.min()) > 0
        K = capture.cameras.Ks[view].double().numpy()
        x, y = ((pixels.numpy() - K[:2, 2]) / K[[0, 1], [0, 1]]).T
        # where the straight photo has the observation
        sx, sy = straight((shot.points[seen, 0] - cx) / fx, (shot.points[seen, 1] - cy) / fy, lens)
        off.append(np.hypot((sx - x) * K[0, 0], (sy - y) * K[1, 1]))
        # and where the bent photo has the point: COLMAP's own measure of error
        bx, by = distorted(x, y, *lens)
        error = np.hypot(bx * fx + cx - shot.points[seen, 0], by * fy + cy - shot.points[seen, 1])
        np.add.at(sums, rows, np.stack([error, np.ones_like(error)], 1))
    off = np.concatenate(off)
    assert np.median(off) < 1.0
    means, stored = sums[:, 0] / sums[:, 1], np.array([error for _, error, _ in points.values()])
    np.testing.assert_allclose(capture.points.errors.numpy(), stored, rtol=1e-6)
    np.testing.assert_allclose(means, stored, atol=2e-3)
    images = load_views(capture, capture.test[:1], 8).images
    assert images.shape == (1, size[1] // 8, size[0] // 8, 3) and 0.1 < float(images.mean()) < 0.9


def test_fern(data: Path) -> None:
    """LLFF without a whole COLMAP model: its bounds are percentiles of the depths of the points that a view sees."""
    folder = data / "captures" / "fern"
    capture = read_capture(folder)
    assert len(capture.cameras) == 20 and set(capture.cameras.sizes) == {(504, 378)} and capture.test == (0, 8, 16)
    assert capture.points is not None and len(capture.points.means) == 10091
    lens = capture.lenses[0] if capture.lenses else None
    assert lens is not None and float(lens.K[0, 0]) == pytest.approx(3260.5263 / 8)
    _, _, points = read_real(folder / "sparse_points")
    bounds = np.load(folder / "poses_bounds.npy")[:, 15:]
    seen = [views for _, _, views in points.values()]
    for view in range(20):
        rows = [row for row, views in enumerate(seen) if view + 1 in views]
        depths = to_camera(capture.cameras, view, capture.points.means[rows].double())[:, 2].numpy()
        np.testing.assert_allclose(np.percentile(depths, [0.1, 99.9]), bounds[view], rtol=1e-3)
        pixels, _ = project(capture.cameras, view, capture.points.means[rows])
        # all but those that the crop of undistorting lost
        inside = ((pixels > 0) & (pixels < torch.tensor([504, 378]))).all(1)
        assert float(inside.float().mean()) > 0.97
    assert load_views(capture, [0], 2).images.shape == (1, 189, 252, 3)


def test_fox(data: Path) -> None:
    told = Told()
    capture, said = read_capture(data / "captures" / "fox", told), told.messages
    assert len(said) == 2 and said[0].startswith("17 of 67 photos") and "the first: images/0005.jpg" in said[0]
    # the corners' rays through OpenCV's polynomial, with the file's figures
    x, y = (np.array([[0, 0, 1080, 1080], [0, 1920, 0, 1920]]) - [[554.558], [965.268]]) / [
        [float(capture.cameras.Ks[0, 0, 0])],
        [float(capture.cameras.Ks[0, 1, 1])],
    ]
    u, v = distorted(x, y, 0.0578421, -0.0805099, -0.000980296, 0.00015575)
    bent = np.hypot((u - x) * 1375.52, (v - y) * 1374.49).max()
    assert said[1] == f"lens distortion removed: up to {bent:.1f} px at the corners (50 photos)"
    assert capture.missing == 17
    assert len(capture.cameras) == 50 and set(capture.cameras.sizes) == {(1080, 1920)} and len(capture.test) == 7
    assert capture.points is None and len(capture.lenses) == 50 and len({id(lens) for lens in capture.lenses}) == 1
    # whoever walked around the fox held it in the picture: the point nearest to all optical axes is in every view
    axes, eyes = capture.cameras.viewmats[:, 2, :3].double(), capture.cameras.positions.double()
    across = torch.eye(3).double() - axes[:, :, None] * axes[:, None, :]
    target = torch.linalg.solve(across.sum(0), (across @ eyes[:, :, None]).sum(0))[:, 0]
    for view in range(50):
        pixel, depth = project(capture.cameras, view, target[None])
        assert float(depth) > 0 and bool((pixel > 0).all() & (pixel < torch.tensor([1080, 1920])).all())
    assert load_views(capture, [0], 16).images.shape == (1, 120, 68, 3)
