"""Training: it learns on a tiny scene, repeats, and resumes as if it had never stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.errors import GaussianVAEError
from gaussianvae.growth.lineage import Level, Lineage
from gaussianvae.model import training
from gaussianvae.model.calibration import calibrate, smallest_good
from gaussianvae.model.card import write_card, write_curves, write_panels
from gaussianvae.model.shards import Shard, read_shard, shard_paths, write_shard
from gaussianvae.model.training import TrainConfig, prepare, step_loss, train
from gaussianvae.model.vae import LineageVAE, ModelConfig
from gaussianvae.model.weights import untrained
from gaussianvae.rasterize import render
from gaussianvae.scene.cameras import resize
from gaussianvae.scene.splats import Splats
from scenes import random_splats, ring_cameras

CONFIG = TrainConfig(steps=8, width=16, latent=4, views=1, crop=32)


def tiny_shard(folder: Path, seed: int = 0) -> Shard:
    """A cloud whose "fit" is the truth made twice as wide: there is something to learn."""
    truth = random_splats(60, degree=0, seed=seed)
    splats = replace(truth, scales=2 * truth.scales)
    cameras = ring_cameras(5, 24)
    fine = resize(cameras, 0.5)
    images = torch.stack([render(truth, fine, view, filter=PIXEL_FILTER).rgb for view in range(5)])
    path = folder / f"scene_{seed:06d}.safetensors"
    write_shard(
        path,
        name=path.stem,
        splats=splats,
        lineage=Lineage((Level(2.0, splats, torch.arange(60)),)),
        finer=truth,
        parents=torch.arange(60),
        cameras=cameras.select(range(4)),
        fine_cameras=fine,
        images=(images.clamp(0, 1) * 255).round().to(torch.uint8),
        seen=[True] * 4 + [False],
        scale=2.0,
        background=torch.zeros(3),
        notes={},
    )
    return read_shard(path)


def same(a: LineageVAE, b: LineageVAE) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_shard_survives_its_file(tmp_path: Path) -> None:
    shard = tiny_shard(tmp_path)
    assert len(shard.splats) == 60 and shard.scale == 2.0 and shard.seen.tolist() == [True] * 4 + [False]
    assert shard.splats.recipe.mode == "mip" and len(shard.lineage.levels) == 1
    assert shard.image(4).shape == (48, 48, 3)
    (tmp_path / ".half.safetensors").write_bytes(b"")
    assert shard_paths(tmp_path) == [shard.path]
    shard.path.write_bytes(b"broken")
    with pytest.raises(GaussianVAEError, match="shard"):
        read_shard(shard.path)
    with pytest.raises(GaussianVAEError, match="no shards"):
        shard_paths(tmp_path / "nowhere")


def test_gradients_reach_every_part_of_the_network(tmp_path: Path) -> None:
    shards = [tiny_shard(tmp_path)]
    scenes = prepare(shards, CONFIG)
    model = untrained(ModelConfig(CONFIG.width, CONFIG.latent), 0)
    for head in (model.decoder.geometry, model.decoder.appearance):
        torch.nn.init.normal_(head.out.weight, std=0.1)
    for step in range(4):  # some steps show no ancestors
        step_loss(model, scenes, CONFIG, step)[0].backward()
    for name, parameter in model.named_parameters():
        if "place" in name:
            continue  # only the places of ancestors that exist
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, name


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    shards = [tiny_shard(tmp_path)]
    config = replace(CONFIG, steps=120, rate=1e-2)
    model = train(shards, config)
    scenes = prepare(shards, config)

    def loss(one: LineageVAE) -> float:
        return sum(step_loss(one, scenes, config, step)[1]["prior"] for step in range(1000, 1012)) / 12

    assert loss(model) < 0.9 * loss(untrained(ModelConfig(config.width, config.latent), 0))


def test_stopped_it_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [tiny_shard(tmp_path, seed) for seed in (0, 1)]
    whole = train(shards, CONFIG)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    real, checkpoint = training.step_loss, tmp_path / "c.ckpt"

    def stopping(*args: object) -> object:
        if args[3] == 5:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "step_loss", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(shards, CONFIG, checkpoint=checkpoint)
    monkeypatch.setattr(training, "step_loss", real)
    assert same(whole, train(shards, CONFIG, checkpoint=checkpoint))
    with pytest.raises(GaussianVAEError, match="another config"):
        train(shards, replace(CONFIG, rate=1e-3), checkpoint=checkpoint)
    with pytest.raises(GaussianVAEError, match="other"):
        train(shards[:1], CONFIG, checkpoint=checkpoint)


def test_calibration_and_what_is_left_for_people(tmp_path: Path) -> None:
    shards = [tiny_shard(tmp_path)]
    log = tmp_path / "log.jsonl"
    model = train(shards, replace(CONFIG, steps=60, rate=1e-2), log=log)
    result = calibrate(model, shards, PIXEL_FILTER)
    assert result.scenes == {"mip": 1} and 0 <= result.steps["mip"] <= 1.5
    gains = result.gains["mip"]
    assert gains[f"{result.steps['mip']:g}"] == max(gains.values())
    write_curves(log, tmp_path / "curves.svg")
    assert "<polyline" in (tmp_path / "curves.svg").read_text()
    write_panels(model, shards, dict(result.steps), tmp_path / "panels.png")
    assert (tmp_path / "panels.png").stat().st_size > 1000
    write_card(tmp_path / "card.md", model, CONFIG, result, [shards[0].name])
    assert "| mip | 1 |" in (tmp_path / "card.md").read_text()


def test_the_fits_themselves_are_judged_with_their_closed_forms(tmp_path: Path) -> None:
    shard = tiny_shard(tmp_path)
    assert isinstance(shard.anchor, Splats) and len(shard.anchor) == 60
    assert shard.curvature.block.shape == (60, 6, 6) and shard.summary.shape == (60, 16)


def test_the_smallest_step_that_is_not_measurably_worse_is_taken() -> None:
    noisy = np.array([[0.0, 1.0, 1.3], [0.0, 1.1, 0.9], [0.0, 0.9, 1.0]])  # the last column is best by noise alone
    clear = np.array([[0.0, 1.0, 1.2], [0.0, 1.0, 1.3], [0.0, 1.0, 1.2]])
    assert smallest_good(noisy) == 1
    assert smallest_good(clear) == 2
    assert smallest_good(clear[:1]) == 2
