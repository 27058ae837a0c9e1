"""Run every reader on damaged inputs: ``python -m tests.trust.fuzz --inputs 100000 --seed 1 --kinds svs tif``.

Readers run in worker processes with limits on time and memory. A crash, a hang, an exception that is no SurvPGCError and
memory beyond the limit are told with the seed that repeats them: ``--kinds KIND --only SEED``.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TIME_LIMIT_S = 25.0  # an open may take 10 s
MEMORY_LIMIT = 2 << 30


@dataclass(frozen=True)
class Finding:
    """What went wrong: "crash", "hang", "stray" or "memory"; ``where`` tells findings of one cause together."""

    kind: str
    seed: int
    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.what:7} {self.kind} seed {self.seed}: {self.where}"


def damaged(kind: str, seed: int, folder: Path) -> Path:
    """Make the input of a seed in an empty folder."""
    from tests.trust.mutate import mutate
    from tests.trust.readers import KINDS

    path = KINDS[kind].make(folder)
    mutate(path, seed)
    return path


# --- in a worker ---------------------------------------------------------------------------------------------


def work(answers: int) -> None:
    """Read lines [kind, seed]; answer each with a line [what, where]."""
    import warnings

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix="survpgc-fuzz-"))
    sources: dict[str, Path] = {}
    with os.fdopen(answers, "w") as stream:
        for line in sys.stdin:
            kind, seed = json.loads(line)
            answer = _one(kind, seed, folder, sources)
            stream.write(json.dumps(answer) + "\n")
            stream.flush()
    shutil.rmtree(folder, ignore_errors=True)


def _one(kind: str, seed: int, folder: Path, sources: dict[str, Path]) -> tuple[str, str]:
    from napari_survpgc.core.errors import SurvPGCError
    from tests.trust.mutate import mutate
    from tests.trust.readers import KINDS

    if kind not in sources:  # made once: only the damage differs
        place = folder / f"sound-{kind}"
        place.mkdir()
        sources[kind] = KINDS[kind].make(place)
        KINDS[kind].read(sources[kind])  # what it loads once and keeps is no memory of an input
    source = sources[kind]
    place = folder / f"{kind}-{seed}"
    shutil.copytree(source.parent, place)
    path = place / source.name
    mutate(path, seed)
    before = _peak()
    try:
        KINDS[kind].read(path)
        answer = ("read", "")
    except SurvPGCError:
        answer = ("refused", "")
    except MemoryError:
        answer = ("memory", _where())
    except Exception as error:  # noqa: BLE001  what is stray is what is looked for
        answer = ("stray", f"{type(error).__name__}: {str(error)[:90]!r} in {_where()}")
    shutil.rmtree(place, ignore_errors=True)
    if _peak() - before > MEMORY_LIMIT:
        answer = ("memory", f"{(_peak() - before) / 1e9:.1f} GB")
    return answer


def _peak() -> int:
    """Return the peak of resident memory in bytes, since the last time it was asked where the system lets that be reset."""
    try:
        status = Path("/proc/self/status").read_text()
        Path("/proc/self/clear_refs").write_text("5")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except OSError:
        return 0


def _where() -> str:
    ours = [f for f in traceback.extract_tb(sys.exc_info()[2]) if "napari_survpgc" in f.filename]
    frame = ours[-1] if ours else traceback.extract_tb(sys.exc_info()[2])[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"


# --- where they are watched ----------------------------------------------------------------------------------


class _Worker:
    def __init__(self) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  as long as the worker
        reading, writing = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"from tests.trust.fuzz import work; work({writing})"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self.errors, pass_fds=[writing], text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}, preexec_fn=_limit,
        )  # fmt: skip
        os.close(writing)
        self.answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, args=(reading,), daemon=True).start()

    def _listen(self, reading: int) -> None:
        with os.fdopen(reading) as stream:
            for line in stream:
                self.answers.put(line)
        self.answers.put("")

    def ask(self, kind: str, seed: int, seconds: float) -> tuple[str, str]:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps([kind, seed]) + "\n")
            self.process.stdin.flush()
        try:
            line = self.answers.get(timeout=seconds)
        except queue.Empty:
            self.end()
            return "hang", f"more than {seconds:.0f} s"
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            said = self.errors.read().decode(errors="replace").strip().splitlines()
            return "crash", f"ended with {code}: {said[-1][:100] if said else ''}"
        what, where = json.loads(line)
        return what, where

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def _limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(
        resource.RLIMIT_AS, (24 << 30, 24 << 30)
    )  # the libraries reserve some GB that they never use


def run(
    kinds: Sequence[str], seeds: Sequence[int], processes: int = 2
) -> Iterator[tuple[str, int, str, str]]:
    """Yield kind, seed, what and where of every input."""
    todo: queue.Queue[tuple[str, int]] = queue.Queue()
    for kind in kinds:
        for seed in seeds:
            todo.put((kind, seed))
    done: queue.Queue[tuple[str, int, str, str]] = queue.Queue()
    total = todo.qsize()
    stop = threading.Event()

    def serve() -> None:
        worker, fresh = None, set[str]()
        while not stop.is_set():
            try:
                kind, seed = todo.get_nowait()
            except queue.Empty:
                break
            if worker is None:
                worker, fresh = _Worker(), set()
            # The first of a kind waits for libraries and models, too.
            seconds = TIME_LIMIT_S + (0 if kind in fresh else 120)
            fresh.add(kind)
            what, where = worker.ask(kind, seed, seconds)
            if what in ("crash", "hang"):
                worker = None
            done.put((kind, seed, what, where))
        if worker is not None:
            worker.end()

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(processes)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(total):
            yield done.get()
    finally:
        stop.set()
        for thread in threads:
            thread.join(TIME_LIMIT_S + 5)


def main(arguments: Sequence[str] | None = None) -> int:
    from tests.trust.readers import KINDS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--inputs", type=int, default=1000, help="in all, the same number of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the first input of each kind")
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=list(KINDS))
    parser.add_argument("--only", type=int, help="this one seed, in this process, with its traceback")
    parser.add_argument("--keep", type=Path, help="with --only: put the input here")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    if options.only is not None:
        with tempfile.TemporaryDirectory() as temporary:
            for kind in options.kinds:
                place = options.keep or Path(temporary) / kind
                place.mkdir(parents=True, exist_ok=True)
                path = damaged(kind, options.only, place)
                KINDS[kind].read(path)
                print(f"{kind} {options.only}: read")
        return 0
    each = -(-options.inputs // len(options.kinds))
    counts: dict[str, collections.Counter[str]] = {kind: collections.Counter() for kind in options.kinds}
    findings: list[Finding] = []
    begun = time.monotonic()
    for kind, seed, what, where in run(
        options.kinds, range(options.seed, options.seed + each), options.processes
    ):
        counts[kind][what] += 1
        if what not in ("read", "refused"):
            findings.append(Finding(kind, seed, what, where))
            print(findings[-1], flush=True)
    columns = ("read", "refused", "stray", "hang", "memory", "crash")
    print(f"{'kind':16}" + "".join(f"{column:>9}" for column in columns))
    for kind, found in counts.items():
        print(f"{kind:16}" + "".join(f"{found[column]:9}" for column in columns))
    total = sum(map(collections.Counter.total, counts.values()))
    print(f"{total} inputs in {time.monotonic() - begun:.0f} s, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
