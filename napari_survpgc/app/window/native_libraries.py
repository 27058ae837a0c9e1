"""Shared libraries that must not meet in one process with a window."""

from __future__ import annotations

import sys


def keep_triton_out() -> None:
    """Make ``import triton`` fail on machines without CUDA, where it is of no use.

    triton's library and Mesa's software renderer each bring an LLVM; loading triton after a window has drawn ends the
    process with a segmentation fault (seen with triton 3 and Mesa 22). torch and transformers import it
    when it is there, for ``torch.compile`` on GPUs, and do without it when it is not.
    """
    import torch

    if "triton" not in sys.modules and not torch.cuda.is_available():
        sys.modules["triton"] = None  # type: ignore[assignment]
