"""What a refinement is said to take."""

from __future__ import annotations

from gaussianvae.fitting.cost import Cost, estimate, peak_bytes


def test_cost_grows_with_steps_rows_and_pixels() -> None:
    base = estimate(0.02, 1000, 5000, 10_000, 640_000)
    assert estimate(0.02, 2000, 5000, 10_000, 640_000).seconds == 2 * base.seconds
    assert estimate(0.02, 1000, 5000, 20_000, 640_000).seconds > base.seconds
    assert estimate(0.02, 1000, 5000, 20_000, 640_000).bytes > base.bytes
    assert estimate(0.02, 1000, 5000, 10_000, 6_400_000).bytes > base.bytes > peak_bytes() > 1e7


def test_it_is_said_in_units_that_people_use() -> None:
    assert str(Cost(75.0, 1.26e9)) == "about 75 seconds and 1.3 GB of memory"
    assert str(Cost(1300.0, 4e8)) == "about 22 minutes and 0.4 GB of memory"
