"""Encoders and fine-tuned classifiers as ONNX or ``torch.export`` programs."""
import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmpretrain.models import VisionTransformer
from torch import Tensor, nn

from ..interop.vit import Comparison, PlainViT
from ..utils.arguments import output_file, positive_int
from ..utils.errors import ConfigurationError
from ..utils.files import check_file, whole
from ..utils.machine import pytorch_is
from ..utils.optional import require
from .encoder import Encoder, load

SUFFIXES = ('.onnx', '.pt2')
# Larger ONNX files keep their weights beside them: protobuf ends at 2 GiB.
LARGEST_SINGLE_FILE = 1_900_000_000
FIRST_TORCH = '2.5'


class ExportableViT(nn.Module):
    """A ViT for batches and image sizes that are unknown when it is exported.

    Normalisation is part of it, so that nobody has to know mean and standard
    deviation. Image sides are multiples of the patch size, at least two patches.
    Positions are always interpolated, which at the size of the training changes
    nothing; a test for that size would tie the program to it.

    Args:
        encoder (Encoder): From :func:`mixedae_mm.load`.
        classifier (bool): Give logits, not tokens.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder, classifier: bool) -> None:
        super().__init__()
        self.model: PlainViT = encoder.model
        self.classifier = classifier
        for name in ('mean', 'std'):  # (C, 1, 1), in the units of the images
            value = getattr(encoder.preprocessing, name)
            self.register_buffer(name, _scale(encoder) * value)

    def forward(self, images: Tensor) -> Union[Tensor, Tuple[Tensor, Tensor]]:
        """RGB images ``(N, 3, H, W)`` in 0..1, or of other channels, to the outputs.

        Returns:
            tuple[Tensor, Tensor] | Tensor: ``cls`` ``(N, C)`` and ``patches``
            ``(N, L, C)``; of a classifier the logits ``(N, num_classes)``.
        """
        backbone: VisionTransformer = self.model.backbone
        x = backbone.patch_embed.projection((images - self.mean) / self.std)
        position = backbone.pos_embed[:, 1:].unflatten(
            1, backbone.patch_resolution).permute(0, 3, 1, 2)
        position = F.interpolate(
            position, size=x.shape[-2:], mode=backbone.interpolate_mode,
            align_corners=False)
        x = (x + position).flatten(2).transpose(1, 2)
        cls_token = backbone.cls_token + backbone.pos_embed[:, :1]
        x = torch.cat([cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        for layer in backbone.layers:
            x = layer(x)
        if backbone.final_norm:
            x = backbone.ln1(x)
        return _outputs(self.model, x, self.classifier)


def _outputs(model: PlainViT, tokens: Tensor,
             classifier: bool) -> Union[Tensor, Tuple[Tensor, Tensor]]:
    return model.logits(tokens) if classifier else (tokens[:, 0], tokens[:, 1:])


def export(encoder: Encoder,
           out: Union[str, Path],
           classifier: bool = False,
           overwrite: bool = False) -> List[Comparison]:
    """Export, check at several sizes, and only then put the file in its place.

    Args:
        encoder (Encoder): From :func:`mixedae_mm.load`, on the CPU.
        out (str | Path): ``.onnx``, or ``.pt2`` for ``torch.export``.
        classifier (bool): Export the fine-tuned classifier, not the encoder.
        overwrite (bool): Replace a file that is there.

    Returns:
        list[Comparison]: With the model itself, at several sizes.

    Raises:
        ConfigurationError: If there is no classifier, a package is missing or too
            old, the ViT has a relative position bias, the file is there or cannot be
            written, or results differ.
    """
    destination = check_file(out, overwrite, SUFFIXES)
    to_onnx = destination.suffix.lower() == '.onnx'
    _check_possible(encoder, to_onnx, classifier)
    program = _trace(encoder, classifier)
    # Beside the destination, so that nothing is copied when it is moved there.
    with tempfile.TemporaryDirectory(
            dir=destination.parent, prefix='.export-') as folder:
        path = Path(folder) / destination.name
        if to_onnx:
            _write_onnx(program, path, encoder, classifier)
            run = _onnx_runtime(path)
        else:
            torch.export.save(program, path)
            run = torch.export.load(path).module()
        checks = _check(encoder, classifier, run)
        for file in sorted(Path(folder).iterdir(), reverse=True):  # .onnx.data first
            with whole(destination.with_name(file.name)) as temporary:
                file.rename(temporary)
    return checks


def _check_possible(encoder: Encoder, to_onnx: bool, classifier: bool) -> None:
    if not pytorch_is(FIRST_TORCH):
        raise ConfigurationError(
            f'Exporting needs PyTorch {FIRST_TORCH} or newer, but this is '
            f'{torch.__version__}.')
    if classifier and encoder.model.head is None:
        raise ConfigurationError(f'{encoder.name} has no classifier.')
    if encoder.description.relative_position_bias:
        raise ConfigurationError(
            f'{encoder.name} has a relative position bias in every layer, which '
            'cannot be exported.')
    if to_onnx:
        for package in ('onnx', 'onnxruntime', 'onnxscript'):
            require(package, package, 'An ONNX file')


def _scale(encoder: Encoder) -> int:
    """What values a program takes for the 1 of the encoder's preprocessing."""
    return 1 if encoder.channels is None else 255


def _trace(encoder: Encoder, classifier: bool):
    sizes = encoder.description
    rows, columns = sizes.grid
    # Any size but 1, which programs treat as a case of its own.
    example = torch.rand(2, sizes.in_channels, (rows + 1) * sizes.patch_size,
                         (columns + 2) * sizes.patch_size)
    dims = {
        0: torch.export.Dim('batch', min=1, max=4096),
        2: sizes.patch_size * torch.export.Dim('rows', min=2, max=512),
        3: sizes.patch_size * torch.export.Dim('columns', min=2, max=512),
    }
    with torch.no_grad():
        return torch.export.export(ExportableViT(encoder, classifier).eval(),
                                   (example, ), dynamic_shapes=(dims, ))


def _write_onnx(program, path: Path, encoder: Encoder, classifier: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the exporter about itself
        onnx_program = torch.onnx.export(
            program, (), input_names=['images'],
            output_names=['logits'] if classifier else ['cls', 'patches'],
            dynamo=True, verbose=False)
    sizes = encoder.description
    values = ('RGB in 0..1' if encoder.channels is None else
              f'{encoder.channels} channels in the units of their files')
    assert onnx_program is not None  # with dynamo=True
    onnx_program.model.metadata_props.update(
        model=str(sizes),
        input=f'{values}, float32; sides are multiples of {sizes.patch_size}; '
        'normalisation is part of the model',
        img_size=json.dumps(list(sizes.img_size)),
        classes=json.dumps(list(sizes.classes)))
    num_bytes = 4 * sum(
        value.numel() for value in encoder.model.state_dict().values())
    onnx_program.save(path, external_data=num_bytes > LARGEST_SINGLE_FILE)


def _onnx_runtime(path: Path) -> Callable[[Tensor], Tuple[Tensor, ...]]:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider'])
    return lambda images: tuple(map(
        torch.from_numpy, session.run(None, dict(images=images.numpy()))))


@torch.no_grad()
def _check(encoder: Encoder, classifier: bool, run: Callable) -> List[Comparison]:
    """Compare with the model's own forward at its size and at others."""
    sizes = encoder.description
    rows, columns = sizes.grid
    checks = []
    generator = torch.Generator().manual_seed(0)
    for batch_size, grid in ((1, (rows, columns)), (3, (rows, columns)),
                             (2, (rows + 4, max(2, columns // 2))),
                             (1, (max(2, rows // 3), columns + 3))):
        height, width = (side * sizes.patch_size for side in grid)
        shares = torch.rand(
            batch_size, sizes.in_channels, height, width, generator=generator)
        tokens = encoder.model(encoder.preprocessing.normalize(shares))  # (N, 1 + L, C)
        want = _as_tuple(_outputs(encoder.model, tokens, classifier))
        got = _as_tuple(run(shares * _scale(encoder)))
        check = Comparison(
            f'{batch_size} x {height} x {width}',
            max((a - b).abs().max().item() for a, b in zip(got, want, strict=True)),
            max(value.abs().max().item() for value in want))
        if not check.is_small():
            raise ConfigurationError(
                f'{encoder.name} was not exported: the result differs at {check}.')
        checks.append(check)
    return checks


def _as_tuple(outputs: Union[Tensor, Tuple[Tensor, ...]]) -> Tuple[Tensor, ...]:
    """A classifier gives one tensor, but with ONNX Runtime a tuple of one."""
    return outputs if isinstance(outputs, tuple) else (outputs, )


def parse_arguments(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The command line of ``tools/converters/export.py``."""
    parser = argparse.ArgumentParser(
        description='Export an encoder or a fine-tuned classifier as ONNX or as '
        'a torch.export program. It takes RGB images in 0..1, (N, 3, H, W), or images '
        'of other channels in the units of their files, of any number and any size in '
        'patches. The result is compared with the model at several sizes.')
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
                        help='of mixedae_mm, mmpretrain, timm, Hugging Face or MAE')
    parser.add_argument('out', metavar='OUT', type=output_file(*SUFFIXES),
                        help='file to write: .onnx or .pt2')
    parser.add_argument('--classifier', action='store_true',
                        help='logits of the fine-tuned classifier, not tokens')
    parser.add_argument('--heads', type=positive_int,
                        help='attention heads, where the checkpoint does not say')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace OUT if it is there')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Export as the command line says, and print the comparison."""
    encoder = load(args.checkpoint, 'cpu', heads=args.heads)
    print(f'{args.checkpoint}: {encoder.description}')
    checks = export(encoder, args.out, args.classifier, args.overwrite)
    runtime = 'onnxruntime' if args.out.suffix.lower() == '.onnx' else 'torch.export'
    print(f'{args.out}: {"logits" if args.classifier else "cls, patches"}; largest '
          f'difference between {runtime} and the model')
    for check in checks:
        print(f'  {check}')
