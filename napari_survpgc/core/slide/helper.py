"""Helper processes that read slide files which may end the process that reads them; none is started before one is needed.

A helper is a Python of its own, without torch and Qt (it starts in 0.25 s), with limits on memory and time. One that
ends, hangs or runs out of memory over a file costs that file one sentence.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import mmap
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from PIL import Image

from napari_survpgc.core.errors import SeveralSlidesError, SlideError

from .tiff import TiffPage

OPEN_S = 8.0  # an open ends within 10 s, the start of the helper included
READ_S = 10.0
_MOST = max(2, min(4, os.cpu_count() or 2))
_MAX_CRASHES = 3
_IDLE_S = 60.0
_SHARED_BYTES = 16 << 20
_MAX_REGION_BYTES = 512 << 20
_MAX_LINE = 256 << 20
_DECODED_PER_S = 8 << 20  # bytes; the slowest codec of a whole picture, JPEG 2000, makes 10 to 20 MB a second
_AGAIN = "Copy or download it again"
_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from napari_survpgc.core.slide.helper_process import main; main()"
)


class HelperError(Exception):
    """No helper can be started."""


class HelperReadError(Exception):
    """A part of a slide cannot be read; a clause that says why."""


class _CrashError(Exception):
    """A helper ended, or had to be ended, over a question; a clause that says how."""


class _Helper:
    """One helper process; used by one thread at a time."""

    def __init__(self, deadline: float) -> None:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        paths = json.dumps([entry for entry in sys.path if entry])
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _CODE, paths],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except (OSError, ValueError) as error:
            raise HelperError(str(error)) from error
        self._answers: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._listen, name="slide helper", daemon=True).start()
        self.slide: object = None
        self.used = time.monotonic()
        self._shared: mmap.mmap | None = None
        try:
            if self._answer(deadline).get("ready") is not True:
                raise HelperError("it does not answer")
        except _CrashError as error:
            raise HelperError(str(error)) from error

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            while line := answers.readline(_MAX_LINE):
                self._answers.put(line)
        self._answers.put(b"")

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, do: str, seconds: float, **given: Any) -> dict[str, Any]:
        """Ask one question.

        Raises
        ------
        _CrashError : the helper ended, or did not answer in time and was ended.
        """
        question = json.dumps({"do": do, "seconds": seconds, "with": given}).encode() + b"\n"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(question)
            self._process.stdin.flush()
        except OSError as error:
            self.end()
            raise _CrashError("it ended the process that read it") from error
        return self._answer(time.monotonic() + seconds)

    def _answer(self, deadline: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            self.end()
            raise _CrashError("reading it does not end") from None
        if not line.endswith(b"\n"):
            self.end()
            raise _CrashError("it ended the process that read it")
        answer: dict[str, Any] = json.loads(line)
        if answer.get("memory"):
            self.end()  # what is left of it after that is not to be relied on
            raise _CrashError("it asks for more memory than any slide")
        return answer

    def shared(self, size: int) -> mmap.mmap:
        """Return shared memory of at least ``size`` bytes."""
        if self._shared is None or len(self._shared) < size:
            size = max(size, _SHARED_BYTES)
            place, stream = _shared_file(size)
            try:
                mapped = mmap.mmap(stream, size)
                os.close(stream)
                self.ask("share", READ_S, path=place, size=size)
            finally:
                with contextlib.suppress(OSError):  # Windows keeps the name while it is open
                    Path(place).unlink()
            self._shared = mapped
        return self._shared

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)


def _shared_file(size: int) -> tuple[str, int]:
    """Make a file of ``size`` bytes, in memory where there is room."""
    for folder in ("/dev/shm", None):
        if folder is not None and not os.access(folder, os.W_OK):
            continue
        stream, place = tempfile.mkstemp(prefix="survpgc-", dir=folder)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream, 0, size)  # a hole in a full file system would end who reads it
            else:
                os.truncate(stream, size)
        except OSError:
            os.close(stream)
            Path(place).unlink()
            continue
        return place, stream
    raise HelperError("there is no room for a picture")


class _Pool:
    """Helpers that wait for work; each keeps the slide that it read last."""

    def __init__(self) -> None:
        self._idle: list[_Helper] = []
        self._places = threading.BoundedSemaphore(_MOST)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def helper(self, slide: object, deadline: float) -> Any:
        """Lend a helper, one that has ``slide`` open if there is one; it goes back if it is still alive."""
        if not self._places.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise _CrashError("reading it does not end")
        try:
            helper = self._take(slide) or _Helper(deadline)
            try:
                yield helper
            except (KeyboardInterrupt, SystemExit):
                helper.end()  # an answer may still be on its way
                raise
            finally:
                helper.used = time.monotonic()
                if helper.is_alive:
                    with self._lock:
                        self._idle.append(helper)
        finally:
            self._places.release()

    def _take(self, slide: object) -> _Helper | None:
        with self._lock:
            # Sorted out well before a helper ends itself, so that none ends with a question on its way.
            late = [h for h in self._idle if time.monotonic() - h.used > _IDLE_S or not h.is_alive]
            self._idle = [helper for helper in self._idle if helper not in late]
            for helper in late:
                helper.end()
            best = next((h for h in self._idle if h.slide is slide), None)
            best = best or next((h for h in self._idle if h.slide is None), None)
            best = best or (self._idle[0] if self._idle else None)
            if best is not None:
                self._idle.remove(best)
            return best

    def forget(self, slide: object) -> None:
        """Close a slide in the helpers that wait."""
        with self._lock:
            mine = [helper for helper in self._idle if helper.slide is slide]
            self._idle = [helper for helper in self._idle if helper.slide is not slide]
        for helper in mine:
            with contextlib.suppress(_CrashError):
                helper.ask("close", READ_S)
                helper.slide = None
                with self._lock:
                    self._idle.append(helper)

    def end(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for helper in idle:
            helper.end()


_pool = _Pool()
atexit.register(_pool.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().update(_pool=_Pool()))  # pipes are not to be shared


class HelperSlide:
    """A slide that is open in helpers. Safe in several threads.

    What it says of itself has the names that OpenSlide has for it; parts are read as by :class:`.backends.Handle`.

    Parameters
    ----------
    tried : read a tile of two levels, too, when it is opened.

    Raises
    ------
    SlideError : it cannot be opened; also when that ended the helper, or took longer than 10 s.
    HelperError : no helper can be started.
    """

    def __init__(self, path: Path, *, tried: bool = False) -> None:
        self._path, self._crashes = path, 0
        self._place = path.absolute()
        self._working = "" if path.is_absolute() else f"{Path.cwd()}{os.sep}"
        deadline = time.monotonic() + OPEN_S
        try:
            with _pool.helper(self, deadline) as helper:
                facts = self._open(helper, deadline, tried)
        except _CrashError as error:
            raise SlideError(f"{path.name} is damaged: {error}", _AGAIN) from error
        self.backend = str(facts["backend"])
        self.file = Path(facts["path"])
        self.properties: dict[str, str] = facts["properties"]
        self.level_dimensions = tuple((int(w), int(h)) for w, h in facts["sizes"])
        self.level_downsamples = tuple(float(d) for d in facts["downsamples"])
        self.level_count = len(self.level_dimensions)
        self.dimensions = self.level_dimensions[0]
        self.pages = tuple(_page(each) for each in facts["pages"])
        self._decoded = int(facts["decoded_bytes"])
        # A second helper would decode the whole picture once more.
        self._turn = threading.Lock() if self._decoded else contextlib.nullcontext()

    def _open(self, helper: _Helper, deadline: float, tried: bool = False) -> dict[str, Any]:
        helper.slide = None
        left = max(0.1, deadline - time.monotonic())
        answer = helper.ask("open", left, path=str(self._place), tried=tried)
        self._check(answer)
        helper.slide = self
        return answer

    def _check(self, answer: dict[str, Any]) -> None:
        if "choices" in answer:
            choices = tuple((Path(self._as_given(file)), words) for file, words in answer["choices"])
            raise SeveralSlidesError(Path(self._as_given(answer["folder"])), choices)
        if "problem" in answer:
            raise SlideError(self._as_given(answer["problem"]), self._as_given(answer["next_step"]))
        if "raised" in answer:
            raise SlideError(f"{self._path.name} is damaged or incomplete ({answer['raised']})", _AGAIN)

    def _as_given(self, text: str) -> str:
        """Return what a helper says with the place as it was given: a helper is asked for a whole path."""
        return text.replace(self._working, "") if self._working else text

    def read(self, x: int, y: int, level: int, size: tuple[int, int]) -> Image.Image:
        """Return RGBA; HelperReadError where it cannot be read, whatever that did to the helper."""
        return self._ask_for("read", x, y, level, size)

    def read_level(self, x: int, y: int, level: int, size: tuple[int, int]) -> Image.Image:
        """See :meth:`read`; ``x``, ``y`` in px of the level."""
        return self._ask_for("read_level", x, y, level, size)

    def _ask_for(self, how: str, x: int, y: int, level: int, size: tuple[int, int]) -> Image.Image:
        bytes_needed = 4 * size[0] * size[1]
        if bytes_needed > _MAX_REGION_BYTES:
            raise HelperReadError("a part of it is too large to be read")
        if self._crashes >= _MAX_CRASHES:
            raise HelperReadError(f"reading it failed {self._crashes} times")
        seconds = READ_S + self._decoded / _DECODED_PER_S
        try:
            with self._turn, _pool.helper(self, time.monotonic() + OPEN_S + READ_S) as helper:
                shared = helper.shared(bytes_needed)
                if helper.slide is not self:
                    self._open(helper, time.monotonic() + OPEN_S)
                answer = helper.ask(
                    "read", seconds, how=how, x=x, y=y, level=level, width=size[0], height=size[1]
                )
                if "size" not in answer:
                    helper.slide = None
                    raise HelperReadError(
                        answer.get("problem") or answer.get("raised") or "it does not say why"
                    )
                found = tuple(answer["size"])
                return Image.frombytes("RGBA", found, shared[: 4 * found[0] * found[1]])
        except SlideError as error:  # it was opened before, and cannot be any more
            raise HelperReadError(error.problem) from error
        except (_CrashError, HelperError) as error:
            self._crashes += 1
            raise HelperReadError(str(error)) from error

    def close(self) -> None:
        _pool.forget(self)


def _page(facts: dict[str, Any]) -> TiffPage:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
    return TiffPage(**values)
