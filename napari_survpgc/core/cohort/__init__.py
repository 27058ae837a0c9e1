"""A cohort folder: read, checked, folded."""

from .cohort import Cohort, Fold, is_cohort_folder
from .folds import FOLD_KINDS, make_folds, write_folds
from .read import read_cohort

__all__ = [
    "FOLD_KINDS",
    "Cohort",
    "Fold",
    "is_cohort_folder",
    "make_folds",
    "read_cohort",
    "write_folds",
]
