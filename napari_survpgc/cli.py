"""The command line ``survpgc``: the whole job without a screen.

Exit codes: 0 done; 2 bad input, with one line on stderr that names the file or field, what is wrong and what to do;
130 interrupted (what was finished is kept, the same line goes on). Each command is a file of ``commands``.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from napari_survpgc.commands import COMMANDS
from napari_survpgc.core import log
from napari_survpgc.core.errors import CancelledError, SurvPGCError
from napari_survpgc.core.notice import RESEARCH_NOTICE

from . import __version__


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of printing the usage block."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}. See '{self.prog} --help'.", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    log.catch_all()
    raise SystemExit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see the module's docstring)."""
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:  # argparse: --help, --version or a wrong option
        return int(stop.code or 0)
    log.start(options.command)
    try:
        with log.timed(options.command):
            return int(options.run(options))
    except SurvPGCError as error:
        print(f"survpgc: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, CancelledError):
        print("survpgc: interrupted; run the same line again to go on where it stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (e.g. `| head`); python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="survpgc",
        description="See what a multimodal cancer survival model looks at: slide, gene expression and six clinical"
        f" characteristics in, risk and two attention maps out. {RESEARCH_NOTICE}",
    )
    parser.add_argument("--version", action="version", version=f"survpgc {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, file in COMMANDS.items():
        command = importlib.import_module(f".commands.{file}", __package__)
        own = commands.add_parser(name, help=command.HELP, description=command.HELP)
        command.add_options(own)
        own.set_defaults(run=command.run, command=name)
    return parser


if __name__ == "__main__":
    main()
