"""The bundled trainer: cohort folders in; fold models, tables, figures and bundles out."""
