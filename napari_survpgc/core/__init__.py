"""The headless core: slides, patients, models and predictions. Knows neither Qt nor napari."""
