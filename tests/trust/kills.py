"""Kill every command that writes at its n-th file operation, or refuse that operation, and look at what is left.

A child process is forked for each trial, with a shim around the calls that change files. Afterwards the outputs must be
the earlier ones, whole, or the new ones, whole; the same command must then succeed with the same result, and leave nothing
hidden behind.

    python -m tests.trust.kills [--every N] [--only NAME,...] [--fault ENOSPC] [--record FOLDER]
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import errno
import faulthandler
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from napari_survpgc.core.errors import SurvPGCError

from .scenarios import SCENARIOS, Scenario

KILLED, REFUSED, BROKEN = 77, 2, 99
_PATIENCE_SECONDS = 240
_CHANGING = (
    "replace",
    "rename",
    "unlink",
    "remove",
    "rmdir",
    "mkdir",
    "link",
    "write",
    "truncate",
    "ftruncate",
    "fsync",
)
_FAILING = {"replace", "rename", "mkdir", "link", "write", "truncate", "ftruncate", "open"}


@dataclass
class Shim:
    """Counts the calls that change files; at one of them it ends the process, or refuses.

    Attributes
    ----------
    at : number of the call, from 1; 0 only counts.   refusal : errno to raise there; None ends the process.
    """

    at: int = 0
    refusal: int | None = None
    count: int = 0
    calls: list[str] = field(default_factory=list)
    owner: int = field(default_factory=os.getpid)

    def met(self, call: str) -> None:
        if os.getpid() != self.owner or (self.refusal is not None and call not in _FAILING):
            return
        self.count += 1
        self.calls.append(call)
        if self.count == self.at:
            if self.refusal is None:
                os._exit(KILLED)
            raise OSError(self.refusal, os.strerror(self.refusal))

    def install(self) -> None:
        """Put the shim around the calls of this process, for good."""
        for name in _CHANGING:
            setattr(os, name, self._around(name, getattr(os, name)))
        opened, plain = os.open, io.open

        def system_open(path: Any, flags: int, *rest: Any, **named: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.met("open")
            return opened(path, flags, *rest, **named)

        def open_file(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            if set(mode) & set("wax+"):
                self.met("open")
            return plain(file, mode, *rest, **named)

        os.open = system_open  # type: ignore[assignment]
        builtins.open = io.open = open_file  # type: ignore[assignment]
        from napari_survpgc.core import exchange
        from napari_survpgc.core.features import rows

        rows.Rows.append = self._around("write", rows.Rows.append)  # type: ignore[method-assign]
        if exchange.exchange is not None:
            exchange.exchange = self._around("rename", exchange.exchange)

    def _around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            if name != "write" or not arguments or arguments[0] not in (1, 2):
                self.met(name)
            return call(*arguments, **named)

        return counted


def state(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder that is not hidden."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def hidden(folder: Path) -> list[str]:
    """Return what a command must not leave: hidden files, partial folders, locks."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.name.startswith(".") or path.name.endswith(".partial") or path.name == "checkpoint.pt"
    )


def in_child(work: Callable[[], None], shim: Shim | None, log: Path) -> int:
    """Do work in a forked process and return its exit status: 0, KILLED, REFUSED (one sentence) or BROKEN."""
    child = os.fork()
    if child == 0:
        try:
            with log.open("w") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            faulthandler.enable(all_threads=False)
            signal.alarm(_PATIENCE_SECONDS)
            if shim is not None:
                shim.owner = os.getpid()
                shim.install()
            try:
                work()
            except SurvPGCError as error:
                print(f"survpgc: {error}", file=sys.stderr, flush=True)
                os._exit(REFUSED)
            if shim is not None and shim.at == 0:
                log.with_suffix(".json").write_text(json.dumps(shim.calls))
            os._exit(0)
        except BaseException:  # noqa: BLE001  whatever it is, the parent must hear of it
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(BROKEN)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@dataclass(frozen=True)
class Prepared:
    """A scenario with what was there before, and what is there when nothing goes wrong."""

    scenario: Scenario
    folder: Path
    before: Path
    old: dict[str, str]
    new: dict[str, str]
    calls: tuple[str, ...]
    log: Path

    def fresh(self) -> Path:
        """Return the place of the outputs, as it was before."""
        place = self.folder / "work"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.before, place)
        return place


def prepare(scenario: Scenario, folder: Path, refusal: int | None = None) -> Prepared:
    """Make what a scenario starts from, and run it once unbroken to count its operations."""
    folder.mkdir(parents=True)
    before, log = folder / "before", folder / "log"
    (folder / "work").mkdir()
    scenario.before(folder, folder / "work")
    shutil.move(folder / "work", before)
    shutil.copytree(before, folder / "work")
    status = in_child(lambda: scenario.run(folder, folder / "work"), Shim(refusal=refusal), log)
    assert status == 0, f"{scenario.name}: {log.read_text()}"
    calls = tuple(json.loads(log.with_suffix(".json").read_text()))
    left = hidden(folder / "work")
    assert not left, f"{scenario.name} leaves {left}"
    return Prepared(
        scenario, folder, before, _seen(scenario, before), _seen(scenario, folder / "work"), calls, log
    )


def _seen(scenario: Scenario, place: Path) -> dict[str, str]:
    return {name: digest for name, digest in state(place).items() if not scenario.passing(name)}


def trial(given: Prepared, at: int, refusal: int | None = None) -> str:
    """Kill (or refuse) the operation ``at`` and return what is wrong with what is left; "" for nothing."""
    scenario, place = given.scenario, given.fresh()

    def work() -> None:
        scenario.run(given.folder, place)

    status = in_child(work, Shim(at, refusal), given.log)
    said = given.log.read_text()[-1500:]
    if status not in ((KILLED,) if refusal is None else (REFUSED, 0)):
        return f"exit {status}: {said}"
    told = [line for line in said.splitlines() if " -> " not in line]  # slides that were finished before
    if refusal is not None and status == REFUSED and len(told) > 1:
        return f"more than one sentence: {said}"
    now = _seen(scenario, place)
    if scenario.one_set and now not in (given.old, given.new):
        mixed = sorted(k for k in {*now, *given.new, *given.old} if now.get(k) != given.old.get(k))
        return f"neither the old nor the new set: {mixed} differ from the old one"
    if not scenario.one_set:
        torn = [k for k, digest in now.items() if digest not in (given.old.get(k), given.new.get(k))]
        if torn:
            return f"torn: {torn}"
    lost = sorted(
        k for k in given.old if k not in now and k not in ("", *scenario.replaced) and k in given.new
    )
    if lost and not scenario.one_set:
        return f"lost: {lost}"
    if refusal is None or status == REFUSED:
        status = in_child(work, None, given.log)
        if status != 0:
            return f"the next run ends with {status}: {given.log.read_text()[-1500:]}"
    if (after := _seen(scenario, place)) != given.new:
        return f"the next run gives something else: {sorted(k for k in {*after, *given.new} if after.get(k) != given.new.get(k))}"
    left = hidden(given.folder / "work")
    return f"left behind: {left}" if left and refusal is None else ""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """A forked process must not wait for threads that it has not."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_all(names: list[str], folder: Path, trials: range, refusal: int | None, record: Path | None) -> bool:
    """Try operations of the scenarios; write counts and what was found after each trial, so that a stop keeps them.

    Returns
    -------
    Whether all was as promised.
    """
    found: dict[str, Any] = {}
    with one_thread():
        for name in names:
            start = time.monotonic()
            given = prepare(SCENARIOS[name], folder / name, refusal)
            problems: dict[int, str] = {}
            chosen = range(trials.start, len(given.calls) + 1, trials.step)
            for number, at in enumerate(chosen, 1):
                if problem := trial(given, at, refusal):
                    problems[at] = f"{given.calls[at - 1]}: {problem}"
                    print(f"{name} {at}/{len(given.calls)} {problems[at]}", file=sys.stderr, flush=True)
                found[name] = {
                    "operations": len(given.calls),
                    "tried": number,
                    "problems": problems,
                    "seconds": round(time.monotonic() - start, 1),
                }
                if record is not None:
                    record.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            print(
                f"{name}: {len(chosen)} of {len(given.calls)} operations, {len(problems)} not as promised",
                flush=True,
            )
            shutil.rmtree(folder / name, ignore_errors=True)
    return not any(each["problems"] for each in found.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="try each N-th operation (default: all)")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--only", default=",".join(SCENARIOS))
    parser.add_argument("--fault", help="refuse with this error instead of killing, e.g. ENOSPC")
    parser.add_argument("--record", type=Path, help="folder for the counts (JSON)")
    options = parser.parse_args()
    refusal = getattr(errno, options.fault) if options.fault else None
    record = None
    if options.record:
        options.record.mkdir(parents=True, exist_ok=True)
        record = options.record / (f"faults-{options.fault}.json" if options.fault else "kills.json")
    trials = range(options.first, sys.maxsize, options.every)
    with tempfile.TemporaryDirectory(prefix="survpgc-kills-") as folder:
        os.environ["SURVPGC_CACHE"] = f"{folder}/cache"
        return 0 if run_all(options.only.split(","), Path(folder), trials, refusal, record) else 1


if __name__ == "__main__":
    raise SystemExit(main())
