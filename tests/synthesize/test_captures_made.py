"""What is written to disk: the layout, its camera convention, the same bytes from the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("embreex")
pytest.importorskip("manifold3d")

import gaussianvae.captures  # noqa: E402
from gaussianvae.errors import GaussianVAEError  # noqa: E402
from gaussianvae.scene.cameras import NEAR  # noqa: E402
from gaussianvae.synthesize import (  # noqa: E402
    SynthesisConfig,
    build_mesh_scene,
    build_scene,
    place_cameras,
    synthesize_many,
    synthesize_mesh,
    synthesize_procedural,
    trace,
)

CONFIG = SynthesisConfig(views=10, size=40, seed=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return synthesize_procedural(tmp_path_factory.mktemp("made") / "scene", CONFIG)


def test_the_same_seed_gives_the_same_bytes(written, tmp_path):
    again = synthesize_procedural(tmp_path / "again", CONFIG)
    assert contents(again) == contents(written)
    other = synthesize_procedural(tmp_path / "other", SynthesisConfig(views=10, size=40, seed=2))
    assert contents(other)["train/r_000.png"] != contents(written)["train/r_000.png"]


def test_every_eighth_view_is_a_test_view_with_depth(written):
    files = contents(written)
    assert sorted(f for f in files if f.startswith("test/")) == ["test/t_000.png", "test/t_001.png"]
    assert sorted(f for f in files if f.startswith("train/")) == [f"train/r_{i:03d}.png" for i in range(8)]
    assert sorted(f for f in files if f.startswith("depth/")) == ["depth/t_000.npy", "depth/t_001.npy"]
    depth = np.load(written / "depth" / "t_000.npy")
    assert depth.dtype == np.float32 and depth.shape == (40, 40)
    record = json.loads(files["scene.json"])
    assert record["seed"] == 1 and record["factors"]["geometry"] and record["schema"] == "gaussianvae.scene/1"


def test_written_poses_are_those_of_the_traced_cameras(written):
    cameras = place_cameras(build_scene(CONFIG), CONFIG)
    by_name = dict(zip(cameras.names, cameras.viewmats.double().numpy(), strict=True))
    flip = np.diag([1.0, -1, -1, 1])
    for split in ("train", "test"):
        meta = json.loads((written / f"transforms_{split}.json").read_text())
        focal = 0.5 * 40 / np.tan(0.5 * meta["camera_angle_x"])
        assert focal == pytest.approx(float(cameras.Ks[0, 0, 0]), rel=1e-6)
        for frame in meta["frames"]:
            viewmat = np.linalg.inv(np.array(frame["transform_matrix"]) @ flip)
            assert np.abs(viewmat - by_name[Path(frame["file_path"]).name]).max() < 1e-5


@pytest.mark.skipif(not hasattr(gaussianvae.captures, "read_capture"), reason="captures can't be read yet")
def test_the_capture_reads_back(written, tmp_path):
    capture = gaussianvae.captures.read_capture(written)
    assert len(capture.cameras) == 10 and len(capture.test) == 2 and len(capture.train) == 8
    assert capture.has_alpha and set(capture.cameras.sizes) == {(40, 40)}
    scene = build_scene(CONFIG)
    rgba, depth = trace(scene, capture.cameras.select(capture.test))
    assert depth is not None
    for place, view in enumerate(capture.test):
        with Image.open(capture.image_paths[view]) as image:
            stored = np.asarray(image).astype(int)
        # the poses went through JSON and an inverse: a sample on an edge may fall to its other side
        assert np.quantile(np.abs(stored - rgba[place].numpy()), 0.98) <= 2
        path = capture.depth_paths[view]
        assert path is not None
        stored_depth = np.load(path)
        both = np.isfinite(stored_depth) & np.isfinite(depth[place].numpy())
        assert np.median(np.abs(stored_depth[both] - depth[place].numpy()[both])) < 1e-5
    assert all(capture.depth_paths[view] is None for view in capture.train)
    loaded = gaussianvae.captures.load_depths(capture, capture.test, 1.0)
    assert loaded is not None and torch.equal(
        loaded[0], torch.from_numpy(np.load(capture.depth_paths[capture.test[0]]))
    )


def test_cameras_stand_outside_and_see_the_scene():
    for seed in range(4):
        config = SynthesisConfig(views=9, size=32, seed=seed)
        scene = build_scene(config)
        cameras = place_cameras(scene, config)
        rgba, depth = trace(scene, cameras)
        assert depth is not None
        assert float(cameras.positions.norm(dim=1).min()) > 1.1
        assert float(depth.min()) > 10 * NEAR
        cover = (rgba[..., 3] > 0).float().mean((1, 2))
        assert float(cover.mean()) > 0.04 and float(cover.min()) > 0.005
        if scene.hemisphere:
            assert float(cameras.positions[:, 2].min()) > -0.2


def test_a_folder_with_something_in_it_is_refused(written):
    with pytest.raises(GaussianVAEError, match="not an empty folder"):
        synthesize_procedural(written, CONFIG)


def test_nothing_is_left_when_a_write_fails(tmp_path, monkeypatch):
    import gaussianvae.synthesize.capture as module

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write", fail)
    with pytest.raises(GaussianVAEError, match="No space left"):
        synthesize_procedural(tmp_path / "scene", CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_many_scenes_go_on_where_they_were(tmp_path):
    config = SynthesisConfig(views=3, size=16)
    first = synthesize_many(tmp_path, 2, 7, config)
    assert [p.name for p in first] == ["scene_00007", "scene_00008"]
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png")}
    assert len(synthesize_many(tmp_path, 3, 7, config)) == 3
    assert all(p.stat().st_mtime_ns == time for p, time in before.items())


@pytest.mark.parametrize("bad", [{"views": 1}, {"size": 0}, {"supersample": 0}, {"seed": -1}])
def test_impossible_numbers_are_refused(bad):
    with pytest.raises(GaussianVAEError, match="allowed are"):
        SynthesisConfig(**bad)


def test_a_textured_mesh_file_becomes_a_capture(tmp_path):
    mesh = trimesh.creation.box([1, 3, 2])
    texture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8))
    uvs = np.random.default_rng(1).uniform(-1, 2, (len(mesh.vertices), 2))
    mesh.visual = trimesh.visual.TextureVisuals(uv=uvs, image=texture)
    path = tmp_path / "box.glb"
    mesh.export(path)
    scene = build_mesh_scene(path, CONFIG)
    # glTF has y up: the longest side becomes z
    assert np.ptp(scene.surface.corners.reshape(-1, 3), axis=0).argmax() == 2
    assert scene.materials[0].texture.shape == (16, 16, 3)
    folder = synthesize_mesh(tmp_path / "made", path, CONFIG)
    assert len(list((folder / "train").glob("*.png"))) == 8


def test_bad_mesh_files_are_named(tmp_path):
    with pytest.raises(GaussianVAEError, match="no such file"):
        build_mesh_scene(tmp_path / "none.glb", CONFIG)
    (tmp_path / "bad.glb").write_bytes(b"not a mesh at all")
    with pytest.raises(GaussianVAEError, match="can't be read"):
        build_mesh_scene(tmp_path / "bad.glb", CONFIG)


@pytest.mark.real
def test_real_meshes_show_their_textures(data):
    files = sorted((data / "assets").glob("kh_*.glb"))[:3]
    if not files:
        pytest.skip("no meshes among the real data")
    for path in files:
        scene = build_mesh_scene(path, CONFIG)
        rgba, _ = trace(scene, place_cameras(scene, CONFIG).select([2, 5]), depth=False)
        solid = rgba[rgba[..., 3] == 255][:, :3].float()
        assert len(solid) > 50 and float(solid.std()) > 5 and 40 < float(solid.mean()) < 220
