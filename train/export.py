"""Write a checkpoint as an ONNX file, for `hierseg.network.engines`: `python -m train export bce ftm`.

The file computes the same as PyTorch, up to float32 rounding. Like the checkpoint, it stores weights in half precision;
ONNX Runtime folds casts and batch norms into them when it loads the file.
"""

from __future__ import annotations

import copy
import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hierseg import files
from hierseg.network import _torchvision, checkpoint  # noqa: F401  # before smp and timm
from hierseg.network.activations import ACTIVATIONS
from hierseg.network.checkpoint import Card
from hierseg.network.engines import EXPORTED
from hierseg.network.model import normalize
from hierseg.photo import STRIDE

from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder  # isort: skip
from timm.layers.conv2d_same import Conv2dSame  # isort: skip


def export(path: Path) -> Path:
    """Write the ONNX file of a checkpoint beside it, and its checksum into the checkpoint's record.

    Args:
        path: The checkpoint.

    Returns:
        The file: the checkpoint's name with the ending .onnx. It takes `pictures`, RGB, uint8 (B, H, W, 3), H and W
        multiples of 32, and gives `scores`, float32 (B, N, H, W).

    Raises:
        CheckpointError: The checkpoint is missing or damaged.
    """
    model, card = checkpoint.load(path)
    buffer = io.BytesIO()
    sides = {1: "height", 2: "width"}
    with warnings.catch_warnings():
        # This exporter is deprecated, but the new one needs two more packages and cannot pad on one side.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            FromPixels(simplified(model), card).eval(),
            (torch.zeros(1, 2 * STRIDE, 3 * STRIDE, 3, dtype=torch.uint8),),
            buffer,  # type: ignore[arg-type]  # files work too
            dynamo=False,
            input_names=["pictures"],
            output_names=["scores"],
            dynamic_axes={"pictures": {0: "batch", **sides}, "scores": {0: "batch", 2: "height", 3: "width"}},
            training=torch.onnx.TrainingMode.PRESERVE,  # otherwise batch norms are folded here, in full precision
            do_constant_folding=False,  # likewise the casts
        )
    content = buffer.getvalue()
    target = path.with_suffix(".onnx")
    files.write_atomically(target, content)
    sha256 = hashlib.sha256(content).hexdigest()
    checkpoint.write_card(path, checkpoint.with_record(card, **{EXPORTED: sha256}))
    return target


def simplified(model: nn.Module) -> nn.Module:
    """Return a network that computes the same with less work, for inputs whose sides are multiples of `STRIDE`."""
    model = copy.deepcopy(model).eval()
    for name, module in list(model.named_modules()):
        if isinstance(module, SegformerDecoder):
            _replace(model, name, FusedSegformerDecoder(module))
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Conv2d):
            _replace(model, name, Convolution(module))
    return model


class FromPixels(nn.Module):
    """A network with its normalisation before and its activation after it."""

    def __init__(self, model: nn.Module, card: Card) -> None:
        """Wrap a network with this card."""
        super().__init__()
        self.model = model
        self._card = card

    def forward(self, pictures: Tensor) -> Tensor:
        """Return scores (B, N, H, W) of RGB bytes (B, H, W, 3)."""
        logits = self.model(normalize(pictures.permute(0, 3, 1, 2), self._card.spec))
        return ACTIVATIONS[self._card.spec.activation](logits, self._card.hierarchy)


class FusedSegformerDecoder(nn.Module):
    """SegFormer's decoder with its linear layers merged.

    SegFormer passes each level's features through a linear layer, resizes them to a quarter of the input, concatenates
    them, and applies a second linear layer and batch norm. All these steps are linear, so one matrix per level is
    enough. It is applied where that is least work: after resizing if a level has few channels, before it if many.
    """

    _FINE = 3  # levels of few channels: a half, a quarter and an eighth of the input

    def __init__(self, decoder: SegformerDecoder) -> None:
        """Fuse a decoder in eval mode."""
        super().__init__()
        join, norm = decoder.fuse_stage[0], decoder.fuse_stage[1]
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        bias = norm.bias - scale * norm.running_mean
        matrices: list[Tensor] = []
        parts = join.weight[:, :, 0, 0].chunk(len(decoder.mlp_stage), 1)
        for level, part in zip(decoder.mlp_stage, parts, strict=True):
            matrices.insert(0, scale[:, None] * part @ level.linear.weight)  # the decoder has the coarsest level first
            bias = bias + scale * (part @ level.linear.bias)
        self.fine = _pointwise(torch.cat(matrices[: self._FINE], 1), bias)
        self.coarse = nn.ModuleList(_pointwise(matrix) for matrix in matrices[self._FINE :])

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return features at a quarter of the input's size, from the input and the encoder's features."""
        # Bilinear resizing to half the size, by pixel centres, is the mean of four pixels.
        half, quarter, *smaller = features[1:]
        few = self._FINE - 2
        fine = [functional.avg_pool2d(half, 2), quarter]
        fine += [_enlarged(level, 2**power) for power, level in enumerate(smaller[:few], 1)]
        joined: Tensor = self.fine(torch.cat(fine, 1))
        for power, (matrix, level) in enumerate(zip(self.coarse, smaller[few:], strict=True), 1 + few):
            joined = joined + _enlarged(matrix(level), 2**power)
        return joined.relu()


class Convolution(nn.Module):
    """A convolution with fixed padding, and weights in half precision if that loses nothing.

    TensorFlow's padding depends on the input's size, but is fixed if its sides are multiples of `STRIDE`.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        """Copy a convolution."""
        super().__init__()
        weight = convolution.weight.detach()
        half = weight.half()
        self.weight = nn.Parameter(half if torch.equal(half.float(), weight) else weight, requires_grad=False)
        self.bias = convolution.bias
        self._stride, self._dilation, self._groups = convolution.stride, convolution.dilation, convolution.groups
        if isinstance(convolution, Conv2dSame):
            missing = [
                max(0, kernel - stride) for kernel, stride in zip(convolution.kernel_size, self._stride, strict=True)
            ]
            before = [pixels // 2 for pixels in missing]
            after = [pixels - first for pixels, first in zip(missing, before, strict=True)]
        else:
            before = after = [int(pixels) for pixels in convolution.padding]
        self._pads = [*before, *after]

    def forward(self, features: Tensor) -> Tensor:
        """Return the convolved features."""
        output: Tensor = _PaddedConvolution.apply(  # type: ignore[no-untyped-call]
            features, self.weight.float(), self.bias, self._stride, self._pads, self._dilation, self._groups
        )
        return output


class _PaddedConvolution(torch.autograd.Function):
    """A convolution with separate padding for each side: one operation in ONNX, two in PyTorch."""

    @staticmethod
    def forward(
        context: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, ...],
        pads: list[int],
        dilation: tuple[int, ...],
        groups: int,
    ) -> Tensor:
        top, left, bottom, right = pads
        padded = functional.pad(features, (left, right, top, bottom))
        return functional.conv2d(padded, weight, bias, stride, 0, dilation, groups)

    @staticmethod
    def symbolic(
        graph: Any,
        features: Any,
        weight: Any,
        bias: Any,
        stride: tuple[int, ...],
        pads: list[int],
        dilation: tuple[int, ...],
        groups: int,
    ) -> Any:
        inputs = [features, weight] if bias is None or bias.node().mustBeNone() else [features, weight, bias]
        return graph.op(
            "Conv",
            *inputs,
            kernel_shape_i=weight.type().sizes()[2:],
            strides_i=stride,
            pads_i=pads,
            dilations_i=dilation,
            group_i=groups,
        )


def _pointwise(matrix: Tensor, bias: Tensor | None = None) -> nn.Conv2d:
    convolution = nn.Conv2d(matrix.shape[1], matrix.shape[0], 1, bias=bias is not None)
    convolution.weight = nn.Parameter(matrix.detach()[:, :, None, None])
    if bias is not None:
        convolution.bias = nn.Parameter(bias.detach())
    return convolution


def _enlarged(features: Tensor, factor: int) -> Tensor:
    return functional.interpolate(features, scale_factor=factor, mode="bilinear")


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)
