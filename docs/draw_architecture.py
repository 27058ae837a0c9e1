"""Draw the rooms of the program and which of them use which: ``python -m docs.draw_architecture`` from the checkout.

The layers are those that tests/test_architecture.py checks; the lines are the imports of the code as it is now, without
those that another way along the lines implies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests import test_architecture as house

DRAWING = Path(__file__).with_name("architecture.svg")

Layers = Sequence[Sequence[str]]
Edges = Mapping[str, set[str]]

_WIDE, _ROW, _BOX, _GAP, _MARGIN = 1040, 58, 30, 14, 24
_SAYS = {
    "jobs": "whole jobs: files in, results out",
    "predict": "fold models, what-if, contributions",
    "checkpoints": "weights of others",
    "cohort": "folder, sources, folds",
    "output": "files of a result",
    "bundle": "a trained model",
    "features": "one row a patch",
    "clinical": "record, sentences",
    "encoders": "image, text, gene",
    "tissue": "outlines, patches",
    "genomics": "expression, gene sets",
    "slide": "levels, tiles, formats",
    "models": "one file a system",
    "attention": "scores, maps",
    "entry": "napari.yaml, survpgc view",
    "dock": "the sections and the banner",
    "views/panels": "the panels in their order",
    "views/patient": "one file a panel",
    "views/cohort": "table, curves, comparison",
    "canvas": "layers of napari",
    "views/widgets": "parts of panels",
    "window": "drop, several windows",
    "session": "the open case, cohort, work",
    "data": "a cohort as tensors",
    "evaluation": "scores, calibration, comparison",
    "experiments": "one file a table or figure",
    "fitting": "batches, optimizer, one fold",
    "runs": "run.json, predictions, bundling",
    "systems": "networks, Cox models",
    "tables": "plan, scores, CSV and HTML",
}
_COLORS = {
    "app": "#dbe9f6",
    "training": "#e6e0f2",
    "simulation": "#f3ead7",
    "core": "#dff0e3",
    "commands": "#eeeeee",
}


def room_edges(part: str) -> dict[str, set[str]]:
    """Return room -> rooms of the same part that its modules import."""
    edges: dict[str, set[str]] = {room: set() for layer in house.LAYERS[part] for room in sorted(layer)}
    for name, path in house.MODULES.items():
        if name.startswith(f"{house.PACKAGE}.{part}."):
            mine = house._room(name)
            its = {
                house._room(one.module)
                for one in house._imports(name, path)
                if house._part(one.module) == part
            }
            edges[mine] |= its - {mine}
    return edges


def part_edges() -> dict[str, set[str]]:
    """Return part -> other parts that its modules import."""
    edges: dict[str, set[str]] = {part: set() for part in house.PARTS}
    for name, path in house.MODULES.items():
        if name.count(".") and (part := house._part(name)) in edges:
            its = {house._part(one.module) for one in house._imports(name, path)}
            edges[part] |= (its & set(edges)) - {part}
    return edges


def without_implied(edges: Edges) -> dict[str, set[str]]:
    """Leave out what is reached by a longer way as well (the graph has no circles)."""

    def below(room: str) -> set[str]:
        return {far for near in edges[room] for far in {near, *below(near)}}

    return {
        room: {to for to in its if not any(to in below(via) for via in its)} for room, its in edges.items()
    }


def drawing() -> str:
    """Return the SVG."""
    parts = without_implied(part_edges())
    core, app = house.LAYERS["core"], house.LAYERS["app"]
    top = _MARGIN + 64
    middle = max(len(app), 5) * _ROW + 34
    side = 640
    bands = {
        "commands": (_MARGIN, _MARGIN, _WIDE - 2 * _MARGIN, 44),
        "app": (_MARGIN, top, side, middle),
        "training": (_MARGIN + side + 16, top, _WIDE - 2 * _MARGIN - side - 16, middle),
        "simulation": (_MARGIN, top + middle + 20, _WIDE - 2 * _MARGIN, 44),
        "core": (_MARGIN, top + middle + 84, _WIDE - 2 * _MARGIN, len(core) * _ROW + 34),
    }
    height = bands["core"][1] + bands["core"][3] + _MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {height}" font-family="sans-serif" font-size="13">',
        "<title>Rooms and layers of napari-survpgc</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#5d6b62"/></marker></defs>',
        f'<rect width="{_WIDE}" height="{height}" fill="#ffffff"/>',
    ]
    for part, (x, y, width, tall) in bands.items():
        uses = ", ".join(sorted(parts[part])) or "resources"
        title = "cli, commands" if part == "commands" else part
        out += [
            f'<rect x="{x}" y="{y}" width="{width}" height="{tall}" rx="8" fill="{_COLORS[part]}"/>',
            f'<text x="{x + 12}" y="{y + 20}" font-weight="bold">{title}</text>',
            f'<text x="{x + width - 12}" y="{y + 20}" text-anchor="end" fill="#666666">uses {uses}</text>',
        ]
    out += _layers(app, room_edges("app"), bands["app"])
    out += _layers(core, room_edges("core"), bands["core"])
    out += _list(_rooms_of_training(), bands["training"])
    return "\n".join([*out, "</svg>"]) + "\n"


def _rooms_of_training() -> list[str]:
    folder = house.HOMES[f"{house.PACKAGE}.training"]
    return sorted(path.name for path in folder.iterdir() if (path / "__init__.py").is_file())


def _layers(layers: Layers, edges: Edges, band: tuple[int, int, int, int]) -> list[str]:
    """Draw the rooms of a part, those that import others above them, and the lines between them."""
    left, top, width, _ = band
    boxes: dict[str, tuple[float, float, float]] = {}
    for number, layer in enumerate(layers):
        rooms = sorted(layer)
        wide = min(280.0, (width - 24 - _GAP * (len(rooms) - 1)) / len(rooms))
        start = left + (width - wide * len(rooms) - _GAP * (len(rooms) - 1)) / 2
        for place, room in enumerate(rooms):
            boxes[room] = (start + place * (wide + _GAP), top + 34 + number * _ROW, wide)
    lines = [
        _line(boxes[room], boxes[to]) for room, its in without_implied(edges).items() for to in sorted(its)
    ]
    return [*lines, *(text for room, box in boxes.items() for text in _box(room, *box))]


def _list(rooms: Iterable[str], band: tuple[int, int, int, int]) -> list[str]:
    left, top, width, _ = band
    each = enumerate(rooms)
    return [
        text for n, room in each for text in _box(room, left + 12, top + 34 + n * (_BOX + 14), width - 24)
    ]


def _line(above: tuple[float, float, float], below: tuple[float, float, float]) -> str:
    (x1, y1, w1), (x2, y2, w2) = above, below
    return (
        f'<line x1="{x1 + w1 / 2:.0f}" y1="{y1 + _BOX:.0f}" x2="{x2 + w2 / 2:.0f}" y2="{y2:.0f}"'
        ' stroke="#7a8a7f" stroke-width="1.2" marker-end="url(#tip)"/>'
    )


def _box(room: str, x: float, y: float, width: float) -> list[str]:
    text = (
        f'<tspan font-weight="bold">{room}</tspan><tspan fill="#555555">\u00a0 {_SAYS.get(room, "")}</tspan>'
    )
    return [
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_BOX}" rx="5" fill="#ffffff" stroke="#9aa5a0"/>',
        f'<text x="{x + width / 2:.0f}" y="{y + 20:.0f}" text-anchor="middle" font-size="12">{text}</text>',
    ]


if __name__ == "__main__":
    DRAWING.write_text(drawing(), encoding="utf-8", newline="\n")
    print(DRAWING)
