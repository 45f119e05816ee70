"""COLMAP captures: both kinds of files, all lenses, real models, and what can be wrong."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from colmapfiles import (
    Model,
    Shot,
    random_model,
    write_binary,
    write_colmap,
    write_photos,
    write_text,
)
from PIL import Image
from scipy.spatial.transform import Rotation

from gaussianvae.captures import read_capture
from gaussianvae.errors import GaussianVAEError
from tiny_capture import refused


@pytest.mark.parametrize("seed", range(3))
def test_binary_and_text_say_the_same(tmp_path: Path, seed: int) -> None:
    model = random_model(views=9, seed=seed)
    for kind, write in (("bin", write_binary), ("txt", write_text)):
        write(tmp_path / kind / "sparse" / "0", model)
        write_photos(tmp_path / kind, model)
    a, b = read_capture(tmp_path / "bin"), read_capture(tmp_path / "txt")
    assert torch.equal(a.cameras.viewmats, b.cameras.viewmats) and torch.equal(a.cameras.Ks, b.cameras.Ks)
    assert a.cameras.names == b.cameras.names and a.cameras.sizes == b.cameras.sizes
    assert (a.train, a.test, a.has_alpha) == (b.train, b.test, b.has_alpha)
    assert [lens and lens.coefficients for lens in a.lenses] == [lens and lens.coefficients for lens in b.lenses]
    assert a.points is not None and b.points is not None
    for name in ("means", "colors", "errors", "track_lengths"):
        assert torch.equal(getattr(a.points, name), getattr(b.points, name))


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    model = write_colmap(tmp_path, random_model(views=9))
    capture = read_capture(tmp_path)
    shots = sorted(model.shots.values(), key=lambda shot: shot.name)
    assert [str(path.relative_to(tmp_path / "images")) for path in capture.image_paths] == [s.name for s in shots]
    assert capture.test == (0, 8) and capture.train == tuple(range(1, 8)) and not capture.has_alpha
    assert len(capture.depth_paths) == 9 and set(capture.depth_paths) == {None}
    for view, shot in enumerate(shots):
        w, x, y, z = shot.quat
        viewmat = capture.cameras.viewmats[view].double().numpy()
        np.testing.assert_allclose(viewmat[:3, :3], Rotation.from_quat([x, y, z, w]).as_matrix(), atol=1e-6)
        np.testing.assert_allclose(viewmat[:3, 3], shot.translation, atol=1e-6)
        name, width, height, values = model.cameras[shot.camera]
        assert capture.cameras.sizes[view] == (width, height)
        two = name in ("PINHOLE", "OPENCV")
        fx, fy, (cx, cy) = values[0], values[int(two)], values[1 + two : 3 + two]
        K, lens = capture.cameras.Ks[view].double(), capture.lenses[view]
        assert (lens is None) == name.endswith("PINHOLE")
        if lens is None:
            assert torch.equal(K, torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64))
        else:
            assert lens.coefficients == (*values[3 + two :], 0.0, 0.0, 0.0)[:4]
            assert torch.equal(lens.K, torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64))
            assert float(K[0, 0] / fx) == pytest.approx(float(K[1, 1] / fy)) and K[:2, 2].tolist() == [cx, cy]
    assert capture.points is not None
    for row, (position, color, error, track) in enumerate(model.points.values()):
        np.testing.assert_allclose(capture.points.means[row].numpy(), position, rtol=1e-6)
        np.testing.assert_allclose(capture.points.colors[row].numpy() * 255, color, atol=1e-4)
        assert float(capture.points.errors[row]) == pytest.approx(error)
        assert int(capture.points.track_lengths[row]) == len(track)


@pytest.mark.parametrize("place", ["sparse/0", "sparse", "colmap/sparse/0", "."])
def test_places_of_a_model(tmp_path: Path, place: str) -> None:
    write_colmap(tmp_path, place=place)
    assert len(read_capture(tmp_path).cameras) == 5


def test_a_model_without_points_and_one_without_a_lens(tmp_path: Path) -> None:
    model = random_model()
    model.cameras = {key: ("SIMPLE_RADIAL", 20, 14, [19.0, 10.0, 7.0, 0.0]) for key in model.cameras}
    write_colmap(tmp_path, model)
    (tmp_path / "sparse" / "0" / "points3D.bin").unlink()
    capture = read_capture(tmp_path)
    assert capture.points is None and capture.lenses == ()


def test_smaller_photos_take_intrinsics_by_their_real_ratio(tmp_path: Path) -> None:
    model = random_model(size=(83, 58))
    write_binary(tmp_path / "sparse", model)
    for number, shot in enumerate(model.shots.values()):
        path = tmp_path / "images" / shot.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", [(21, 14), (20, 15)][number % 2]).save(path)  # both roundings of a quarter
    capture = read_capture(tmp_path)
    for view, shot in enumerate(sorted(model.shots.values(), key=lambda shot: shot.name)):
        width, height = capture.cameras.sizes[view]
        _, _, _, values = model.cameras[shot.camera]
        lens = capture.lenses[view]
        K = capture.cameras.Ks[view].double() if lens is None else lens.K
        assert float(K[0, 0]) == pytest.approx(values[0] * width / 83, rel=1e-6)
        assert float(K[1, 2]) == pytest.approx((58 / 2 - 0.5) * height / 58, rel=1e-6)


@pytest.mark.parametrize("size", [(40, 40), (80, 40), (21, 20), (28, 20), (160, 120), (60, 80), (4, 3), (1, 1)])
def test_photos_of_other_sizes_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    model = write_colmap(tmp_path, random_model(size=(80, 60)))
    Image.new("RGB", size).save(tmp_path / "images" / model.shots[12].name)
    refused(tmp_path, f"is {size[0]}x{size[1]}, its camera is for 80x60")


def test_alpha_is_all_or_none(tmp_path: Path) -> None:
    model = write_colmap(tmp_path)
    write_photos(tmp_path, model, "RGBA")
    assert read_capture(tmp_path).has_alpha
    Image.new("RGB", (20, 14)).save(tmp_path / "images" / model.shots[12].name)
    refused(tmp_path, "alpha")


def spoil(kind: str, name: str, **changes: Any) -> Any:
    """Change a camera, shot or point of the model and write it anew."""

    def apply(folder: Path, model: Model) -> None:
        changed = {**getattr(model, kind), **{int(key[1:]): value for key, value in changes.items()}}
        setattr(model, kind, {key: value for key, value in changed.items() if value is not None})
        if name == "txt":
            for file in (folder / "sparse" / "0").iterdir():
                file.unlink()
        (write_text if name == "txt" else write_binary)(folder / "sparse" / "0", model)

    return apply


def text(name: str, old: str, new: str) -> Any:
    """Write the model as text and change a file of it."""

    def apply(folder: Path, model: Model) -> None:
        spoil("cameras", "txt")(folder, model)
        file = folder / "sparse" / "0" / f"{name}.txt"
        changed = file.read_text().replace(old, new, 1)
        assert changed != file.read_text()
        file.write_text(changed)

    return apply


def raw(name: str, content: bytes) -> Any:
    return lambda folder, model: (folder / "sparse" / "0" / name).write_bytes(content)


ONE = [1.0, 0.0, 0.0, 0.0]
SPOILS: list[tuple[Any, str]] = [
    (spoil("cameras", "bin", _3=("FOV", 20, 14, [1.0] * 5)), "cameras.bin: camera 3 .*FOV"),
    (spoil("cameras", "txt", _3=("FULL_OPENCV", 20, 14, [1.0] * 12)), "cameras.txt: camera 3 .*FULL_OPENCV"),
    (spoil("cameras", "txt", _3=("PINHOLE", 20, 14, [1.0] * 3)), "cameras.txt: line"),
    (spoil("cameras", "txt", _3=("PINHOLE", 20, "wide", [1.0] * 4)), "cameras.txt: line"),
    (spoil("cameras", "bin", _3=("PINHOLE", 20, 14, [20.0, -20.0, 10.0, 7.0])), "positive"),
    (spoil("cameras", "bin", _3=("PINHOLE", 20, 14, [20.0, 20.0, float("nan"), 7.0])), "finite"),
    (spoil("cameras", "bin", _3=("PINHOLE", 0, 14, [20.0, 20.0, 10.0, 7.0])), "0x14"),
    (spoil("cameras", "bin", _3=("PINHOLE", 2**63, 14, [20.0, 20.0, 10.0, 7.0])), "its camera is for"),
    (spoil("cameras", "bin", _3=("RADIAL", 20, 14, [20.0, 10.0, 7.0, 0.1, float("inf")])), "distortion"),
    (spoil("cameras", "bin", _3=("RADIAL", 20, 14, [20.0, 10.0, 7.0, 9.0, 90.0])), "can't be undone"),
    (spoil("cameras", "bin", _3=("RADIAL", 20, 14, [20.0, 90.0, 7.0, 0.1, 0.0])), "can't be undone"),
    (spoil("cameras", "bin", _3=None), "has camera 3, which"),
    (spoil("cameras", "txt", _3=None), "has camera 3, which"),
    (spoil("shots", "bin", _10=Shot(ONE, [0, 0, 0], 3, "gone.png")), "'gone.png' isn't in .*images"),
    (spoil("shots", "bin", _10=Shot(ONE, [0, 0, 0], 3, "x" * 5000)), "can't be read"),
    (spoil("shots", "bin", _10=Shot(ONE, [0, 0, 0], 3, "")), "isn't in"),
    (spoil("shots", "bin", _10=Shot([0.0] * 4, [0, 0, 0], 3, "a00.png")), "images.bin: the pose of a00.png"),
    (spoil("shots", "bin", _10=Shot(ONE, [1e300, 0, 0], 3, "a00.png")), "finite"),
    (spoil("shots", "txt", _10=Shot([float("nan")] * 4, [0, 0, 0], 3, "a00.png")), "images.txt: the pose"),
    (spoil("shots", "bin", _11=None, _12=None, _13=None, _14=None), "at least 2"),
    (spoil("shots", "bin", **{f"_{view}": None for view in range(10, 15)}), "0 posed"),
    (spoil("points", "bin", _100=([float("nan"), 0, 0], [0, 0, 0], 1.0, [])), "points3D.bin: has a point"),
    (spoil("points", "txt", _100=([0, 0, 0], [0, 256, 0], 1.0, [])), "points3D.txt: has a point"),
    (text("images", " 3 a00.png", " three a00.png"), "images.txt: line"),
    (text("images", " 3 a00.png", ""), "images.txt: line"),
    (text("points3D", "100 ", "100 100 "), "points3D.txt: line"),
    (text("points3D", "\n100 ", "\n"), "points3D.txt: line"),
    (text("cameras", "PINHOLE", "pinhole"), "model SIMPLE_pinhole"),
    (raw("cameras.bin", b""), "cameras.bin: ends within"),
    (raw("cameras.bin", struct.pack("<QiiQQ", 1, 3, 77, 20, 14)), "model number 77"),
    (raw("cameras.bin", struct.pack("<Q", 2**63)), "cameras.bin: ends within"),
    (raw("images.bin", b"an image it is not, but a line of garbage that is long enough\n"), "images.bin: ends within"),
    (raw("points3D.bin", b"1 2 3 4 5 6 7 8\n"), "points3D.bin: ends within"),
    (lambda f, m: (f / "images" / "a00.png").unlink(), "'a00.png' isn't in .*images"),
    (lambda f, m: (f / "images" / "a00.png").write_text("garbage\n"), "a00.png: can't be decoded"),
    (lambda f, m: (f / "sparse" / "0" / "images.bin").unlink(), "known layout"),
]


@pytest.mark.parametrize(("damage", "says"), SPOILS, ids=range(len(SPOILS)))
def test_broken_captures_are_one_clear_line(tmp_path: Path, damage: Any, says: str) -> None:
    damage(tmp_path, write_colmap(tmp_path))
    refused(tmp_path, says)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_cut_and_lengthened_files(tmp_path: Path, name: str) -> None:
    write_colmap(tmp_path)
    file = tmp_path / "sparse" / "0" / f"{name}.bin"
    whole = file.read_bytes()
    for cut in range(0, len(whole), 7):
        file.write_bytes(whole[:cut])
        refused(tmp_path, f"{name}.bin")
    file.write_bytes(whole + b"\0")
    refused(tmp_path, f"{name}.bin: has 1 bytes more")


@pytest.mark.parametrize("kind", ["bin", "txt"])
def test_damaged_files_raise_nothing_but_our_error(tmp_path: Path, kind: str) -> None:
    model = write_colmap(tmp_path)
    spoil("cameras", kind)(tmp_path, model)
    random = np.random.default_rng(0)
    for file in sorted((tmp_path / "sparse" / "0").glob(f"*.{kind}")):
        whole = file.read_bytes()
        for _ in range(15):
            damaged = bytearray(whole)
            damaged[int(random.integers(len(whole)))] = int(random.integers(256))
            file.write_bytes(bytes(damaged))
            try:
                capture = read_capture(tmp_path)
            except GaussianVAEError as error:
                assert "\n" not in str(error)
            else:
                assert bool(capture.cameras.viewmats.isfinite().all() & capture.cameras.Ks.isfinite().all())
        file.write_bytes(whole)


@pytest.mark.parametrize(
    ("model", "parameters", "k"),
    [
        ("OPENCV_FISHEYE", [21.0, 22.0, 10.5, 7.0, 0.02, -0.01, 0.003, -0.001], (0.02, -0.01, 0.003, -0.001)),
        ("RADIAL_FISHEYE", [21.0, 10.5, 7.0, 0.02, -0.01], (0.02, -0.01, 0.0, 0.0)),
        ("SIMPLE_RADIAL_FISHEYE", [21.0, 10.5, 7.0, 0.02], (0.02, 0.0, 0.0, 0.0)),
        ("SIMPLE_RADIAL_FISHEYE", [21.0, 10.5, 7.0, 0.0], (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_fisheyes_are_read_and_become_pinholes(
    tmp_path: Path, model: str, parameters: list[float], k: tuple[float, ...]
) -> None:
    shots = {n: Shot([1.0, 0, 0, 0], [0, 0, float(n)], 1, f"{n}.png") for n in range(3)}
    made = Model({1: (model, 20, 14, parameters)}, shots, {})
    write_photos(tmp_path, made)
    for write in (write_text, write_binary):
        write(tmp_path / "sparse" / "0", made)
        capture = read_capture(tmp_path)
        lens = capture.lenses[0]
        assert lens is not None and lens.fisheye and lens.coefficients == k
        assert lens.K.tolist() == [[21, 0, 10.5], [0, parameters[0] + ("OPENCV" in model), 7], [0, 0, 1]]
        assert capture.cameras.Ks[0, 0, 2] == 10.5 and float(capture.cameras.Ks[0, 0, 0]) < 21
