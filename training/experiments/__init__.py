"""Tables and figures of the paper, one a file with ``make(plan) -> Product``; only the chosen one is imported."""

import pkgutil

EXPERIMENTS: tuple[str, ...] = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
"""Every file of this folder."""
