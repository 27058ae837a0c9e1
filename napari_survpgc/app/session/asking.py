"""What is asked about a result: what if a field or a programme were another, and what contributes to the risk."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

from qtpy.QtCore import QObject

from napari_survpgc.app.workers import Latest
from napari_survpgc.core.attention.maps import AttentionMaps
from napari_survpgc.core.clinical.record import parse_record
from napari_survpgc.core.errors import CancelledError
from napari_survpgc.core.predict.predictor import state_of
from napari_survpgc.core.predict.what_if import attribute, what_if
from napari_survpgc.core.types import Attribution, Prediction

from .job_board import JobBoard
from .open_case import OpenCase
from .state import Result

_POLL_SECONDS = 0.02


class Questions(QObject):
    """See the module's docstring. Only the newest question of a kind is answered."""

    def __init__(self, case: OpenCase, jobs: JobBoard) -> None:
        super().__init__()
        self._case, self._jobs = case, jobs
        self._what_if = Latest("what-if")
        self._what_if.answered.connect(self._show_changed)
        self._what_if.failed.connect(self._cannot_answer)
        self._explain = Latest("attribution")
        self._explain.answered.connect(self._show_explained)
        self._explain.failed.connect(jobs.report)
        self._foresight = Latest("foresight")
        self._foresight.failed.connect(jobs.report)
        case.slide_leaves.connect(self._forget)

    @property
    def possible(self) -> bool:
        """There is a result, made from the case as it is and with its models in memory."""
        result = self._case.result
        return result is not None and state_of(result.original) is not None and not self._case.stale

    @property
    def waiting(self) -> bool:
        """A "what if" is being answered: ``result_changed`` follows."""
        return self._what_if.busy

    @property
    def foreseeing(self) -> bool:
        """Values that may be chosen next are being encoded."""
        return self._foresight.busy

    def _forget(self) -> None:
        self._what_if.clear()
        self._explain.clear()

    def close(self) -> None:
        """End the threads after what they are doing."""
        for latest in (self._what_if, self._explain, self._foresight):
            latest.close()

    # --- what if -------------------------------------------------------------------------------------------

    def set_fields(self, fields: Mapping[str, object]) -> None:
        """Change clinical fields. After a run this asks "what if" at once.

        Raises
        ------
        ClinicalError : a value makes no sense; nothing is changed.
        """
        case = self._case
        record = parse_record({**dataclasses.asdict(case.record), **fields})
        if record == case.record:
            return
        case.record = record
        self._ask()  # first: the model computes while the panels follow
        case.patient_changed.emit()

    def set_programme(self, name: str, shift: float) -> None:
        """Shift all genes of a programme by standard deviations, relative to the patient."""
        shifts = {**self._case.programme_shifts, name: float(shift)}
        self._case.programme_shifts = {key: value for key, value in shifts.items() if value != 0}
        self._ask()

    def reset(self) -> None:
        """Return to the patient as entered at Run."""
        case = self._case
        if case.result is None or case.record_of_result is None:
            return
        case.record = case.record_of_result
        case.programme_shifts = {}
        self._ask()
        case.patient_changed.emit()

    def begin(self) -> None:
        """The model of the result is ready: foresee, and ask what was asked while it was not."""
        self._foresee()
        if self._case.record != self._case.record_of_result:
            self._ask()

    def _ask(self) -> None:
        case, result = self._case, self._case.result
        if case.awaiting_model:
            return  # asked when the model is ready
        if result is None or not self.possible:
            case.mark_stale()
            return
        original, record, shifts = result.original, case.record, dict(case.programme_shifts)
        as_entered = record == case.record_of_result and not shifts

        def answer() -> Result:
            prediction = (
                original if as_entered else what_if(original, record, gene_sets=shifts, latest=result.shown)
            )
            return Result(
                original, prediction, AttentionMaps(prediction, result.maps).ranked(), result.anyway
            )

        self._what_if.submit(answer)

    def _show_changed(self, answer: Result) -> None:
        if self._case.result is not None and self._case.result.original is answer.original:
            self._case.show(answer)  # else it belongs to an earlier case

    def _cannot_answer(self, error: Exception) -> None:
        self._jobs.report(error)
        self._case.patient_changed.emit()

    def _foresee(self) -> None:
        """Encode the values that may be chosen next, while nobody waits for anything."""
        case, jobs = self._case, self._jobs
        predictor, record = case.predictor, case.record_of_result
        if predictor is None or record is None:
            return

        def work() -> None:
            for _ in predictor.inputs.foresee(record):
                while (self.waiting or jobs.busy) and not jobs.closed:
                    time.sleep(_POLL_SECONDS)
                if jobs.closed or case.predictor is not predictor:
                    return

        self._foresight.submit(work)

    # --- contributions -------------------------------------------------------------------------------------

    def explain(self) -> None:
        """Compute the contributions for what is shown, on a thread: seconds, so only when somebody looks at them."""
        case, jobs = self._case, self._jobs
        if case.result is None or case.result.shown.attribution is not None or not self.possible:
            return
        shown = case.result.shown

        def still_wanted(stage: str, done: int, total: int) -> None:
            if jobs.closed or case.result is None or case.result.shown is not shown:
                raise CancelledError

        def work() -> tuple[Prediction, Attribution] | None:
            try:
                return shown, attribute(shown, still_wanted)
            except CancelledError:
                return None

        self._explain.submit(work)

    def _show_explained(self, answer: tuple[Prediction, Attribution] | None) -> None:
        if answer is None:
            return
        (prediction, attribution), case = answer, self._case
        if case.result is not None and case.result.shown is prediction:
            explained = dataclasses.replace(prediction, attribution=attribution)
            case.result = dataclasses.replace(case.result, shown=explained)
            case.attribution_changed.emit()
