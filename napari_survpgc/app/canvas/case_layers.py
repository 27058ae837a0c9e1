"""The open case as napari layers: slide, heatmaps, tissue, the selected patch. All in micrometres."""

from __future__ import annotations

from typing import Any

import napari
import numpy as np
from napari.layers import Image, Layer
from numpy.typing import NDArray

from napari_survpgc.app.session.session import Session
from napari_survpgc.app.session.state import OpenedSlide
from napari_survpgc.core.tissue.outlines import outline_image
from napari_survpgc.core.types import TissueMask

from .camera import Camera
from .heatmaps import Heatmaps
from .layer_data import KEY, PATCH, TISSUE, show_scale_bar, slide_layer, um_per_px, units_of
from .outline_tools import OutlineTools
from .patch_frame import PatchFrame
from .spare_layers import SpareLayers

INVITATION = (
    "Drop a slide here, or press Open slide at the right.\n\nNo slide at hand? File > Open Sample > SurvPGC"
)


class CaseLayers:
    """Keeps a viewer's layers in step with a session. Lives on the GUI thread.

    Attributes
    ----------
    slide : the layer of the open slide.
    spare : adds and removes layers, and keeps those without a case.
    heatmaps, frame, tools, camera : the maps, the selected patch, the tools for the outline, where the canvas looks.
    """

    def __init__(self, viewer: napari.Viewer, session: Session) -> None:
        self.viewer, self.session = viewer, session
        self.slide: Image | None = None
        self.show_tissue = True
        self.spare = SpareLayers(viewer, lambda: self.slide)
        self.camera = Camera(viewer, session)
        session.slide_changed.connect(self._show_slide)
        session.tissue_changed.connect(self._show_tissue)
        self.heatmaps = Heatmaps(session, self.spare)
        self.frame = PatchFrame(session, self.spare)
        self.tools = OutlineTools(session, self.spare, self.heatmaps)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.inserted.connect(self._invite)
        viewer.layers.events.removed.connect(self._invite)
        self._invite()

    @property
    def maps(self) -> dict[str, Image]:
        """Name -> layer of the maps that there are, shown or not."""
        return self.heatmaps.maps

    def _invite(self, event: Any = None) -> None:
        """Say on the empty canvas how to begin: napari's own welcome goes with the first layer, even a hidden one."""
        text = self.viewer.canvas.overlays.text
        empty = self.slide is None and not any(layer.visible for layer in self.viewer.layers)
        if empty:
            text.text, text.font_size, text.position = INVITATION, 13, "middle_center"
        if text.text == INVITATION and text.visible != empty:
            text.visible = empty

    def close(self) -> None:
        inserted, removed = self.viewer.layers.events.inserted, self.viewer.layers.events.removed
        inserted.disconnect(self._invite)
        removed.disconnect(self._invite)
        self.spare.close()
        self.heatmaps.close()
        self.camera.close()
        inserted.disconnect(self._on_inserted)
        removed.disconnect(self._on_removed)

    # --- slide ---------------------------------------------------------------------------------------------

    def _show_slide(self) -> None:
        opened = self.session.opened
        if self.slide is not None and self.slide.metadata.get(KEY) is opened and opened is not None:
            return  # a layer that the reader made
        self._empty()
        self.spare.remove(self.slide)
        self.slide = None
        if opened is None:
            self._invite()
            return
        levels, attributes, _ = slide_layer(opened)
        slide = Image(levels, **attributes)
        self.spare.set_units(slide.units)
        self.slide = self.spare.add(slide, at=0)
        self._invite()
        self.camera.fit()
        self._scale_bar()

    def _scale_bar(self) -> None:
        opened = self.session.opened
        show_scale_bar(self.viewer, known=opened is not None and opened.slide.info.mpp is not None)

    def _on_inserted(self, event: Any) -> None:
        if not self.spare.changing:
            self.adopt_layer(event.value)

    def adopt_layer(self, layer: Layer) -> None:
        """Make a slide that was opened by File > Open or drag and drop the case; other layers are left alone."""
        opened = layer.metadata.get(KEY)
        if not isinstance(opened, OpenedSlide):
            return
        old, self.slide = self.slide, layer
        self._invite()
        self._empty()
        self.spare.remove(old)
        self.viewer.layers.move(self.viewer.layers.index(layer), 0)
        self.session.adopt(opened)
        self.spare.set_units(layer.units)
        self._scale_bar()
        self.camera.fit()

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        self.tools.forget(layer)
        if self.spare.changing:
            return
        if layer is self.slide:
            self.slide = None
            self._invite()
            self.session.close_slide()
        else:
            self.heatmaps.forget(layer)
            self.spare.forget(layer)

    def _empty(self) -> None:
        """Hide what belongs to a case."""
        self.heatmaps.put_back()
        self.spare.put_back(TISSUE)
        self.spare.put_back(PATCH)
        self.tools.put_away()

    # --- tissue --------------------------------------------------------------------------------------------

    def _show_tissue(self) -> None:
        self.stop_editing()
        self.spare.put_back(TISSUE)
        mask, opened = self.session.tissue, self.session.opened
        if mask is None or opened is None:
            return

        def show(drawn: tuple[NDArray[np.uint8], float]) -> None:
            if (
                self.session.tissue is mask
                and self.session.opened is opened
                and TISSUE not in self.spare.used
            ):
                self.spare.queue(lambda: self._add_outline(mask, *drawn))

        # Shapes of thousands of corners take napari seconds (napari issue 8399): shapes only for editing.
        self.session.start(lambda progress: outline_image(mask), "outline", show, shown=False, of_slide=True)

    def _add_outline(self, mask: TissueMask, pixels: NDArray[np.uint8], downsample: float) -> None:
        opened = self.session.opened
        if opened is None or self.session.tissue is not mask:
            return
        sx, sy = um_per_px(opened.slide.info)
        layer = self.spare.take(TISSUE)
        layer.data = pixels
        layer.units = units_of(opened.slide.info)
        layer.scale = (downsample * sy, downsample * sx)
        layer.translate = ((downsample - 1) / 2 * sy, (downsample - 1) / 2 * sx)
        layer.visible = self.show_tissue

    def set_tissue_visible(self, visible: bool) -> None:
        self.show_tissue = visible
        if TISSUE in self.spare.used:
            self.spare.used[TISSUE].visible = visible

    def stop_editing(self) -> None:
        """Put the tools for editing away, and show the maps again; the tissue stays as it was."""
        self.tools.put_away()
        self.heatmaps.show_hidden()
        self.spare.select_slide()
