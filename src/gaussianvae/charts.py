"""Line charts as SVG text: a handful of lines needs no plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

COLORS = ("#1b7f5c", "#2456a6", "#b3541e", "#7a3b9c", "#8a6d00", "#555555")
WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT = 640, 320, 50, 40, 130


def line_chart(
    lines: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str, marks: bool = False
) -> str:
    """An SVG of some named lines over common axes.

    Args:
        lines: points (x, y) of each, in the order in which they are joined; an empty chart is fine.
        x_label: what x is.
        y_label: what y is.
        marks: also draw each point.
    """
    points = [point for line in lines.values() for point in line] or [(0.0, 0.0)]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    right, high = (right if right > left else left + 1), (high if high > low else low + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * (x - left) / (right - left)
        return across, 12 + (HEIGHT - BOTTOM - 12) * (high - y) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        value = low + share * (high - low)
        _, y = place(left, value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        x, _ = place(left + share * (right - left), low)
        label = f"{left + share * (right - left):.3g}"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{label}</text>')
    if low < 0 < high:
        _, y = place(left, 0)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#999"/>')
    for index, (name, line) in enumerate(lines.items()):
        color = COLORS[index % len(COLORS)]
        placed = [place(x, y) for x, y in line]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in placed if marks]
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{24 + 18 * index}" fill="{color}">{escape(name)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{HEIGHT - BOTTOM}" fill="#555">{escape(y_label)}</text></svg>')
    return "\n".join(parts) + "\n"
