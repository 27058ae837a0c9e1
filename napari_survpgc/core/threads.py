"""Several pieces of work side by side, each on one core.

torch divides every operation among a team of threads that wait for each other. While other work runs on the same cores
(a window that repaints, slides that are read), the team waits for whichever member is not being run: measured 20 times
slower on two busy cores. Threads that share nothing do not wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")
_MOST = 5  # each needs memory for a slide of its own


@contextmanager
def one_core() -> Iterator[None]:
    """Let torch use only the calling thread; other threads keep their teams."""
    torch.get_num_threads()  # torch sets up a thread's team at its first use, which would undo the limit
    with _openmp().limit(limits=1):
        yield


def side_by_side(
    function: Callable[[T], R], items: Sequence[T], done: Callable[[int], None] | None = None
) -> list[R]:
    """Return ``function`` of every item, in order, computed on as many cores as there are; each item on one.

    Parameters
    ----------
    done : called here with the number of items that are ready; what it raises ends the work.
    """
    results: list[R] = []
    work = map if len(items) < 2 else _pool().map
    for result in work(lambda item: _on_one_core(function, item), items):
        results.append(result)
        if done is not None:
            done(len(results))
    return results


def _on_one_core(function: Callable[[T], R], item: T) -> R:
    with one_core():
        return function(item)


@cache
def _openmp() -> ThreadpoolController:
    """What torch's teams are made of; looking for it takes milliseconds."""
    return ThreadpoolController().select(user_api="openmp")


@cache
def _pool() -> ThreadPoolExecutor:
    """One for the program: its threads are idle between two answers."""
    return ThreadPoolExecutor(min(os.cpu_count() or 2, _MOST), "survpgc folds")
