"""The names of a model's weights without what training frameworks put into them."""

from __future__ import annotations

from collections.abc import Iterable

# DataParallel, Lightning and others put these before every name, torch.compile its own also within.
_BEFORE = ("module.", "model.", "_orig_mod.", "net.", "network.", "_forward_module.", "ema_model.")
_WITHIN = ("_orig_mod", "module")


def plain_names(names: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return name in a checkpoint -> name of the model's own, and what was removed, in its order.

    A prefix is removed when every name has it. ``_orig_mod`` and ``module`` within a name stand for a compiled or
    parallel part of a model and are removed unless two names would become one.
    """
    plain = {name: name for name in names}
    removed: list[str] = []

    def before() -> None:
        while plain:
            prefix = next((p for p in _BEFORE if all(new.startswith(p) for new in plain.values())), None)
            if prefix is None:
                return
            for name, new in plain.items():
                plain[name] = new.removeprefix(prefix)
            removed.append(prefix)

    before()
    for part in _WITHIN:
        cut = {name: ".".join(p for p in new.split(".") if p != part) for name, new in plain.items()}
        if cut != plain and all(cut.values()) and len(set(cut.values())) == len(cut):
            plain = cut
            removed.append(f"{part}.")
            before()
    return plain, tuple(dict.fromkeys(removed))
