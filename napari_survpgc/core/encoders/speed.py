"""How fast an encoder will be here: measured for what comes along, estimated for what is large or not here yet."""

from __future__ import annotations

import functools
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from napari_survpgc.core.types import EncoderKind

from .catalog import cards_of, encoder_module, load_image_encoder

_ACHIEVED = 0.75  # share of a matrix product's rate that a transformer reaches
_UNITS = {
    EncoderKind.IMAGE: ("patch", "patches"),
    EncoderKind.TEXT: ("sentence", "sentences"),
    EncoderKind.GENE: ("patient", "patients"),
}


def expected_speed(kind: str, encoder_id: str, device: str = "auto") -> str:
    """Say how fast an encoder will be, e.g. "about 4 patches a second"; "" where nothing is known of it."""
    if any(card.embedded for card in cards_of(encoder_id, kind) if card.kind is EncoderKind.IMAGE):
        return f"{_two_digits(measured_rate(encoder_id, device))} patches a second, measured"
    rate = expected_rate(kind, encoder_id, device)
    if rate is None:
        return ""
    one, many = _UNITS[EncoderKind(kind)]
    if rate >= 1:
        return f"about {_two_digits(rate)} {many} a second"
    seconds = 1 / rate
    if seconds < 90:
        return f"about {_two_digits(seconds)} s a {one}"
    return f"about {_two_digits(seconds / 60)} min a {one}"


def _two_digits(value: float) -> str:
    """Return a positive number with two digits that count, without an exponent: 130, 4.2, 0.31."""
    return f"{float(f'{value:.2g}'):g}" if value < 1e5 else f"{value:.0f}"


def measured_rate(encoder_id: str, device: str = "auto", seconds: float = 1.0) -> float:
    """Return patches a second of an image encoder that is ready, as features are computed but without the slide."""
    import numpy as np
    import torch

    encoder = load_image_encoder(encoder_id, device)
    batch = np.zeros((8, encoder.input_px, encoder.input_px, 3), np.uint8)
    encoder.encode(batch)
    on_cpu = encoder.device.type == "cpu"
    workers = (os.cpu_count() or 1) if on_cpu else 1
    end = threading.Event()

    def work() -> int:
        if on_cpu:
            torch.set_num_threads(1)
        done = 0
        while not end.is_set():
            encoder.encode(batch)
            done += len(batch)
        return done

    threads = torch.get_num_threads()
    start = time.perf_counter()
    try:
        with ThreadPoolExecutor(workers) as pool:
            running = [pool.submit(work) for _ in range(workers)]
            end.wait(seconds)
            end.set()
            done = sum(each.result() for each in running)
    finally:
        torch.set_num_threads(threads)
    return done / (time.perf_counter() - start)


def expected_rate(kind: str, encoder_id: str, device: str = "auto") -> float | None:
    """Estimate patches, sentences or patients a second from the size of the network and a matrix product timed here.

    Returns None for networks whose size is known only from their files.
    """
    import torch

    from .base import resolve_device
    from .image.vision_transformer import ImageSpec, precision

    module = next(map(encoder_module, cards_of(encoder_id, kind)), None)
    work: float | None = getattr(module, "WORK", None)
    spec = getattr(module, "SPEC", None)
    where = resolve_device(device.partition(",")[0])
    dtype = torch.float32
    if isinstance(spec, ImageSpec):
        dtype = precision(where, spec.half)
        work = work or _transformer_work(module)
    elif kind == EncoderKind.IMAGE:
        dtype = precision(where, torch.float16)
    return None if work is None else _ACHIEVED * _multiplications(str(where), dtype) / work


@functools.cache
def _transformer_work(module: object) -> float:
    import torch

    from .image.vision_transformer import build_transformer

    spec = module.SPEC  # type: ignore[attr-defined]
    with torch.device("meta"):
        network = build_transformer(spec)
    weights = sum(parameter.numel() for parameter in network.parameters())
    return 2.0 * weights * (spec.seen_px // int(spec.arguments.get("patch_size", 14))) ** 2


@functools.cache
def _multiplications(device: str, dtype: object) -> float:
    """Return floating-point operations a second of a matrix product, the best of a few."""
    import torch

    matrix = torch.ones(1024, 1024, device=device, dtype=dtype)  # type: ignore[call-overload]
    best = float("inf")
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # waits for a GPU
        best = min(best, time.perf_counter() - start)
    return 2 * 1024**3 / best
