"""A checkpoint gives its tensors and nothing else: whatever its pickle asks for, nothing is executed."""

from __future__ import annotations

import collections
import contextlib
import copyreg
import io
import os
import pickle
import random
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_survpgc.core.checkpoints.file import CheckpointError, read_checkpoint


class Block(nn.Module):
    """Everything that a published module may hold beside its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4))
        self.attn = nn.MultiheadAttention(4, 2)
        self.layers = nn.ModuleList([nn.TransformerEncoderLayer(8, 2, 16)])
        self.turned = nn.Parameter(torch.randn(5, 3).T)
        self.register_buffer("low", torch.ones(3).bfloat16())
        self.register_buffer("unsaved", torch.ones(3), persistent=False)
        self.size, self.loss, self.table = torch.Size([1, 2]), nn.CrossEntropyLoss(), np.arange(3)
        self.facts = collections.defaultdict(list, {"a": [1]})


KINDS = ("module", "state dict", "in a dictionary", "DataParallel", "module in a dictionary")


def _saved(kind: str, model: nn.Module) -> object:
    return {
        "module": model,
        "state dict": model.state_dict(),
        "in a dictionary": {"epoch": 3, "optimizer": {"lr": torch.ones(1)}, "state_dict": model.state_dict()},
        "DataParallel": nn.DataParallel(model),
        "module in a dictionary": {"model": model, "args": [1, 2]},
    }[kind]


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", KINDS)
def test_tensors_come_back_under_their_names(tmp_path: Path, kind: str, new: bool) -> None:
    torch.manual_seed(0)
    model = Block()
    torch.save(_saved(kind, model), tmp_path / "m.pt", _use_new_zipfile_serialization=new)
    found = read_checkpoint(tmp_path / "m.pt")
    expected = model.state_dict()
    assert list(found) == list(expected)
    for name, value in expected.items():
        wanted = value.float() if value.is_floating_point() else value
        assert torch.equal(found[name], wanted), name
        assert found[name].is_contiguous()


@pytest.mark.parametrize("protocol", range(1, 6))
def test_every_pickle_protocol_is_read(tmp_path: Path, protocol: int) -> None:
    model = Block()
    if protocol < 2:
        model.facts = None  # type: ignore[assignment]  # a factory cannot be pickled in those
    torch.save(model, tmp_path / "m.pt", pickle_protocol=protocol)
    assert set(read_checkpoint(tmp_path / "m.pt")) == set(model.state_dict())


def test_safetensors_are_read(tmp_path: Path) -> None:
    import safetensors.torch

    safetensors.torch.save_file({"module.a": torch.ones(2)}, str(tmp_path / "m.safetensors"))
    assert list(read_checkpoint(tmp_path / "m.safetensors")) == ["a"]


def test_shared_weights_and_views_are_read_apart(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    torch.save({"a": base[2:6], "b": base.view(3, 4).T, "c": base}, tmp_path / "m.pt")
    found = read_checkpoint(tmp_path / "m.pt")
    assert torch.equal(found["a"], base[2:6])
    assert torch.equal(found["b"], base.view(3, 4).T)


# --- hostile files ------------------------------------------------------------------------------------------

PID = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
"""A storage of four float32, as a persistent id."""
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + PID + b"K\x00(K\x04t(K\x01t\x89}tR"


def _zip(path: Path, program: bytes, storage: bytes = bytes(16), **more: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", storage)
        for name, content in more.items():
            archive.writestr(f"archive/{name}", content)
    return path


def _legacy(path: Path, program: bytes, keys: tuple[str, ...] = ("0",), numel: int = 4) -> Path:
    head = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True})
    content = b"".join(pickle.dumps(part, 2) for part in head)
    content += program + pickle.dumps(list(keys), 2)
    path.write_bytes(content + b"".join(struct.pack("<q", numel) + bytes(16) for _ in keys))
    return path


def _state(value: bytes) -> bytes:
    """Return a program whose result is {"w": tensor, "x": value}."""
    return b"\x80\x02}(X\x01\x00\x00\x00w" + TENSOR + b"X\x01\x00\x00\x00x" + value + b"u."


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _stack_global(module: str, name: str) -> bytes:
    return _text(module) + _text(name) + b"\x93"


OPEN = "open('owned', 'w').close()"
COMMAND = "touch owned"

PROGRAMS: dict[str, bytes] = {
    "os.system": _state(b"cos\nsystem\n(" + _text(COMMAND) + b"tR"),
    "posix.system": _state(b"cposix\nsystem\n(" + _text(COMMAND) + b"tR"),
    "nt.system, INST": _state(b"(" + _text(COMMAND) + b"ios\nsystem\n"),
    "OBJ": _state(b"(cos\nsystem\n" + _text(COMMAND) + b"o"),
    "NEWOBJ": _state(b"csubprocess\nPopen\n(" + _text(COMMAND) + b"t\x81"),
    "NEWOBJ_EX": _state(b"csubprocess\nPopen\n(" + _text(COMMAND) + b"t}" + b"\x92"),
    "builtins.eval": _state(b"cbuiltins\neval\n(" + _text(OPEN) + b"tR"),
    "__builtin__.exec": _state(b"c__builtin__\nexec\n(" + _text(OPEN) + b"tR"),
    "dotted name in torch": _state(_stack_global("torch", "os.system") + b"(" + _text(COMMAND) + b"tR"),
    "dotted name under an admitted one": _state(
        _stack_global("torch._utils", "_rebuild_tensor_v2.__globals__") + b"(" + _text("os") + b"tR"
    ),
    "dotted module": _state(_stack_global("torch.os", "system") + b"(" + _text(COMMAND) + b"tR"),
    "getattr chain": _state(
        b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(" + _text("os") + b"tR" + _text("system") + b"tR("
        + _text(COMMAND) + b"tR"
    ),
    "apply": _state(b"cfunctools\npartial\n(cos\nsystem\n" + _text(COMMAND) + b"tR)R"),
    "torch.load itself": _state(b"ctorch\nload\n(" + _text("owned") + b"tR"),
    "pickle.loads in it": _state(
        b"cpickle\nloads\n(" + _text("cos\nsystem\n(S'touch owned'\ntR.") + b"tR"
    ),
    "attrgetter": _state(b"coperator\nattrgetter\n(" + _text("system") + b"tR(cos\npath\ntR(" + _text(COMMAND) + b"tR"),
    "hostile __setstate__": _state(b"ctypes\nFunctionType\n)\x81}" + _text("__setstate__") + b"cos\nsystem\nsb"),
    "torch's own __setstate__": _state(b"ctorch\nTensor\n)\x81(" + PID + b"K\x00(K\x04t(K\x01ttb"),
    "rebuild hooks": _state(
        b"ctorch._utils\n_rebuild_parameter\n(" + TENSOR + b"\x88cos\nsystem\n(" + _text(COMMAND) + b"tRtR"
    ),
    "numpy object array": _state(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btRcos\nsystem\n("
                                 + _text(COMMAND) + b"tRb"),
    "memo: the function kept, then called": _state(
        b"cos\nsystem\nq\x01(" + _text(COMMAND) + b"q\x02tq\x03R0h\x01(h\x02tR"
    ),
}  # fmt: skip
"""Programs that come to an end: the payload is dead, the tensor beside it is read."""

REFUSED: dict[str, bytes] = {
    "persistent id that is a call": b"\x80\x02cos\nsystem\n(" + _text(COMMAND) + b"tRQ.",
    "call inside a storage's id": b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
    b"(X\x07\x00\x00\x00storagecos\nsystem\n(" + _text(COMMAND) + b"tRX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    b"K\x00(K\x04t(K\x01t\x89}tRs.",
    "setting an attribute of an admitted function": _state(
        b"ctorch._utils\n_rebuild_tensor_v2\n}X\x05\x00\x00\x00_makecos\nsystem\nsb"
    ),
    "slots of an admitted function": _state(
        b"ctorch._utils\n_rebuild_tensor_v2\nN}X\x05\x00\x00\x00_makecos\nsystem\ns\x86b"
    ),
    "setting an attribute of an admitted class": _state(
        b"ccollections\nOrderedDict\nN}X\x06\x00\x00\x00updatecos\nsystem\ns\x86b"
    ),
    "setting an attribute of a foreign class": _state(b"cos\nsystem\nN}X\x08\x00\x00\x00__call__cbuiltins\neval\ns\x86b"),
    "changing a storage": _state(PID + b"N}X\x05\x00\x00\x00numelK\x7fs\x86b"),
    "extension registry": _state(b"\x82\x01)R"),
    "memo of a trillion": b"\x80\x02}r\xff\xff\xff\x7f.",
    "tuples in tuples": b"\x80\x02})" + b"\x85" * 300_000 + b"K\x01s.",
    "endless strings": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
    "endless frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"}.",
    "a number instead of a model": b"\x80\x02K\x07.",
    "no tensors": b"\x80\x02}X\x01\x00\x00\x00aK\x01s.",
    "nothing at all": b"",
    "cut off": _state(b"K\x01")[:-20],
    "stack underflow": b"\x80\x02R.",
}  # fmt: skip


class _Acts:
    """Notes what the process does while a file is read."""

    names = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "exec", "compile", "pickle.find_class",
             "shutil", "socket", "ctypes", "marshal", "os.remove", "os.rename", "code.__new__")  # fmt: skip

    def __init__(self) -> None:
        self.watching = False
        self.seen: list[tuple[str, Any]] = []

    def __call__(self, event: str, arguments: Any) -> None:
        if self.watching and event.startswith(self.names):
            self.seen.append((event, arguments))


_ACTS = _Acts()
sys.addaudithook(_ACTS)  # hooks cannot be taken away, so this one is switched


@pytest.fixture
def acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Acts]:
    monkeypatch.chdir(tmp_path)
    import safetensors.torch  # noqa: F401  # modules are compiled now rather than while it watches

    for new in (True, False):
        torch.save({"a": torch.ones(1)}, tmp_path / "warm.pt", _use_new_zipfile_serialization=new)
        read_checkpoint(tmp_path / "warm.pt")
    read_checkpoint(_zip(tmp_path / "warm.pt", _state(b"K\x01")))
    _ACTS.seen.clear()
    _ACTS.watching = True
    yield _ACTS
    _ACTS.watching = False


def _nothing_happened(acts: _Acts, folder: Path) -> None:
    acts.watching = False
    assert acts.seen == []
    assert not (folder / "owned").exists()


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_no_payload_is_executed(tmp_path: Path, acts: _Acts, name: str, new: bool) -> None:
    path = (_zip if new else _legacy)(tmp_path / "m.pt", PROGRAMS[name])
    assert next(iter(read_checkpoint(path))) == "w"
    _nothing_happened(acts, tmp_path)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", REFUSED)
def test_hostile_and_damaged_pickles_are_refused_in_one_sentence(
    tmp_path: Path, acts: _Acts, name: str, new: bool
) -> None:
    path = (_zip if new else _legacy)(tmp_path / "m.pt", REFUSED[name])
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    _nothing_happened(acts, tmp_path)
    assert "m.pt cannot be read as a checkpoint" in str(caught.value)
    assert "\n" not in str(caught.value)


class Payload:
    """What an attacker's ``__reduce__`` looks like."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


PAYLOADS = (
    lambda: Payload(os.system, "touch owned"),
    lambda: Payload(eval, OPEN),
    lambda: Payload(exec, OPEN),
    lambda: Payload(getattr, os, "system"),
    lambda: [{"deep": (Payload(os.system, "touch owned"),)}],
)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("where", ["attribute", "parameter", "module", "buffer", "beside", "key", "root"])
def test_payloads_anywhere_in_a_saved_module_stay_dead(
    tmp_path: Path, acts: _Acts, where: str, new: bool
) -> None:
    acts.watching = False
    for number, make in enumerate(PAYLOADS):
        if number == 3:
            continue  # a module object cannot be pickled; the chain is among PROGRAMS
        model, payload = nn.Sequential(nn.Linear(2, 2)), make()
        saved: object = model
        if where == "attribute":
            model[0].trap = payload  # type: ignore[assignment]
        elif where in ("parameter", "module", "buffer"):
            model[0].__dict__[f"_{where}s"]["trap"] = payload
        elif where == "beside":
            saved = {"state_dict": model.state_dict(), "trap": payload}
        elif where == "key" and not isinstance(payload, list):
            saved = {**model.state_dict(), payload: 1}
        elif where == "root":
            saved = payload
        torch.save(saved, tmp_path / "m.pt", _use_new_zipfile_serialization=new)
        acts.watching = True
        if where == "root":
            with pytest.raises(CheckpointError, match="neither a state dict nor a module"):
                read_checkpoint(tmp_path / "m.pt")
        else:
            assert list(read_checkpoint(tmp_path / "m.pt")) == ["0.weight", "0.bias"]
        acts.watching = False
    _nothing_happened(acts, tmp_path)


def test_the_payload_would_have_worked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Payload(os.system, "touch owned")))
    assert (tmp_path / "owned").exists()


def test_a_registered_extension_code_is_not_followed(tmp_path: Path, acts: _Acts) -> None:
    acts.watching = False
    copyreg.add_extension("os", "system", 201)
    try:
        path = _zip(tmp_path / "m.pt", _state(b"\x82\xc9(" + _text(COMMAND) + b"tR"))
        acts.watching = True
        with pytest.raises(CheckpointError, match="part of the pickle format"):
            read_checkpoint(path)
    finally:
        acts.watching = False
        copyreg.remove_extension("os", "system", 201)
    _nothing_happened(acts, tmp_path)


def _program(
    offset: bytes = b"K\x00", size: bytes = b"(K\x04t", stride: bytes = b"(K\x01t", numel: bytes = b"K\x04"
) -> bytes:
    pid = PID.replace(b"K\x04tQ", numel + b"tQ")
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + offset + size + stride + b"\x89}tR"
    return b"\x80\x02}(X\x01\x00\x00\x00w" + tensor + b"u."


BOUNDS = {
    "offset": _program(offset=b"K\x01"),
    "size": _program(size=b"(K\x05t"),
    "stride": _program(stride=b"(K\x02t"),
    "negative offset": _program(offset=b"J\xff\xff\xff\xff"),
    "negative stride": _program(stride=b"(J\xff\xff\xff\xfft"),
    "negative size": _program(size=b"(J\xff\xff\xff\xfft"),
    "expanded to fill the memory": _program(size=b"(J\x00\x00\x00\x40t", stride=b"(K\x00t"),
    "empty": _program(size=b"(K\x00t"),
    "sizes that are no numbers": _program(size=_text("abcd")),
    "more sizes than strides": _program(size=b"(K\x02K\x02t"),
    "storage claimed larger": _program(size=b"(J\xff\xff\xff\x7ft", numel=b"J\xff\xff\xff\x7f"),
    "storage claimed a little larger": _program(size=b"(K\x08t", numel=b"K\x08"),
    "storage of an astronomic size": _program(numel=b"\x8a\x08" + struct.pack("<q", 1 << 62)),
}  # fmt: skip


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", BOUNDS)
def test_tensors_beyond_their_storage_are_refused(tmp_path: Path, name: str, new: bool) -> None:
    path = (_zip if new else _legacy)(tmp_path / "m.pt", BOUNDS[name])
    with pytest.raises(
        CheckpointError, match=r"m\.pt cannot be read as a checkpoint: (a tensor|a storage|its tensors)"
    ):
        read_checkpoint(path)


def test_a_compressed_record_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", _state(b"K\x01"))
        archive.writestr("archive/data/0", bytes(16))
    with pytest.raises(CheckpointError, match="packed in an unknown way"):
        read_checkpoint(tmp_path / "m.pt")


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(tmp_path / "script.pt"))
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_checkpoint(tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("readme.txt", "words")
    with pytest.raises(CheckpointError, match="not one of PyTorch"):
        read_checkpoint(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(b"words")
    with pytest.raises(CheckpointError, match=r"b\.pt"):
        read_checkpoint(tmp_path / "b.pt")
    (tmp_path / "c.safetensors").write_bytes(b"words")
    with pytest.raises(CheckpointError, match=r"c\.safetensors"):
        read_checkpoint(tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        read_checkpoint(tmp_path / "nowhere.pt")
    torch.save({"w": torch.tensor([1.0, float("nan")])}, tmp_path / "d.pt")
    with pytest.raises(CheckpointError, match="not all numbers"):
        read_checkpoint(tmp_path / "d.pt")
    _zip(tmp_path / "e.pt", _state(b"K\x01"), byteorder=b"big")
    with pytest.raises(CheckpointError, match="byte order"):
        read_checkpoint(tmp_path / "e.pt")


def test_modules_that_contain_themselves_or_explode_are_refused(tmp_path: Path) -> None:
    ring = nn.Sequential(nn.Linear(1, 1))
    ring._modules["again"] = ring
    torch.save(ring, tmp_path / "ring.pt")
    with pytest.raises(CheckpointError, match="contain themselves"):
        read_checkpoint(tmp_path / "ring.pt")
    bomb: nn.Module = nn.Linear(1, 1)
    for _ in range(60):  # 2^60 names from 60 modules
        bomb = nn.Sequential(bomb, bomb)
    torch.save(bomb, tmp_path / "bomb.pt")
    with pytest.raises(CheckpointError, match="more objects"):
        read_checkpoint(tmp_path / "bomb.pt")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_truncated_and_altered_files_never_end_in_a_traceback(tmp_path: Path, acts: _Acts, new: bool) -> None:
    acts.watching = False
    stream = io.BytesIO()
    torch.save(Block(), stream, _use_new_zipfile_serialization=new)
    whole = stream.getvalue()
    rng = random.Random(0)
    acts.watching = True
    for turn in range(150):
        content = bytearray(whole[: rng.randrange(len(whole))] if turn % 3 == 0 else whole)
        for _ in range(rng.randrange(1, 6)):
            if content and turn % 3:
                content[rng.randrange(len(content))] = rng.randrange(256)
        (tmp_path / "m.pt").write_bytes(content)
        with contextlib.suppress(CheckpointError):
            read_checkpoint(tmp_path / "m.pt")
    _nothing_happened(acts, tmp_path)
