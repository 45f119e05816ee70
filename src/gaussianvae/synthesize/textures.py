"""Tileable textures of known frequency content: what a surface shows at the scale of a few pixels.

A texture is an 8-bit image (N, N, 3) in display values. Its `feature` is the size of its finest regular detail in
texels, drawn log-uniformly, so that renders of any size hold detail from below a pixel to many pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial import cKDTree

Pattern = Float[np.ndarray, "N N 3"]
Plane = Float[np.ndarray, "N N"]

FEATURE_RANGE = (4.0, 56.0)
"""Smallest and largest feature size in texels."""
LETTERS = "ABCDEFGHKLMNPRSTXYZabcdefghjkmnpqrstuvwxyz0123456789#@&%+=?"


def palette(random: np.random.Generator, count: int) -> Float[np.ndarray, "K 3"]:
    """Colors that go together: vivid, dull, gray, one hue in several tones, or dark against light."""
    mode = random.integers(5)
    colors = random.uniform(0, 1, (count, 3))
    if mode == 1:
        colors = 0.5 + 0.35 * (colors - 0.5) + 0.3 * random.uniform(-0.5, 0.5, (1, 3))
    elif mode == 2:
        colors = random.uniform(0, 1, (count, 1)) * random.uniform(0.85, 1, (1, 3))
    elif mode == 3:
        colors = random.uniform(0.2, 1, (1, 3)) * random.uniform(0.3, 1.2, (count, 1))
    elif mode == 4:
        lightness = np.where(np.arange(count) % 2, 0.1, 0.8)[:, None] * random.uniform(0.8, 1.2, (count, 1))
        colors = lightness + 0.15 * random.uniform(-1, 1, (count, 3))
    return np.asarray(np.clip(colors, 0.03, 0.97))


def power_noise(random: np.random.Generator, size: int, exponent: float) -> Plane:
    """Periodic noise with amplitude spectrum f^-exponent, mean 0.5, standard deviation 0.2, clipped to 0-1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(random.standard_normal((size, size))) * frequency**-exponent
    spectrum[0, 0] = 0.0
    plane = np.fft.irfft2(spectrum, s=(size, size))
    return np.asarray(np.clip(0.5 + 0.2 * plane / max(float(plane.std()), 1e-12), 0, 1))


def coordinates(size: int) -> tuple[Plane, Plane]:
    """x and y of the texels, 0-1."""
    axis = (np.arange(size) + 0.5) / size
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return x, y


def blend(weight: Plane, low: np.ndarray, high: np.ndarray) -> Pattern:
    """Colors from `low` (weight 0) to `high` (weight 1)."""
    return np.asarray(low + (high - low) * weight[..., None])


def noise(random: np.random.Generator, size: int, feature: float) -> Pattern:
    """1/f noise between two colors, smooth or thresholded to blotches, colored at times."""
    low, high = palette(random, 2)
    plane = power_noise(random, size, random.uniform(0.5, 1.8))
    if random.random() < 0.3:
        plane = (plane > 0.5).astype(float)
    pattern = blend(plane, low, high)
    if random.random() < 0.4:
        exponent = random.uniform(0.7, 1.5)
        pattern += 0.5 * (np.stack([power_noise(random, size, exponent) for _ in range(3)], -1) - 0.5)
    return pattern


def stripes(random: np.random.Generator, size: int, feature: float) -> Pattern:
    """Bands or a sine wave along a lattice direction (so that they tile)."""
    x, y = coordinates(size)
    cycles = max(1.0, size / feature / 2)
    angle = random.choice([0.0, np.pi / 2, random.uniform(0, np.pi)])
    phase = round(cycles * np.cos(angle)) * x + round(cycles * np.sin(angle)) * y
    if random.random() < 0.3:
        low, high = palette(random, 2)
        return blend(0.5 + 0.5 * np.sin(2 * np.pi * phase), low, high)
    count = int(random.integers(2, 5))
    edges = np.sort(random.uniform(0.1, 0.9, count - 1))
    return np.asarray(palette(random, count)[np.searchsorted(edges, phase % 1)])


def checks(random: np.random.Generator, size: int, feature: float) -> Pattern:
    """A chess board, with joints at times."""
    x, y = coordinates(size)
    count = 2 * max(1, round(size / feature / 2))
    first, second, joint = palette(random, 3)
    odd = (np.floor(x * count) + np.floor(y * count)) % 2
    pattern = blend(odd, first, second)
    if random.random() < 0.4:
        pattern[np.minimum(x * count % 1, y * count % 1) < random.uniform(0.08, 0.2)] = joint
    return pattern


def voronoi(random: np.random.Generator, size: int, feature: float) -> Pattern:
    """Colored cells (pebbles, mosaic, cracked earth), with dark borders at times."""
    x, y = coordinates(size)
    count = int(np.clip((size / (2 * feature)) ** 2, 12, 4000))
    seeds = random.uniform(0, 1, (count, 2))
    distances, cells = cKDTree(seeds, boxsize=1.0).query(np.stack([x, y], -1).reshape(-1, 2), k=2)
    few = palette(random, int(random.integers(3, 9)))
    colors = np.clip(few[random.integers(len(few), size=count)] + random.uniform(-0.08, 0.08, (count, 3)), 0, 1)
    pattern = colors[cells[:, 0]].reshape(size, size, 3)
    if random.random() < 0.6:
        gap = ((distances[:, 1] - distances[:, 0]) * np.sqrt(count)).reshape(size, size, 1)
        pattern = pattern * np.where(gap > random.uniform(0.08, 0.25), 1.0, random.uniform(0.1, 0.5))
    return np.asarray(pattern)


def glyphs(random: np.random.Generator, size: int, feature: float) -> Pattern:
    """Lines of text on a plain ground, as on labels and pages."""
    ground, *inks = palette(random, 3)
    image = Image.new("RGB", (size, size), _ink(ground))
    draw = ImageDraw.Draw(image)
    height = float(np.clip(3 * feature, 11, 96))
    font = ImageFont.load_default(height)
    for top in np.arange(0, size, 1.25 * height):
        if random.random() < 0.12:
            continue
        text = "".join(random.choice(list(LETTERS), size=int(2 * size / height)))
        text = text if random.random() < 0.3 else " ".join(text[i : i + 5] for i in range(0, len(text), 5))
        draw.text((-float(random.uniform(0, height)), float(top)), text, fill=_ink(inks[random.integers(2)]), font=font)
    return np.asarray(image, np.float64) / 255.0


def marble(random: np.random.Generator, size: int, feature: float) -> Pattern:
    """Veins: a wave along one axis bent by smooth noise."""
    x, _ = coordinates(size)
    low, high = palette(random, 2)
    cycles = np.clip(round(size / feature / 8), 1, 12)
    bent = cycles * x + random.uniform(1, 5) * power_noise(random, size, 1.7)
    vein = 0.5 + 0.5 * np.sin(2 * np.pi * bent)
    return blend(vein ** random.uniform(0.4, 4), low, high)


def flat(random: np.random.Generator, size: int, feature: float) -> Pattern:
    """One color."""
    return np.broadcast_to(palette(random, 1)[0], (size, size, 3)).copy()


def bricks(random: np.random.Generator, size: int, feature: float) -> Pattern:
    """Courses of bricks or tiles with joints, each brick of its own tone."""
    x, y = coordinates(size)
    rows = 2 * max(1, round(size / feature / 4))
    columns = max(1, round(rows * random.uniform(0.35, 1)))
    row = np.floor(y * rows).astype(int)
    shifted = x * columns + (0.5 * (row % 2) if random.random() < 0.7 else 0.0)
    column = np.floor(shifted).astype(int) % columns
    base, joint = palette(random, 2)
    tones = base + random.uniform(-0.2, 0.2, (rows, columns, 1)) + random.uniform(-0.06, 0.06, (rows, columns, 3))
    width = random.uniform(0.06, 0.16)
    in_joint = (y * rows % 1 < width) | (shifted % 1 < width * columns / rows)
    return np.asarray(np.where(in_joint[..., None], joint, tones[row, column]))


def grid(random: np.random.Generator, size: int, feature: float) -> Pattern:
    """Thin lines on a plain ground: graph paper, perforated sheet, or a fine mesh of dots."""
    x, y = coordinates(size)
    ground, line = palette(random, 2)
    count = max(2, round(size / feature / 2))
    u, v = x * count % 1, y * count % 1
    if random.random() < 0.3:
        drawn = np.hypot(u - 0.5, v - 0.5) < random.uniform(0.2, 0.4)
    else:
        width = random.uniform(0.08, 0.25)
        drawn = (u < width) | (v < width)
    return blend(drawn.astype(float), ground, line)


def decals(random: np.random.Generator, size: int, feature: float) -> Pattern:
    """Small shapes of several colors strewn on a plain ground."""
    colors = palette(random, 6)
    image = Image.new("RGB", (size, size), _ink(colors[0]))
    draw = ImageDraw.Draw(image)
    for _ in range(int(np.clip(0.12 * (size / feature) ** 2, 8, 900))):
        cx, cy = random.uniform(0, size, 2)
        radius = feature * random.uniform(0.4, 1.6)
        ink, kind, turn = _ink(colors[1 + random.integers(5)]), random.integers(4), random.uniform(0, 360)
        # drawn at the opposite border too, so that the texture tiles
        for dx in (0, -size if cx > size / 2 else size):
            for dy in (0, -size if cy > size / 2 else size):
                x, y = cx + dx, cy + dy
                if kind == 0:
                    draw.ellipse([x - radius, y - 0.7 * radius, x + radius, y + 0.7 * radius], fill=ink)
                elif kind == 1:
                    draw.regular_polygon((x, y, radius), int(3 + turn % 4), rotation=turn, fill=ink)
                elif kind == 2:
                    draw.rectangle([x - radius, y - radius / 3, x + radius, y + radius / 3], fill=ink)
                else:
                    end = (x + radius * np.cos(turn), y + radius * np.sin(turn))
                    draw.line([(x, y), end], fill=ink, width=max(1, round(radius / 4)))
    return np.asarray(image, np.float64) / 255.0


def wood(random: np.random.Generator, size: int, feature: float) -> Pattern:
    """Planks with grain: stretched noise along one axis, darker joints between."""
    _, y = coordinates(size)
    planks = int(random.integers(1, 7))
    plank = np.floor(y * planks).astype(int)
    long = power_noise(random, size, 1.2)
    # rows are shuffled fast and columns slow: the same noise, compressed along y
    stretch = max(2, round(size / feature / 4))
    rows = (np.arange(size) * stretch) % size
    grain = long[rows][:, np.arange(size) // 2]
    tone = random.uniform(-0.12, 0.12, planks)[plank]
    low = np.array([0.30, 0.17, 0.08]) + random.uniform(-0.08, 0.15, 3)
    pattern = blend(np.clip(grain + tone, 0, 1), low, np.clip(low * random.uniform(1.6, 2.6), 0, 0.95))
    return pattern * np.where((y * planks % 1 < 0.03) & (planks > 1), 0.3, 1.0)[..., None]


def weave(random: np.random.Generator, size: int, feature: float) -> Pattern:
    """Over and under threads of two colors: cloth and wicker."""
    x, y = coordinates(size)
    count = 2 * max(1, round(size / feature / 2))
    warp, weft = palette(random, 2)
    u, v = x * count, y * count
    over = (np.floor(u) + np.floor(v)) % 2
    ridge = np.where(over > 0, np.sin(np.pi * (v % 1)), np.sin(np.pi * (u % 1)))
    return blend(over, warp, weft) * (0.35 + 0.65 * ridge**0.5)[..., None]


FAMILIES: dict[str, Callable[[np.random.Generator, int, float], Pattern]] = {
    "noise": noise,
    "stripes": stripes,
    "checks": checks,
    "voronoi": voronoi,
    "glyphs": glyphs,
    "marble": marble,
    "flat": flat,
    "bricks": bricks,
    "grid": grid,
    "decals": decals,
    "wood": wood,
    "weave": weave,
}
"""Texture families by name."""


def make_texture(random: np.random.Generator, family: str, size: int = 512) -> UInt8[np.ndarray, "N N 3"]:
    """One texture of a family, `size` texels square.

    Half of them (never `flat`) carry a grain or stains of 1/f noise above their pattern, as used things do.
    """
    low, high = np.log(FEATURE_RANGE)
    pattern = FAMILIES[family](random, size, float(np.exp(random.uniform(low, high))))
    if family not in ("flat", "noise") and random.random() < 0.5:
        strength = random.uniform(0.1, 0.6)
        pattern = pattern * (
            1 - strength + 2 * strength * power_noise(random, size, random.uniform(0.4, 1.4))[..., None]
        )
    return np.asarray((np.clip(pattern, 0, 1) * 255).round(), np.uint8)


def _ink(color: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(round(255 * float(value))) for value in color)
    return red, green, blue
