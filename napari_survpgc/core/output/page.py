"""HTML pages from the templates of ``resources/report``: every value escaped, style and pictures inside, no script."""

from __future__ import annotations

import base64
import functools
from dataclasses import dataclass
from typing import Any

import jinja2

from napari_survpgc.resources import resource_path


@dataclass(frozen=True)
class Picture:
    """A picture inside a page.

    Attributes
    ----------
    kind : "png" or "jpeg".   alt : what it shows, for who cannot see it.
    """

    content: bytes
    kind: str
    alt: str

    @property
    def source(self) -> str:
        """The picture as a ``data:`` address."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.content).decode()}"


def render(template: str, **values: Any) -> str:
    """Return a page.

    Parameters
    ----------
    template : file in ``resources/report``.   values : what it names; one that is missing is an error.
    """
    style = resource_path("report", "report.css").read_text(encoding="utf-8")
    return _templates().get_template(template).render(style=style, **values)


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(resource_path("report")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
