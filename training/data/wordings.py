"""Which wording of the clinical sentences a patient gets: the study of template variety (the paper's Table 5)."""

from __future__ import annotations

import zlib

import numpy as np

from napari_survpgc.core.clinical.sentences import TemplateSet
from napari_survpgc.core.errors import CohortError
from napari_survpgc.core.types import CLINICAL_FIELDS


def draw_wordings(case: str, templates: TemplateSet, n_templates: int, seed: int) -> tuple[int, ...]:
    """Return which wording of each field a patient gets: drawn once from the first ``n_templates``, always the same.

    Raises
    ------
    CohortError : the set has fewer wordings.
    """
    if n_templates > templates.n_variants:
        raise CohortError(
            f"The templates '{templates.name}' have {templates.n_variants} wordings a field, not {n_templates}",
            "Choose templates 'synonyms', or a file with more wordings",
        )
    rng = np.random.default_rng(zlib.crc32(f"{seed}|{case}|wording".encode()))
    return tuple(rng.integers(n_templates, size=len(CLINICAL_FIELDS)).tolist())
