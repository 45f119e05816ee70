from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gaussianvae.captures import Capture
from gaussianvae.errors import GaussianVAEError
from gaussianvae.evaluate.protocol import choose_protocol
from gaussianvae.scene.cameras import Cameras


@pytest.fixture
def capture() -> Capture:
    names = tuple(f"r_{view}" for view in range(5))
    cameras = Cameras(torch.eye(4).repeat(5, 1, 1), torch.eye(3).repeat(5, 1, 1), ((800, 800),) * 5, names)
    paths = tuple(Path(f"{name}.png") for name in names)
    return Capture(Path("toy"), cameras, paths, (0, 1, 2), (3, 4), True, (None,) * 5)


@pytest.mark.parametrize(
    ("factor", "scale", "name", "judged"),
    [
        (4.0, None, "object-x4", 1),
        (8.0, None, "object-x4-half", 2),
        (2.0, None, "lr2-x2", 1),
        (6.0, 1.5, "lr6-x1.5", 4),
    ],
)
def test_names_and_judged_factors(capture: Capture, factor: float, scale: float, name: str, judged: float) -> None:
    protocol = choose_protocol(capture, factor, scale)
    assert protocol.name == name
    assert protocol.judged_factor == pytest.approx(judged)
    assert protocol.views == ("r_3", "r_4")


def test_photos_without_alpha_aren_t_called_objects(capture: Capture) -> None:
    photos = replace(capture, has_alpha=False)
    assert choose_protocol(photos, 16.0).name == "photo-x4"
    assert choose_protocol(photos, 8.0).name == "lr8-x4"


def test_the_hash_depends_on_everything_that_changes_a_figure(capture: Capture) -> None:
    fewer = replace(capture, test=(3,))
    protocols = [
        choose_protocol(capture, 8.0),
        choose_protocol(capture, 4.0),
        choose_protocol(capture, 8.0, 2.0),
        choose_protocol(capture, 8.0, background=(1.0, 1.0, 1.0)),
        choose_protocol(fewer, 8.0),
    ]
    assert len({protocol.hash for protocol in protocols}) == len(protocols)
    assert choose_protocol(capture, 8.0).hash == protocols[0].hash


@pytest.mark.parametrize(
    ("factor", "scale", "complaint"),
    [
        (0.5, None, "at least 1"),
        (float("nan"), None, "at least 1"),
        (4.0, 8.0, "from 1 to 4"),
        (4.0, 0.5, "from 1 to 4"),
    ],
)
def test_what_the_photos_can_t_judge(capture: Capture, factor: float, scale: float | None, complaint: str) -> None:
    with pytest.raises(GaussianVAEError, match=complaint):
        choose_protocol(capture, factor, scale)


def test_without_test_views_nothing_is_judged(capture: Capture) -> None:
    with pytest.raises(GaussianVAEError, match="no test views"):
        choose_protocol(replace(capture, test=()), 4.0)
