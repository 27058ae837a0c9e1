"""What runs in a helper process: slide files that may end the process that reads them.

Started by :mod:`.helper`, asked in lines of JSON on its input, answering on its output; pixels go through a file in
shared memory. A helper has limits on memory and time, and nothing to lose.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import json
import mmap
import os
import signal
import sys
import threading
from pathlib import Path
from typing import IO, Any

from napari_survpgc.core.errors import SeveralSlidesError, SlideError

from .backends import Handle, open_handle
from .plain_tiff import PlainTiff

_MEMORY = 2 << 30  # address space; an open slide with its codecs takes 0.6 GB of it
_IDLE_S = 120.0
_TRIED_PX = 256


def main() -> None:
    """Answer until the input ends, which it does with the process that asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the process that asks
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what a native library prints is no answer
    os.dup2(nowhere, 2)
    _set_limits()
    _answer_all(sys.stdin.buffer, answers)


def _set_limits(more: int = 0) -> None:
    """Bound the memory; ``more`` : bytes that the open slide was checked to need beyond those of any."""
    try:
        import resource
    except ImportError:  # Windows: the time limit of the process that asks holds there, too
        return
    for what, most in ((resource.RLIMIT_AS, _MEMORY + more), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(OSError, ValueError):  # a stricter limit stands already
            resource.setrlimit(what, (most, resource.getrlimit(what)[1]))


def _answer_all(questions: IO[bytes], answers: IO[bytes]) -> None:
    worker = _Worker()
    _say(answers, {"ready": True})
    while True:
        idle = threading.Timer(_IDLE_S, os._exit, (0,))
        idle.daemon = True
        idle.start()
        line = questions.readline()
        idle.cancel()
        if not line:
            return
        question = json.loads(line)
        # A thread of C, so that it ends a native loop that holds the interpreter, when nobody else is there to do it.
        faulthandler.dump_traceback_later(question["seconds"] + 5, exit=True)
        try:
            answer = getattr(worker, question["do"])(**question["with"])
        except SlideError as error:
            answer = {"problem": error.problem, "next_step": error.next_step}
            if isinstance(error, SeveralSlidesError):
                choices = [[str(file), words] for file, words in error.choices]
                answer |= {"folder": str(error.folder), "choices": choices}
        except MemoryError:
            answer = {"memory": True}
        except Exception as error:  # noqa: BLE001  whatever a library raises on a damaged file is an answer
            answer = {"raised": (str(error).splitlines() or [type(error).__name__])[0][:120]}
        faulthandler.cancel_dump_traceback_later()
        _say(answers, answer)


def _say(answers: IO[bytes], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


class _Worker:
    """One open slide, and the memory that is shared with the process that asks."""

    def __init__(self) -> None:
        self.handle: Handle | None = None
        self.shared: mmap.mmap | None = None

    def open(self, path: str, tried: bool) -> dict[str, Any]:
        """Open a slide; ``tried``: read a tile of the finest and of the coarsest level with OpenSlide, too."""
        self.close()
        self.handle = open_handle(Path(path))
        slide, plain = self.handle.slide, isinstance(self.handle.slide, PlainTiff)
        _set_limits(slide.memory_bytes if plain else 0)
        if tried and self.handle.backend == "openslide":  # what the others open is read in helpers alone
            for level in {0, len(slide.level_dimensions) - 1}:
                self._try(level)
        return {
            "backend": self.handle.backend,
            "path": str(self.handle.path),
            "properties": dict(self.handle.properties),
            "sizes": [[int(n) for n in size] for size in slide.level_dimensions],
            "downsamples": [float(d) for d in slide.level_downsamples],
            "pages": [dataclasses.asdict(page) for page in self.handle.pages],
            "decoded_bytes": slide.decoded_bytes if plain else 0,
        }

    def _try(self, level: int) -> None:
        assert self.handle is not None
        slide = self.handle.slide
        middle = tuple(max(0, int(n) // 2 - _TRIED_PX // 2) for n in slide.level_dimensions[0])
        # Damage that raises is told of where it is read again; here only what ends a process counts.
        with contextlib.suppress(Exception):
            slide.read_region(middle, level, (_TRIED_PX, _TRIED_PX))

    def read(self, how: str, x: int, y: int, level: int, width: int, height: int) -> dict[str, Any]:
        """Read a region into the shared memory: RGBA, row by row.

        Parameters
        ----------
        how : "read" or "read_level", as :class:`Handle` has them.
        """
        assert self.handle is not None
        assert self.shared is not None
        try:
            part = self.handle.read_level if how == "read_level" else self.handle.read
            image = part(x, y, level, (width, height))
            pixels = image.convert("RGBA").tobytes()
        except Exception:
            self.close()  # OpenSlide refuses every read after an error
            raise
        self.shared[: len(pixels)] = pixels
        return {"size": list(image.size)}

    def share(self, path: str, size: int) -> dict[str, Any]:
        """Use a file of ``size`` bytes for the pixels."""
        if self.shared is not None:
            self.shared.close()
        with Path(path).open("r+b") as stream:
            self.shared = mmap.mmap(stream.fileno(), size)
        return {}

    def close(self) -> dict[str, Any]:
        handle, self.handle = self.handle, None
        if handle is not None:
            handle.slide.close()
        return {}
