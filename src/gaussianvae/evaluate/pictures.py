"""Side-by-side pictures: the truth, the best closed form and the methods under test, with an enlarged crop below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from gaussianvae.evaluate.evaluate import Evaluation
from gaussianvae.evaluate.rows import Row, draw
from gaussianvae.files import replacing

CROP_SHARE = 4
"""The crop's side is the image's divided by this."""
GAP = 6
LABEL_HEIGHT = 16


def compared_methods(evaluation: Evaluation) -> list[str]:
    """Rows worth a picture: the best closed form, then every row that is no closed form and no classic view of one."""
    others = [row.method for row in evaluation.rows if row.method not in evaluation.closed]
    return [evaluation.best_closed.method, *(name for name in others if not name.endswith("@classic_view"))]


def typical_view(evaluation: Evaluation) -> int:
    """The view of median difference between the first method under test and the best closed form."""
    names = compared_methods(evaluation)
    base = evaluation.row(names[0]).per_view
    if len(names) == 1:
        values = [one.psnr for one in base]
    else:
        other = evaluation.row(names[1]).per_view
        values = [b.psnr - a.psnr for a, b in zip(base, other, strict=True)]
    return sorted(range(len(values)), key=lambda view: values[view])[len(values) // 2]


def largest_difference(a: Float[Tensor, "H W 3"], b: Float[Tensor, "H W 3"], side: int) -> tuple[int, int]:
    """Top-left corner (x, y) of the side x side window in which two images differ most."""
    error = (a - b).abs().mean(-1)
    sums = torch.nn.functional.avg_pool2d(error[None, None].double(), side, stride=1)[0, 0]
    y, x = divmod(int(sums.argmax()), sums.shape[1])
    return x, y


def side_by_side(
    images: Sequence[Float[Tensor, "H W 3"]], labels: Sequence[str], corner: tuple[int, int], side: int
) -> Image.Image:
    """Labeled images in a row, and below each the same crop of it enlarged to its width (pixels kept square)."""
    height, width = images[0].shape[:2]
    zoom = max(1, width // side)
    x, y = corner
    canvas_size = (len(images) * (width + GAP) - GAP, LABEL_HEIGHT + height + GAP + zoom * side)
    canvas = Image.new("RGB", canvas_size, (255, 255, 255))
    pen = ImageDraw.Draw(canvas)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = index * (width + GAP)
        picture = Image.fromarray((image.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        crop = picture.crop((x, y, x + side, y + side)).resize((zoom * side, zoom * side), Image.Resampling.NEAREST)
        pen.text((left + 2, 2), label, fill=(0, 0, 0))
        canvas.paste(picture, (left, LABEL_HEIGHT))
        canvas.paste(crop, (left, LABEL_HEIGHT + height + GAP))
        frame = (left + x, LABEL_HEIGHT + y, left + x + side - 1, LABEL_HEIGHT + y + side - 1)
        pen.rectangle(frame, outline=(255, 0, 0))
    return canvas


def picture(evaluation: Evaluation, view: int) -> Image.Image:
    """One view of truth, best closed form and methods under test; the crop is where the last two differ most.

    Without a method under test, the crop is where the best closed form differs most from the truth.
    """
    names = compared_methods(evaluation)
    methods = {method.name: method for method in evaluation.methods}
    truth = evaluation.truth.fine.images[view]
    drawn = [draw(methods[name], evaluation.truth, view).rgb for name in names]
    side = max(1, min(truth.shape[:2]) // CROP_SHARE)
    corner = largest_difference(drawn[0], drawn[1] if len(drawn) > 1 else truth, side)
    labels = ["truth", *(_label(evaluation.row(name), view) for name in names)]
    return side_by_side([truth, *drawn], labels, corner, side)


def _label(row: Row, view: int) -> str:
    return f"{row.method}  {row.per_view[view].psnr:.2f} dB"


def write_pictures(folder: Path | str, evaluation: Evaluation, views: Sequence[int] | None = None) -> list[Path]:
    """Write one PNG a view (by default only the typical one) as `<view's name>.png`; returns their paths."""
    paths = []
    for view in [typical_view(evaluation)] if views is None else views:
        path = Path(folder) / f"{evaluation.protocol.views[view]}.png"
        save_png(path, picture(evaluation, view))
        paths.append(path)
    return paths


def save_png(path: Path, image: Image.Image | Float[Tensor, "H W 3"]) -> None:
    """Write a picture atomically (tensors are 0-1)."""
    if isinstance(image, torch.Tensor):
        image = Image.fromarray(np.ascontiguousarray((image.clamp(0, 1) * 255).round().to(torch.uint8).numpy()))
    with replacing(path) as beside:
        image.save(beside, "PNG")
