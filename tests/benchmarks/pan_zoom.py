"""Pan, zoom and jump on a slide against an in-memory image of the same size; on request only.

    xvfb-run -a -s "-screen 0 1600x1000x24" python -m tests.benchmarks.pan_zoom [SLIDE]

Without a slide it draws one of 12288 x 8192 px. A move counts until the canvas has drawn what it asked for; "first" is
the time from adding the layer until it is drawn, and a "block" the longest gap between two turns of the event loop
during a move. Both layers are in the same viewer, moved in turn.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("NAPARI_ASYNC", "1")

RUN = 10
"""Moves in a row of one source."""
FIRST = 6
"""Times that each layer is added anew."""


def _settle(layer: Any, seconds: float = 5.0) -> float:
    """Wait until a layer is drawn; return ms."""
    from qtpy.QtWidgets import QApplication

    began = time.perf_counter()
    QApplication.processEvents()
    while not layer.loaded and time.perf_counter() - began < seconds:
        QApplication.processEvents()
        time.sleep(0.0005)
    QApplication.processEvents()
    return 1e3 * (time.perf_counter() - began)


def draw_slide(path: Path) -> Path:
    """Write a slide of 12288 x 8192 px with tissue, in JPEG tiles as scanners do."""
    import tifffile

    from tests.builders import tissue_image

    image = np.tile(tissue_image(4096, 4096, seed=2), (2, 3, 1))
    with tifffile.TiffWriter(path) as tiff:
        for level in range(3):
            tiff.write(
                np.ascontiguousarray(image[:: 4**level, :: 4**level]),
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 85},
                subfiletype=1 if level else 0,
                metadata=None,
                resolution=(2e4 / 4**level, 2e4 / 4**level),
                resolutionunit="CENTIMETER",
            )
    return path


def measure(slide: Path, moves: int = 60, mpp: float | None = None) -> dict[tuple[str, str], np.ndarray]:
    """Return milliseconds by (source, kind of move), and the longest block of the GUI thread as kind "block ..."."""
    import napari
    from qtpy.QtCore import QTimer

    from napari_survpgc.app.canvas.layer_data import slide_layer
    from napari_survpgc.app.session.state import open_with_tiles

    opened = open_with_tiles(slide, mpp)
    levels, attributes, _ = slide_layer(opened)
    viewer = napari.Viewer()
    viewer.window.resize(1600, 1000)
    memory = [np.full(level.shape, 200, np.uint8) for level in levels]
    found: dict[tuple[str, str], list[float]] = {}
    for number in range(FIRST + 1):  # the first one pays for napari's imports
        for source, data in (("slide", levels), ("memory", memory))[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            layer = viewer.add_image(data, **attributes)
            _settle(layer)
            if number:
                found.setdefault((source, "first"), []).append(1e3 * (time.perf_counter() - began))
            viewer.layers.remove(layer)
    ours = viewer.add_image(levels, **attributes)
    plain = viewer.add_image(memory, name="memory", **{k: v for k, v in attributes.items() if k != "name"})
    camera = viewer.scene.camera
    extent = ours.extent.world[1]
    gaps: list[float] = []
    last = [time.perf_counter()]

    def beat() -> None:
        now = time.perf_counter()
        gaps.append(1e3 * (now - last[0]))
        last[0] = now

    timer = QTimer()
    timer.timeout.connect(beat)
    timer.start(2)

    def move(kind: str, number: int, place: np.ndarray) -> None:
        if kind == "jump":
            camera.zoom = float(2.0 ** (number % 4 - 1)) / 2
            camera.center = (0, *(extent * place))
        elif kind == "pan":
            camera.zoom = 1.0
            camera.center = (0, *(extent * (0.35 + 0.3 * (number / moves))))
        else:
            camera.center = (0, *(extent * 0.5))
            camera.zoom = 0.2 * 1.25 ** (number % 12)

    # Both sources take turns in short runs of the same moves, so that drift and other work hit both alike; either
    # goes first equally often. A move before each run pays for the change of layer.
    rng = np.random.default_rng(7)
    for kind in ("jump", "pan", "zoom"):
        places = rng.uniform(0.2, 0.8, (moves, 2))
        for turn, first in enumerate(range(0, moves, RUN)):
            pairs = [("slide", ours, plain), ("memory", plain, ours)]
            for source, layer, other in pairs if turn % 2 else reversed(pairs):
                other.visible, layer.visible = False, True
                _settle(layer)
                move(kind, first + RUN, places[-1])
                _settle(layer)
                for number in range(first, min(first + RUN, moves)):
                    gaps.clear()
                    last[0] = time.perf_counter()
                    move(kind, number, places[number])
                    found.setdefault((source, kind), []).append(_settle(layer))
                    found.setdefault((source, f"block {kind}"), []).append(max(gaps, default=0.0))
    timer.stop()
    viewer.close()
    opened.close()
    return {key: np.array(values) for key, values in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slide", type=Path, nargs="?")
    parser.add_argument("--mpp", type=float)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = options.slide or draw_slide(Path(folder) / "slide.tiff")
        for (source, kind), values in sorted(
            measure(place, mpp=options.mpp).items(), key=lambda i: i[0][::-1]
        ):
            print(
                f"{kind:10s} {source:7s} p50 {np.median(values):6.0f}  p95 {np.percentile(values, 95):6.0f} ms"
            )
