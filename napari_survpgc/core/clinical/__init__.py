"""The clinical record: fields, files, sentences, one-hot."""

from .record import VOCABULARY, field_warnings, parse_record, unknown_fields
from .record_file import list_cases, read_record
from .sentences import TemplateSet, clinical_tokens, load_templates, sentences

__all__ = [
    "VOCABULARY",
    "TemplateSet",
    "clinical_tokens",
    "field_warnings",
    "list_cases",
    "load_templates",
    "parse_record",
    "read_record",
    "sentences",
    "unknown_fields",
]
