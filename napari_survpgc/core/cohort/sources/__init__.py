"""Where a cohort can come from: one module a source, found by being in this folder (see :class:`..read.Source`).

A source has ``recognises(place) -> bool``, which only looks at names, and ``read(place, ...) -> Cohort``, which lists all
problems in one CohortError. It must not recognise what belongs to another source.
"""
