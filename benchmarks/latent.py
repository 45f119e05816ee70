"""Whether the VAE is one: posterior against prior, draws, and the calibration of their spread, on held-out shards.

    python benchmarks/latent.py SHARDS [--weights FILE] [--json FILE]

posterior_over_prior: PSNR at HR decoded from the posterior's mean minus from the prior's, dB. draw_rms: RMS difference
of two draws' renders in units of 1/255. draw_lr: LR consistency of a draw minus that of the mean, dB. rank_spread,
rank_area: Spearman correlation of the squared error at HR that a Gaussian is responsible for (weighted by its share of
each pixel) with the spread of its draws, and with its projected area.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.model.calibration import judged_views, make_trial, mean_psnr
from gaussianvae.model.residuals import insert
from gaussianvae.model.shards import Shard
from gaussianvae.model.vae import LineageVAE, predict
from gaussianvae.model.weights import held_out, read_weights, shipped_weights
from gaussianvae.rasterize import rasterize, render
from gaussianvae.scene.cameras import footprints
from gaussianvae.scene.imaging import psnr, reduce_image
from gaussianvae.scene.splats import Splats

DRAWS = 8


def responsibility(shard: Shard, fine: Splats, views: list[int]) -> Tensor:
    """Squared error at HR times blending weight, summed over pixels and views, for each Gaussian."""
    total = torch.zeros(len(fine))
    for view in views:
        cameras = shard.fine_cameras
        image = render(fine, cameras, view, filter=PIXEL_FILTER, background=shard.background).rgb
        error = (image - shard.image(view)).square().sum(2)
        # the gradient of sum(error * gray) by a gray color added to each Gaussian is its weight times the error
        gray = torch.zeros(len(fine), 1, 1, requires_grad=True)
        painted = rasterize(
            fine.means, fine.quats, fine.scales, fine.opacities, (gray + 1.0).expand(-1, 1, 3), cameras.viewmats[view],
            cameras.Ks[view], cameras.sizes[view], filter=PIXEL_FILTER,
        ).rgb  # fmt: skip
        (painted[..., 0] * error).sum().backward()
        assert gray.grad is not None
        total += gray.grad[:, 0, 0]
    return total


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's."""
    ranks = torch.stack([x.double().argsort().argsort().double() for x in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


def judge(model: LineageVAE, shard: Shard, step: float) -> dict[str, float | str]:
    """One scene."""
    trial = make_trial(model, shard)
    views = judged_views(shard)
    tokens = trial.tokens

    def finish(residuals: object) -> Splats:
        scaled = residuals.scaled(step)  # type: ignore[attr-defined]
        return insert(shard.anchor, scaled, tokens.frames, tokens.order, trial.chosen)[0]

    with torch.no_grad():
        hidden = model.encode(tokens)
        posterior = model.decode(hidden, model.posterior(hidden, shard.summary).mean)
    mean, informed = finish(trial.residuals), finish(posterior)
    draws = [finish(predict(model, tokens, torch.Generator().manual_seed(seed))) for seed in range(DRAWS)]

    def shots(splats: Splats) -> Tensor:
        with torch.no_grad():
            return torch.stack(
                [
                    render(splats, shard.fine_cameras, v, filter=PIXEL_FILTER, background=shard.background).rgb
                    for v in views
                ]
            )

    truth = torch.stack([shard.image(view) for view in views])
    size = shard.cameras.sizes[0]

    def consistency(images: Tensor) -> float:
        return psnr(reduce_image(images, size), reduce_image(truth, size))

    images = [shots(draw) for draw in (mean, draws[0], draws[1])]
    spread = torch.stack([draw.means for draw in draws]).std(0).norm(dim=1) / mean.scales.amax(1)
    spread = spread + torch.stack([draw.scales.log() for draw in draws]).std(0).norm(dim=1)
    spread = spread + torch.stack([draw.opacities for draw in draws]).std(0)
    fault = responsibility(shard, mean, views)
    phi = footprints(shard.fine_cameras, mean.means)
    area = (mean.scales / phi[:, None]).topk(2, dim=1).values.prod(1)
    seen = fault > 0
    return {
        "scene": shard.name,
        "posterior_over_prior": mean_psnr(shard, informed, PIXEL_FILTER, views)
        - mean_psnr(shard, mean, PIXEL_FILTER, views),
        "draw_rms": 255 * float((images[1] - images[2]).square().mean().sqrt()),
        "draw_lr": consistency(images[1]) - consistency(images[0]),
        "draw_psnr": mean_psnr(shard, draws[0], PIXEL_FILTER, views) - mean_psnr(shard, mean, PIXEL_FILTER, views),
        "rank_spread": rank_correlation(spread[seen], fault[seen]),
        "rank_area": rank_correlation(area[seen], fault[seen]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    weights = read_weights(args.weights) if args.weights else shipped_weights()
    rows = []
    for shard in held_out(weights, args.shards):
        rows.append(judge(weights.model, shard, weights.step_for(shard.splats.recipe)))
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}), flush=True)
    means = {k: round(float(np.mean([float(row[k]) for row in rows])), 3) for k in rows[0] if k != "scene"}
    print("mean", json.dumps(means))
    if args.json:
        args.json.write_text(json.dumps({"mean": means, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
