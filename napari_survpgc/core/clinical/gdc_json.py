"""The clinical JSON of the GDC: cases with demographic and diagnoses inside, as the portal and the API give it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

_SINGLE = ("demographic", "project")


def cases_of_json(document: object) -> list[Mapping[str, object]] | None:
    """Return the cases of a document: a list, the hits of the API, or one nested case; None for something else."""
    if isinstance(document, Mapping):
        data = document.get("data")
        if isinstance(data, Mapping) and isinstance(data.get("hits"), list):
            document = data["hits"]
        elif isinstance(document.get("demographic"), Mapping) or isinstance(document.get("diagnoses"), list):
            document = [document]
    if isinstance(document, list) and document and all(isinstance(one, Mapping) for one in document):
        return list(document)
    return None


def table_of_cases(cases: Sequence[Mapping[str, object]]) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """Return header and rows as clinical.tsv has them: a row for each diagnosis of a case, dotted names.

    Follow-ups, treatments, exposures and samples are left out: none of the six fields is in them.
    """
    rows = [row for case in cases for row in _rows(case)]
    header = tuple(dict.fromkeys(name for row in rows for name in row))
    return header, [{name: row.get(name, "") for name in header} for row in rows]


def _rows(case: Mapping[str, object]) -> Iterator[dict[str, str]]:
    own = _scalars(case)
    for name in _SINGLE:
        inner = case.get(name)
        if isinstance(inner, Mapping):
            own |= {f"{name}.{key}": value for key, value in _scalars(inner).items()}
    diagnoses = case.get("diagnoses")
    several = [one for one in diagnoses if isinstance(one, Mapping)] if isinstance(diagnoses, list) else []
    for diagnosis in several or [{}]:
        yield own | {f"diagnoses.{key}": value for key, value in _scalars(diagnosis).items()}


def _scalars(values: Mapping[str, object]) -> dict[str, str]:
    return {
        str(key): "" if value is None else str(value)
        for key, value in values.items()
        if not isinstance(value, (Mapping, list))
    }
