"""The detector network: ResNet-18 with a DBNet neck and head, under ModelScope's layer names.

The names and shapes are those of ``cv_resnet18_ocr-detection-db-line-level_damo`` (158 tensors at inner width 256), so
that its checkpoints load strictly and ours load there. The paper is Liao et al. 2020, "Real-time Scene Text Detection
with Differentiable Binarization"; its deformable convolutions are not used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

# The network halves its input five times; a side that is no multiple of this makes the neck's sums fail.
SIDE_MULTIPLE = 32

_STAGE_CHANNELS = (64, 128, 256, 512)

# The probability head starts at this logit (p = 0.1). Background that is never among the hardest stays about where it
# starts, so the start lies below every useful binarisation threshold.
_PRIOR_LOGIT = -2.2


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016, figure 5 left)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        result: Tensor = self.relu(out + shortcut)
        return result


class ResNet18(nn.Module):
    """ResNet-18 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        c2, c3, c4, c5 = _STAGE_CHANNELS
        self.conv1 = nn.Conv2d(3, c2, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(c2)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(c2, c2, stride=1)
        self.layer2 = _stage(c2, c3, stride=2)
        self.layer3 = _stage(c3, c4, stride=2)
        self.layer4 = _stage(c4, c5, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the features at 1/4, 1/8, 1/16 and 1/32 of the input size."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return c2, c3, c4, self.layer4(c4)


class DBDecoder(nn.Module):
    """Feature pyramid and the two heads; ``binarize`` is, by its legacy name, the probability head."""

    def __init__(self, inner_channels: int) -> None:
        super().__init__()
        quarter = inner_channels // 4
        c2, c3, c4, c5 = _STAGE_CHANNELS
        self.in5 = nn.Conv2d(c5, inner_channels, 1, bias=False)
        self.in4 = nn.Conv2d(c4, inner_channels, 1, bias=False)
        self.in3 = nn.Conv2d(c3, inner_channels, 1, bias=False)
        self.in2 = nn.Conv2d(c2, inner_channels, 1, bias=False)
        self.out5 = nn.Sequential(_conv3x3(inner_channels, quarter), nn.Upsample(scale_factor=8, mode="nearest"))
        self.out4 = nn.Sequential(_conv3x3(inner_channels, quarter), nn.Upsample(scale_factor=4, mode="nearest"))
        self.out3 = nn.Sequential(_conv3x3(inner_channels, quarter), nn.Upsample(scale_factor=2, mode="nearest"))
        self.out2 = _conv3x3(inner_channels, quarter)
        self.binarize = _head(inner_channels, quarter)
        self.thresh = _head(inner_channels, quarter)

    def fuse(self, features: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """Merge the pyramid into one map at 1/4 of the input size."""
        c2, c3, c4, c5 = features
        in5 = self.in5(c5)
        in4 = self.in4(c4) + _double(in5)
        in3 = self.in3(c3) + _double(in4)
        in2 = self.in2(c2) + _double(in3)
        return torch.cat((self.out5(in5), self.out4(in4), self.out3(in3), self.out2(in2)), dim=1)

    def logits(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Run both heads short of their sigmoid."""
        return _logits(self.binarize, fused), _logits(self.thresh, fused)


class DBNet(nn.Module):
    """The whole detector.

    Args:
        inner_channels: Width of the neck, a multiple of 4; 256 is ModelScope's.
    """

    def __init__(self, inner_channels: int = 256) -> None:
        super().__init__()
        if inner_channels < 4 or inner_channels % 4:
            raise ValueError("inner_channels must be a positive multiple of 4")
        self.inner_channels = inner_channels
        self.backbone = ResNet18()
        self.decoder = DBDecoder(inner_channels)
        self._initialise()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Run both heads short of their sigmoid, for the loss.

        Args:
            images: (N, 3, H, W), normalised; H and W multiples of 32.

        Returns:
            Logits of the probability map and of the threshold map, each (N, 1, H, W).
        """
        return self.decoder.logits(self.fused(images))

    def fused(self, images: Tensor) -> Tensor:
        """Return what both heads see: the neck's features (N, ``inner_channels``, H / 4, W / 4)."""
        return self.decoder.fuse(self.backbone(images))

    def inference(self, images: Tensor) -> Tensor:
        """Return the probability map (N, 1, H, W), 0 to 1; the threshold head is not run."""
        probability: Tensor = self.decoder.binarize(self.fused(images))
        return probability

    def _initialise(self) -> None:
        if self.backbone.conv1.weight.is_meta:
            # Only shapes are wanted. To fill them, torch would import its compiler, which takes seconds.
            return
        # He initialisation for a random start; the last BatchNorm of a block starts small rather than at one so that
        # the deep part begins close to the identity, which lets the learning rate be high from the first steps.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.ConvTranspose2d):
                # Stride equals kernel size, so each output pixel sums over the input channels only.
                nn.init.normal_(module.weight, std=(2.0 / module.in_channels) ** 0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, BasicBlock):
                nn.init.constant_(module.bn2.weight, 0.25)
        for head, bias in ((self.decoder.binarize, _PRIOR_LOGIT), (self.decoder.thresh, 0.0)):
            last = head[6]
            if isinstance(last, nn.ConvTranspose2d) and last.bias is not None:
                nn.init.normal_(last.weight, std=0.01)
                nn.init.constant_(last.bias, bias)


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def _stage(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(in_channels, channels, stride), BasicBlock(channels, channels, 1))


def _head(inner_channels: int, quarter: int) -> nn.Sequential:
    return nn.Sequential(
        _conv3x3(inner_channels, quarter),
        nn.BatchNorm2d(quarter),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(quarter, quarter, 2, stride=2),
        nn.BatchNorm2d(quarter),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(quarter, 1, 2, stride=2),
        nn.Sigmoid(),
    )


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _logits(head: nn.Sequential, x: Tensor) -> Tensor:
    layers: Sequence[nn.Module] = list(head)[:-1]
    for layer in layers:
        x = layer(x)
    return x
