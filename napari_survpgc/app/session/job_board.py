"""The work that runs for a session, and what is said about it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_survpgc.app.workers import Job
from napari_survpgc.core import log
from napari_survpgc.core.errors import SurvPGCError
from napari_survpgc.core.types import ProgressCallback

from .state import Message, Severity


class JobBoard(QObject):
    """See the module's docstring.

    Signals
    -------
    job_started(Job), job_ended.   message(Message).
    """

    job_started = Signal(object)
    job_ended = Signal()
    message = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self._jobs: list[Job] = []

    @property
    def busy(self) -> bool:
        return any(job.running for job in self._jobs)

    def start(
        self,
        function: Callable[[ProgressCallback], Any],
        name: str,
        succeeded: Callable[[Any], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
        *,
        shown: bool = True,
        of_slide: bool = False,
        apart: bool = False,
    ) -> Job:
        """Run ``function(progress)`` on a thread; its outcome arrives here, on the GUI thread.

        Parameters
        ----------
        shown : announce it (progress bar, Cancel); False for what takes a moment.
        of_slide : it reads the open slide and ends with it; other work (a record, a batch) goes on.
        apart : no work on a case: Cancel leaves it alone.
        """
        job = Job(function, name)
        job.of_slide, job.apart = of_slide, apart
        begin = time.monotonic()
        job.ended.connect(lambda: log.note(f"job {name}", seconds=time.monotonic() - begin))
        self._jobs.append(job)
        if succeeded is not None:
            job.succeeded.connect(succeeded)
        job.failed.connect(failed or self.report)
        job.ended.connect(self._job_over)
        if shown:
            job.cancelled.connect(self._say_cancelled)
            self.job_started.emit(job)
        job.start()
        return job

    def _job_over(self) -> None:
        # The sender's thread may just be ending: keep it until it has, its object must not die on that thread.
        self._jobs = [job for job in self._jobs if job.running or not job.wait(0)]
        if not self.closed:
            self.job_ended.emit()

    def _say_cancelled(self) -> None:
        self.say("Stopped. What was finished is kept; press Run to go on.")

    def cancel(self) -> None:
        """Stop the work on cases; what is finished is kept. A download, which has its own Stop, goes on."""
        for job in self._jobs:
            if not job.apart:
                job.cancel()

    def cancel_of_slide(self) -> None:
        """Stop what reads the open slide."""
        for job in self._jobs:
            if job.of_slide:
                job.cancel()

    def report(self, error: Exception) -> None:
        """Show an error as one sentence; a traceback only behind Details, and only for what is our fault."""
        log.failure(error, "in the window")
        details = "".join(traceback.format_exception(error))
        if isinstance(error, SurvPGCError):
            self.message.emit(Message(str(error), Severity.ERROR, details))
        else:
            text = (
                f"Something went wrong that should not have ({type(error).__name__}). Save your case, try again, and"
                " send the details to the developers if it comes back."
            )
            self.message.emit(Message(text, Severity.ERROR, details))

    def say(self, text: str, severity: Severity = Severity.NOTE) -> None:
        self.message.emit(Message(text, severity))

    def close(self) -> None:
        """Ask all work to end, what goes on apart too."""
        self.closed = True
        for job in self._jobs:
            job.cancel()

    def wait(self) -> None:
        """Wait until all work has ended."""
        for job in self._jobs:
            job.wait(10)
