"""What is installed, which device will be used, and what each encoder still needs: ``survpgc doctor``."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from napari_survpgc import __version__
from napari_survpgc.core import log
from napari_survpgc.core.errors import SurvPGCError
from napari_survpgc.core.user_folder import user_folder

_CORE_PACKAGES = (
    "torch",
    "openslide-python",
    "openslide-bin",
    "tiffslide",
    "h5py",
    "transformers",
    "lifelines",
)
_APP_PACKAGES = ("napari", "qtpy", "PyQt5", "PyQt6")


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``ready`` is None for plain information."""

    section: str
    text: str
    ready: bool | None = None


@dataclass(frozen=True)
class DoctorReport:
    """All findings; ready when nothing that the headless job needs is missing."""

    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        return all(finding.ready is not False for finding in self.findings)

    def text(self) -> str:
        """Return the report as plain text, a section a block."""
        lines: list[str] = []
        section = ""
        for finding in self.findings:
            if finding.section != section:
                section = finding.section
                lines += ["", section] if lines else [section]
            mark = {True: "ready  ", False: "MISSING", None: "       "}[finding.ready]
            lines.append(f"  {mark} {finding.text}")
        return "\n".join(lines)


def examine(bundle_folder: Path) -> DoctorReport:
    """Try everything that the main job needs, touching neither the network nor any patient's file."""
    findings = [
        Finding(
            "Program",
            f"napari-survpgc {__version__}, Python {platform.python_version()} on {platform.platform()}",
        ),
        Finding("Program", f"{os.cpu_count()} processors, interpreter {Path(sys.executable).name}"),
    ]
    findings.append(Finding("Program", f"log {log.log_file()}"))
    findings += [_package(name, "Core packages") for name in _CORE_PACKAGES]
    findings += [
        Finding("Desktop app (optional)", text)
        for text in (_package(name, "").text for name in _APP_PACKAGES)
    ]
    findings += _device()
    findings += _slides()
    findings += _encoders()
    findings.append(_bundle(bundle_folder))
    return DoctorReport(tuple(findings))


_SETTINGS = (
    "SURVPGC_",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "QT_",
    "NAPARI_",
    "HF_HOME",
    "HF_HUB_OFFLINE",
)
_SECRET = ("TOKEN", "KEY", "SECRET", "PASSWORD")


def support_report(report: DoctorReport) -> str:
    """Return what a support person asks for: versions, devices, settings and the end of the log; no patient's data.

    The log holds none (:mod:`napari_survpgc.core.log`); of places the user's own folder, name and machine are taken out.
    """
    settings = [
        f"{name}={'(set)' if any(word in name for word in _SECRET) else value}"
        for name, value in sorted(os.environ.items())
        if name.startswith(_SETTINGS)
    ]
    parts = {
        "survpgc doctor --report": "Holds no names, ids or values of patients. Read it before you send it.",
        "What is installed": report.text(),
        "Versions": "\n".join(log.versions()),
        "Settings": "\n".join(settings) or "none",
        "Folder of the user": str(user_folder()),
        "Log": "\n".join(log.last_lines()) or "There is none yet",
    }
    return _without_user(
        "\n\n".join(f"{title}\n{'-' * len(title)}\n{text}" for title, text in parts.items()) + "\n"
    )


def _without_user(text: str) -> str:
    names = {str(Path.home()): "~", platform.node(): "(machine)", Path.home().name: "(user)"}
    for name, shown in names.items():
        if len(name) > 2 and name not in ("root", "localhost"):
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", shown, text)
    return text


def _package(name: str, section: str) -> Finding:
    try:
        return Finding(section, f"{name} {importlib.metadata.version(name)}", True)
    except importlib.metadata.PackageNotFoundError:
        return Finding(section, f"{name} is not installed (pip install {name})", False)


def _device() -> list[Finding]:
    import torch

    from napari_survpgc.core.encoders.base import resolve_device

    device = resolve_device("auto")
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    found = [Finding("Device", f"{device.type}: {name}", True)]
    if device.type == "cpu":
        from napari_survpgc.core.encoders.base import cpu_has_bf16

        how = "bf16 arithmetic" if cpu_has_bf16() else "fp32 arithmetic (the fastest here)"
        found.append(Finding("Device", f"image encoders run in {how} on {torch.get_num_threads()} threads"))
    return found


def _slides() -> list[Finding]:
    try:
        import openslide

        return [Finding("Slides", f"OpenSlide library {openslide.__library_version__}", True)]
    except (ImportError, OSError) as error:
        # tiffslide still opens TIFF-like slides, so this is no reason to stop.
        return [
            Finding(
                "Slides",
                f"OpenSlide cannot be loaded ({error}): only TIFF-like slides open; pip install openslide-bin",
            )
        ]


def _encoders() -> list[Finding]:
    from napari_survpgc.core.encoders.catalog import load_gene_encoder, load_image_encoder, load_text_encoder
    from napari_survpgc.core.encoders.status import Readiness, encoder_statuses
    from napari_survpgc.core.types import EncoderKind

    load = {
        EncoderKind.IMAGE: load_image_encoder,
        EncoderKind.TEXT: load_text_encoder,
        EncoderKind.GENE: load_gene_encoder,
    }
    found = []
    for status in encoder_statuses(device="auto"):
        text, ready = status.line(), status.readiness is Readiness.READY
        if not status.embedded:
            # Nobody needs all of them: only what comes along must be there.
            found.append(Finding("Encoders", text, True if ready else None))
            continue
        try:
            load[EncoderKind(status.kind)](status.encoder_id, "cpu")
        except SurvPGCError as error:
            found.append(Finding("Encoders", f"{status.kind}: {error}", False))
        else:
            found.append(Finding("Encoders", text, True))
    found.append(Finding("Encoders", "gene: gene-sets, ready (trained within the model)", True))
    return found


def _bundle(folder: Path) -> Finding:
    from napari_survpgc.core.bundle.bundle import load_bundle

    try:
        bundle = load_bundle(folder)
        n = len(bundle.load_models("cpu"))
    except SurvPGCError as error:
        return Finding("Bundle", str(error), False)
    return Finding("Bundle", f"{bundle.config.name}: {n} fold models of {bundle.config.model}", True)
