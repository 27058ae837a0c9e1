"""Work side by side, each piece on one core."""

from __future__ import annotations

import threading

import pytest
import torch

from napari_survpgc.core.threads import one_core, side_by_side


def test_one_core_limits_the_calling_thread_only() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    with one_core():
        inside = torch.get_num_threads()
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        other.start()
        other.join()
    assert inside == 1
    assert seen == [before]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("count", [1, 7])
def test_results_come_in_order_and_are_counted(count: int) -> None:
    counts: list[int] = []
    found = side_by_side(lambda n: (n, torch.get_num_threads()), range(count), counts.append)
    assert found == [(n, 1) for n in range(count)]
    assert counts == list(range(1, count + 1))


def test_an_error_of_the_work_or_of_who_waits_ends_it() -> None:
    def fail(number: int) -> int:
        if number == 1:
            raise ValueError("second")
        return number

    with pytest.raises(ValueError, match="second"):
        side_by_side(fail, range(4))

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side(lambda n: n, range(4), stop)
    assert side_by_side(lambda n: n, range(3)) == [0, 1, 2], "the next work is not hindered"
