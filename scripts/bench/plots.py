"""Line charts as SVG, for scripts/bench/brokers."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 92, 24, 84, 64
# Told apart by the colour-blind, too; the marks differ besides.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]


def short(value):
    for size, letter in ((1e6, "M"), (1e3, "k")):
        # 1024 bytes are not 1.024k.
        if value >= size and len(f"{value / size:g}") <= 3:
            return f"{value / size:g}{letter}"
    return f"{value:,g}" if value < 1e5 else f"{value:,.0f}"


def scale_of(values, log):
    """A function from a value to 0..1, and the values at which lines are drawn."""
    if log:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        high = max(high, low + 1)
        steps = (1, 2, 5) if high - low <= 3 else (1,)
        ticks = [step * 10 ** power for power in range(low, high) for step in steps] + [10 ** high]
        return (lambda value: (math.log10(value) - low) / (high - low)), ticks
    top = max(values)
    step = 10 ** math.floor(math.log10(top))
    step = next(step * part for part in (0.1, 0.2, 0.5, 1, 2) if top / (step * part) <= 6)
    high = math.ceil(top / step) * step
    return (lambda value: value / high), [step * n for n in range(round(high / step) + 1)]


def mark(shape, x, y, colour):
    if shape == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'
    corners = [[(-4, -4), (4, -4), (4, 4), (-4, 4)], [(0, -5.5), (5, 4), (-5, 4)], [(0, -6), (6, 0), (0, 6), (-6, 0)]][shape - 1]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" fill="{colour}"/>'


def svg(title, x_label, y_label, points, series, log):
    """`series` is {name: [(x, y)]}; x is logarithmic, y is if `log`."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    y_of, ticks = scale_of([y for line in series.values() for _, y in line], log)
    first, last = math.log10(points[0]), math.log10(points[-1])
    x = lambda value: LEFT + 16 + (math.log10(value) - first) / (last - first) * (right - LEFT - 32)
    y = lambda value: bottom - y_of(value) * (bottom - TOP)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222">',
        f'<title>{escape(title)}</title>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="28" font-size="17" font-weight="bold">{escape(title)}</text>',
    ]
    for tick in ticks:
        out.append(f'<line x1="{LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4.5:.1f}" text-anchor="end">{short(tick)}</text>')
    for point in points:
        out.append(f'<line x1="{x(point):.1f}" x2="{x(point):.1f}" y1="{bottom}" y2="{bottom + 5}" stroke="#222"/>')
        out.append(f'<text x="{x(point):.1f}" y="{bottom + 20}" text-anchor="middle">{short(point)}</text>')
    out.append(f'<polyline points="{LEFT},{TOP} {LEFT},{bottom} {right},{bottom}" fill="none" stroke="#222"/>')
    out.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 16}" text-anchor="middle">{escape(x_label)}</text>')
    middle = (TOP + bottom) / 2
    out.append(f'<text x="24" y="{middle}" text-anchor="middle" transform="rotate(-90 24 {middle})">{escape(y_label)}</text>')
    legend = LEFT
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        out += [mark(number % 4, x(at), y(value), colour) for at, value in line]
        out.append(f'<line x1="{legend}" x2="{legend + 28}" y1="52" y2="52" stroke="{colour}" stroke-width="2.5"/>')
        out.append(mark(number % 4, legend + 14, 52, colour))
        out.append(f'<text x="{legend + 36}" y="56.5">{escape(name)}</text>')
        legend += 60 + 8 * len(name)
    return "\n".join(out + ["</svg>"]) + "\n"
