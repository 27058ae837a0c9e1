"""The commands of ``survpgc``, one a file: ``HELP``, ``add_options(parser)`` and ``run(options) -> exit code``.

What a command needs of torch, napari and the like it imports when it runs, so that ``survpgc --help`` is quick.
"""

COMMANDS: dict[str, str] = {
    "demo": "demo",
    "view": "view",
    "features": "features",
    "predict": "predict",
    "train": "train",
    "reproduce": "reproduce",
    "evaluate": "evaluate",
    "simulate": "simulate",
    "bundle": "bundle",
    "import-checkpoint": "import_checkpoint",
    "weights": "weights",
    "anonymise": "anonymise",
    "doctor": "doctor",
}
"""Name on the command line -> file, in the order of ``--help``."""
