"""Operators that bring images down: averages, whose widths are those of a pixel and of a lens together."""

from __future__ import annotations

import pytest
import torch

from gaussianvae.scene.imaging import BLURS, OPERATORS, Operator, area_weights, blurred_area_weights, reduce_image


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(("fine", "coarse"), [(24, 8), (25, 8), (31, 30)])
def test_a_plain_image_stays_what_it_is(operator: Operator, fine: int, coarse: int) -> None:
    image = torch.full((fine, fine, 3), 0.3, dtype=torch.float64)
    torch.testing.assert_close(reduce_image(image, (coarse, coarse), operator), image[:coarse, :coarse])


@pytest.mark.parametrize("sigma", sorted(BLURS.values()))
@pytest.mark.parametrize("ratio", [3, 4, 8])
def test_a_blurred_pixel_has_the_variance_of_pixel_and_lens(sigma: float, ratio: int) -> None:
    weights = blurred_area_weights(21 * ratio, 21, sigma)[10]
    places = (torch.arange(21 * ratio, dtype=torch.float64) + 0.5) / ratio - 10.5
    mean = (weights * places).sum()
    assert abs(float(mean)) < 1e-12
    # a pixel of `ratio` samples has the variance of a box but for that of one sample's width
    box = (1 - 1 / ratio**2) / 12
    assert float((weights * places.square()).sum()) == pytest.approx(box + sigma**2, abs=2e-4)


def test_without_a_lens_it_is_the_area_average() -> None:
    torch.testing.assert_close(blurred_area_weights(25, 8, 1e-3), area_weights(25, 8))
