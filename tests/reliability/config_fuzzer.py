"""Try random configurations: each trains a step, or is refused in one sentence."""
import argparse
import re
import signal
import threading
from collections import Counter
from contextlib import contextmanager, nullcontext
from typing import Iterator, Optional, Sequence

import torch
from hypothesis import HealthCheck, given, seed, settings
from mmengine.registry import MODELS

from mixedae_mm.launch.entry import report_errors
from mixedae_mm.utils.errors import ConfigurationError
from .config_draws import Draw, configurations
from .processes import without_log

DEADLINE = 60  # seconds that one example may take; usual are 0.05


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the fuzzer as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--examples', type=int, default=1000, metavar='N',
                        help='how many configurations to try (default: 1000)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--refusals', action='store_true',
                        help='list the sentences of refusal, with counts')
    return report_errors(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    outcomes = fuzz(args.examples, args.seed)
    print(summary(outcomes))
    if args.refusals:
        for sentence, count in outcomes.most_common():
            if sentence != 'trained':
                print(f'{count:6}  {sentence}')


def fuzz(examples: int, start: Optional[int] = None) -> Counter:
    """Try configurations, and find the simplest that breaks the promise.

    Args:
        examples (int): How many.
        start (int, optional): Of the random numbers; the same ones always
            without.

    Returns:
        Counter: ``'trained'``, and the sentences of refusal with their numbers
        left out.

    Raises:
        Exception: What a configuration led to that is neither.
    """
    outcomes: Counter = Counter()

    @settings(
        max_examples=examples, deadline=None, database=None,
        derandomize=start is None, suppress_health_check=list(HealthCheck))
    @given(configurations())
    def each(drawn: Draw) -> None:
        outcomes[outcome(drawn)] += 1

    with without_log():
        (each if start is None else seed(start)(each))()
    return outcomes


def summary(outcomes: Counter) -> str:
    """How many were tried, trained and refused, in one line."""
    tried, trained = sum(outcomes.values()), outcomes['trained']
    return (f'{tried} configurations tried: {trained} trained a step, '
            f'{tried - trained} were refused in {len(outcomes) - 1} kinds of '
            'sentences, 0 did anything else')


def outcome(drawn: Draw) -> str:
    """Try one configuration.

    Returns:
        str: ``'trained'``, or the sentence of refusal without its numbers.

    Raises:
        AssertionError: For a coherent configuration that is refused, a shape
            that is not the documented one, a number that is not finite.
        TimeoutError: After :data:`DEADLINE` seconds.
    """
    torch.manual_seed(0)
    try:
        with _deadline():
            _train_a_step(drawn)
    except ConfigurationError as error:
        assert drawn.faults, f'a coherent configuration was refused: {error}'
        sentence = str(error)
        assert len(sentence) > 20 and '\n' not in sentence, sentence
        return re.sub(r"'[^']*'|[-\d.e]*\d|\(.*?\)|\[.*?\]|\{.*\}", '*', sentence)[:90]
    return 'trained'


def _train_a_step(drawn: Draw) -> None:
    model = MODELS.build(drawn.model)
    model.init_weights()
    batch = _images(**drawn.images)
    data = model.data_preprocessor(dict(inputs=batch, data_samples=None), training=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    dtype = getattr(torch, drawn.precision)
    mixed = dtype != torch.float32
    with torch.autocast('cpu', dtype) if mixed else nullcontext():
        losses = model(**data, mode='loss')
    _check_shapes(model, data['inputs'], len(batch))
    expected = {'loss_recon'} if model.with_neck else set()
    if model.head.contrast_loss is not None:
        expected.add('loss_homocon')
    assert set(losses) == expected, losses
    for name, loss in losses.items():
        assert loss.shape == () and loss.dtype == torch.float32, (name, loss)
        assert loss.isfinite(), (name, loss)
    sum(losses.values()).backward()
    if dtype == torch.float16:
        return  # gradients that overflow are the loss scaler's business
    optimizer.step()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), f'gradient of {name}'
        assert parameter.isfinite().all(), name
    assert any(parameter.grad is not None for parameter in model.parameters())


def _check_shapes(model, inputs: dict, num_images: int) -> None:
    """Those that the docstrings promise."""
    preprocessor, backbone = model.data_preprocessor, model.backbone
    num_sources, patch = preprocessor.num_sources, backbone.patch_embed.projection
    samples = num_images // (num_sources if preprocessor.mode == 'compose' else 1)
    height, width = backbone.img_size
    num_patches = height * width // preprocessor.patch_size**2
    image = (patch.in_channels, height, width)
    assert inputs['clean'].shape == (num_images, *image)
    assert inputs['mixed'].shape == (samples, *image)
    assert inputs['mix_mask'].shape == (samples, num_patches)
    assert inputs['mix_mask'].dtype == torch.int64
    with torch.no_grad():
        tokens = backbone(inputs['mixed'], inputs['mix_mask']).tokens
        assert tokens.shape == (samples, 1 + num_patches, backbone.embed_dims)
        if model.with_neck:
            assert model.neck(tokens, inputs['mix_mask']).shape == (
                samples, num_patches, num_sources - 1,
                preprocessor.patch_size**2 * patch.in_channels)


def _images(channels: int, batch_size: int, size: Sequence[int], dtype: str,
            as_list: bool):
    pixels = torch.randint(0, 256, (batch_size, channels, *size), dtype=torch.uint8)
    pixels = pixels.to(getattr(torch, dtype))
    return list(pixels) if as_list and batch_size else pixels


@contextmanager
def _deadline() -> Iterator[None]:
    """Make an error of what hangs."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return

    def stop(*args) -> None:
        raise TimeoutError(f'An example took more than {DEADLINE} seconds.')

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(DEADLINE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
