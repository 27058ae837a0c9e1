"""Make docs/reliability.md from the counts in a folder (build/reliability/*.json).

    python -m tests.trust.table build/reliability docs/reliability.md

A file is an object of name -> {"tried": n, "problems": {...}} with, where it is known, "operations" (of which those
tried are a part), "seconds" and "outcome" (a sentence). Whoever tries something else (`fuzz-slides.json`) writes one too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

KINDS = {
    "kills": "Killed at a file operation",
    "faults-ENOSPC": "Disk full at a file operation",
    "faults-EIO": "I/O error at a file operation",
    "faults-EACCES": "No permission at a file operation",
    "fuzz": "Mutated inputs",
}
HEAD = """# Reliability

What is tried by `make reliability`, and what came of it; the table is made by `python -m tests.trust.table`. The suite
runs a sample of it (`tests/trust`).

A **kill** ends the process at its n-th file operation (opening for writing, writing, renaming, linking, removing). What
is left must be the earlier results, whole, or the new ones, whole: `prediction.json`, report, maps, galleries, outlines
and case of one run. The same line must then succeed, with the same bytes, and leave nothing hidden. A **fault** refuses
the operation instead: one sentence, nothing torn, and the same line goes on. **Mutated inputs** must end in a result or
in one sentence.

| tried | what | trials | of operations | not as promised |
| --- | --- | ---: | ---: | ---: |
"""
TAIL = """
## What is promised where

* Results of a prediction take the place of the earlier ones in one step of the system (renameat2 on Linux, renamex_np on
  macOS). On Windows, on drives without it, and where the folder of results is the one that the program was started in, a
  link, a mount or of another owner, a journal in the folder says what is to be moved, and the next run finishes it.
* Features: what is encoded is kept; a slide that vanishes stops the work, which goes on later. Patches that failed are
  counted (`failed_patches`) and tried again; above 2 % a file is not finished.
* One process works in a folder of results at a time. Drives without locks are worked on without, which is said once.
* Not promised: power loss. Files are not forced to the disk (fsync) before they take their names.
"""


def render(folder: Path) -> str:
    """Return the page."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        kind = KINDS.get(path.stem) or KINDS.get(path.stem.partition("-")[0], path.stem)
        for name, found in json.loads(path.read_text(encoding="utf-8")).items():
            problems = found["problems"]
            wrong = problems if isinstance(problems, int) else len(problems)
            rows.append(
                f"| {kind} | {name} | {found['tried']:,} | {found.get('operations', '') or ''} | {wrong} |"
            )
    return HEAD + "\n".join(rows) + "\n" + TAIL


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(render(Path(sys.argv[1])), encoding="utf-8")
