"""Real spherical harmonics with the signs of 3D Gaussian Splatting, degree 0 to 3.

A color is max(0, 0.5 + sum_k sh[k] Y_k(direction)), direction from the camera to the Gaussian, world frame.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

C0 = 0.28209479177387814  # Y_0: the base color is 0.5 + C0 * sh0
MAX_DEGREE = 3


def num_coefficients(degree: int) -> int:
    """Coefficients per channel up to and with `degree`: (degree + 1)^2."""
    return (degree + 1) ** 2


def degree_of(coefficients: int) -> int:
    """Degree of an expansion of `coefficients` coefficients per channel (1, 4, 9 or 16)."""
    degree = math.isqrt(coefficients) - 1
    if num_coefficients(degree) != coefficients:
        raise ValueError(f"{coefficients} coefficients are no whole number of bands; expected 1, 4, 9 or 16")
    return degree


def sh_basis(directions: Float[Tensor, "*B 3"], degree: int) -> Float[Tensor, "*B K"]:
    """The (degree + 1)^2 basis functions at unit directions."""
    x, y, z = directions.unbind(-1)
    terms = [torch.full_like(x, C0)]
    if degree >= 1:
        terms += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    xx, yy, zz = x * x, y * y, z * z
    if degree >= 2:
        terms += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * zz - xx - yy),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
        ]
    if degree >= 3:
        terms += [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * zz - xx - yy),
            0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
            -0.4570457994644658 * x * (4 * zz - xx - yy),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]
    return torch.stack(terms, -1)


def sh_colors(sh: Float[Tensor, "N K 3"], directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Colors (RGB, at least 0) of coefficients seen along unit directions."""
    basis = sh_basis(directions, degree_of(sh.shape[1]))
    return (torch.einsum("nk,nkc->nc", basis, sh) + 0.5).clamp_min(0)


def band_rotation(rotation: Float[Tensor, "3 3"], band: int) -> Float[Tensor, "K K"]:
    """The matrix that turns the 2 band + 1 coefficients of one band along with the world.

    The turned function f'(d) = f(R^T d) lies in the same band, so its coefficients follow exactly from the
    values at enough directions; computed in float64.
    """
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(64, 3, generator=generator, dtype=torch.float64), dim=-1)
    turn = rotation.double().cpu()
    columns = slice(band * band, (band + 1) ** 2)
    here = sh_basis(directions, band)[:, columns]
    there = sh_basis(directions @ turn, band)[:, columns]
    return torch.linalg.lstsq(here, there).solution.to(rotation)


def rotate_sh(shN: Float[Tensor, "N K 3"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "N K 3"]:
    """Higher bands of a splat whose world is turned by `rotation` (the base color needs no turning)."""
    degree = degree_of(shN.shape[1] + 1)
    bands = [
        torch.einsum("jk,nkc->njc", band_rotation(rotation, band), shN[:, band * band - 1 : (band + 1) ** 2 - 1])
        for band in range(1, degree + 1)
    ]
    return torch.cat(bands, 1) if bands else shN
