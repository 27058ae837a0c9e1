"""The finished rows of features that are still being computed."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from napari_survpgc.core.errors import OutputError
from napari_survpgc.core.files import sweep, write_text

ROWS_FILE = "rows.bin"


class Rows:
    """Records of (index, ok, values) on disk, in any order, of which the last one of an index counts.

    Parameters
    ----------
    folder : for the records, and whose they are.   identity : of slide, grid and encoder.   slide : its fingerprint.

    Raises
    ------
    OutputError : the folder holds the rows of another slide.
    """

    def __init__(self, folder: Path, identity: str, slide: str, count: int, dim: int) -> None:
        self.count, self.dim = count, dim
        self._record = np.dtype([("index", "<i4"), ("ok", "u1"), ("row", "<f4", (dim,))])
        header, owner, path = folder / "identity", folder / "slide", folder / ROWS_FILE
        sweep(folder)
        has_rows = path.is_file() and path.stat().st_size > 0
        if has_rows and owner.is_file() and owner.read_bytes() != slide.encode():
            raise OutputError(
                f"{folder} holds the unfinished features of another slide of that name",
                "Finish those first, or choose another --out folder",
            )
        if not header.is_file() or header.read_bytes() != identity.encode():
            # Rows of another grid or encoder; or none yet. They go before the header says that they are this one's.
            path.unlink(missing_ok=True)
            write_text(header, identity)
        if not owner.is_file() or owner.read_bytes() != slide.encode():
            write_text(owner, slide)
        if path.is_file():
            whole = path.stat().st_size // self._record.itemsize * self._record.itemsize
            os.truncate(path, whole)
        self._path = path
        self._stream: IO[bytes] = path.open("ab")

    def done(self) -> NDArray[np.bool_]:
        """Return which patches have a row; those that failed are tried again by the next run."""
        return self.read()[1]

    def append(self, index: NDArray[np.int64], ok: NDArray[np.bool_], rows: NDArray[np.float32]) -> None:
        records = np.zeros(len(index), self._record)
        records["index"], records["ok"], records["row"] = index, ok, rows
        self._stream.write(records.tobytes())
        self._stream.flush()

    def read(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return (count, dim) rows and (count,) whether there is one."""
        self._stream.flush()
        records = np.fromfile(self._path, self._record)
        records = records[(records["index"] >= 0) & (records["index"] < self.count) & (records["ok"] == 1)]
        rows = np.zeros((self.count, self.dim), np.float32)
        ok = np.zeros(self.count, bool)
        rows[records["index"]] = records["row"]
        ok[records["index"]] = True
        return rows, ok

    def close(self) -> None:
        self._stream.close()


def remove_without_rows(folder: Path) -> None:
    """Remove the folder of unfinished features in which there is not a row yet."""
    rows = folder / ROWS_FILE
    with contextlib.suppress(OSError):
        if folder.is_dir() and not (rows.is_file() and rows.stat().st_size > 0):
            shutil.rmtree(folder, ignore_errors=True)
