"""The conditional VAE: prior p(z | tokens), posterior q(z | tokens, descendants), decoder p(residuals | tokens, z)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gaussianvae.model.decoder import Decoder
from gaussianvae.model.encoder import Encoder, Standardize, mlp
from gaussianvae.model.residuals import Residuals
from gaussianvae.model.tokens import SUMMARY, Tokens, truncated

LOG_VARIANCE = (-6.0, 2.0)
TEMPERATURE = 0.4
"""Of draws at use: at 1, independent draws of neighbors cost 1.2 dB of LR consistency (benchmarks/latent.py)."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network."""

    width: int = 96
    """Width of every hidden layer."""
    latent: int = 8
    """Latent numbers a Gaussian; 0 for a plain network."""
    neighbors: bool = True
    """Pooled context from the nearest Gaussians."""
    curvature: bool = True
    """Whether the Hessian's determinacy was an input in training; else it is hidden at use, too."""
    constant: bool = False
    """Nothing of a Gaussian is seen: all get the same residuals (an ablation)."""


@dataclass(frozen=True)
class Normal:
    """Independent normal distributions, one a latent number."""

    mean: Float[Tensor, "N Z"]
    log_variance: Float[Tensor, "N Z"]

    def draw(self, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """One sample, differentiable in mean and variance; deviations are scaled by `temperature`."""
        noise = torch.randn(self.mean.shape, generator=generator).to(self.mean)
        return self.mean + temperature * noise * (0.5 * self.log_variance).exp()

    def divergence(self, other: Normal) -> Float[Tensor, "N Z"]:
        """KL(self || other) of each latent number, nats."""
        ratio = (self.log_variance - other.log_variance).exp()
        distance = (self.mean - other.mean).square() / other.log_variance.exp()
        return 0.5 * (ratio + distance - 1 - self.log_variance + other.log_variance)


class LineageVAE(nn.Module):
    """Predicts residuals of every Gaussian from its tokens and a latent."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.width, config.neighbors)
        hidden = self.encoder.width
        self.decoder = Decoder(hidden, config.latent, config.width)
        self.prior_net = mlp(hidden, config.width // 2, 2 * config.latent) if config.latent else None
        self.summary_scale = Standardize(SUMMARY)
        self.posterior_net = mlp(hidden + SUMMARY, config.width, 2 * config.latent) if config.latent else None

    def encode(self, tokens: Tokens) -> Float[Tensor, "N H"]:
        """Hidden vectors."""
        if not self.config.curvature:
            tokens = truncated(tokens, tokens.ancestors.shape[1], keep_curvature=False)
        out: Tensor = self.encoder(tokens)
        return torch.zeros_like(out) if self.config.constant else out

    def prior(self, hidden: Tensor) -> Normal:
        """What is expected of each Gaussian's finer descendants."""
        return _normal(self.prior_net, hidden)

    def posterior(self, hidden: Tensor, summary: Float[Tensor, "N 16"]) -> Normal:
        """The same, knowing what became of them."""
        return _normal(self.posterior_net, torch.cat([hidden, self.summary_scale(summary)], 1))

    def decode(self, hidden: Tensor, latent: Tensor) -> Residuals:
        """Bounded residuals."""
        out: Residuals = self.decoder(hidden, latent)
        return out

    def forward(self, tokens: Tokens) -> Residuals:
        """The deterministic prediction: decoded from the prior's mean."""
        hidden = self.encode(tokens)
        return self.decode(hidden, self.prior(hidden).mean)

    def num_parameters(self) -> int:
        """Trained numbers, all told."""
        return sum(p.numel() for p in self.parameters())


def _normal(net: nn.Module | None, inputs: Tensor) -> Normal:
    if net is None:
        return Normal(inputs[:, :0], inputs[:, :0])
    mean, log_variance = net(inputs).float().chunk(2, 1)
    return Normal(mean, log_variance.clamp(*LOG_VARIANCE))


def predict(
    model: LineageVAE, tokens: Tokens, generator: torch.Generator | None = None, chunk: int = 16384
) -> Residuals:
    """Residuals of all rows without gradients, in chunks that stay in the cache.

    Args:
        model: trained.
        tokens: of N rows.
        generator: draws from the prior (at `TEMPERATURE`) where given; else its mean is decoded.
        chunk: rows at a time.
    """
    parts = []
    with torch.inference_mode():
        for start in range(0, len(tokens), chunk):
            rows = torch.arange(start, min(start + chunk, len(tokens)), device=tokens.own.device)
            hidden = model.encode(tokens.select(rows))
            prior = model.prior(hidden)
            parts.append(model.decode(hidden, prior.mean if generator is None else prior.draw(generator, TEMPERATURE)))
        if not parts:
            return model(tokens)
    return Residuals(torch.cat([p.geometry for p in parts]), torch.cat([p.appearance for p in parts]))
