"""Links of an HDF5 file that lead out of it."""

from __future__ import annotations

import h5py

_MAX_ITEMS = 2_000_000  # outlines have a group each
_DEEPEST = 4  # ours are three deep; two names of one group could close a circle


def leads_out(file: h5py.File) -> bool:
    """Whether anything in a file is not in the file itself: a link of any kind, external storage, virtual data.

    Also True for one with more, or deeper nested, than we ever write: it cannot be looked through.
    """
    todo: list[tuple[h5py.Group, int]] = [(file, 0)]
    seen = 0
    while todo:
        group, depth = todo.pop()
        for name in group:
            seen += 1
            if depth > _DEEPEST or seen > _MAX_ITEMS:
                return True
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                return True
            node = group[name]
            if isinstance(node, h5py.Dataset) and (node.is_virtual or node.external):
                return True
            if isinstance(node, h5py.Group):
                todo.append((node, depth + 1))
    return False
