"""Any configuration trains a step, or is refused before it.

``pytest tests/reliability/test_random_configs.py -m slow --examples 1500
--examples-seed 1`` tries others.
"""
import re
from collections import Counter
from contextlib import nullcontext
from copy import deepcopy

import pytest
import small_vit
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from mmengine.registry import MODELS

from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.undisturbed import quiet

from .config_draws import FAULTS, OTHERS_FAULTS, Draw, configurations, put

pytestmark = pytest.mark.slow

TRAINED, LIBRARY = 'trained', 'refused by a library'


@pytest.fixture(autouse=True)
def without_log():
    """Leave out mmengine's page of log per initialisation of a model."""
    with quiet():
        yield


def test_any_configuration_trains_or_is_refused(request, tell):
    start, outcomes = request.config.getoption('--examples-seed'), Counter()

    def each(drawn: Draw) -> None:
        outcomes[outcome(drawn)] += 1

    # Shrinking takes minutes, and a configuration with two faults is small enough.
    each = settings(
        max_examples=request.config.getoption('--examples'), deadline=None,
        database=None, derandomize=start is None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck))(given(configurations())(each))
    (each if start is None else seed(start)(each))()
    tried = sum(outcomes.values())
    refused = tried - outcomes[TRAINED] - outcomes[LIBRARY]
    tell(f'{tried} configurations tried: {outcomes[TRAINED]} trained a step, {refused} '
         f'were refused in {len(set(outcomes) - {TRAINED, LIBRARY})} kinds of '
         f'sentences, {outcomes[LIBRARY]} by a library while the model was built, 0 '
         'did anything else')
    assert outcomes[TRAINED] > tried / 3 and tried - outcomes[TRAINED] > tried / 8


@pytest.mark.parametrize('place', FAULTS)
def test_what_the_method_forbids_is_refused(place):
    """One fault at a time, in a configuration that is right otherwise."""
    for value in FAULTS[place]:
        model = deepcopy(small_vit.config(
            head=dict(contrast_loss=dict(type='HomologousContrastiveLoss'))))
        model['images'] = dict(channels=3, size=(32, 32), batch_size=4, dtype='uint8',
                               as_list=False)
        assert put(model, place, value)
        images = model.pop('images')
        assert outcome(Draw(model, images, 'float32', {place: value})) != TRAINED, value


def outcome(drawn: Draw) -> str:
    """:data:`TRAINED`, :data:`LIBRARY`, or the sentence of refusal without numbers.

    A coherent configuration that is refused, a shape that is not the documented one, a
    number that is not finite and an error of the step are AssertionErrors.
    """
    try:
        return attempt(drawn)
    except Exception as error:
        raise AssertionError(f'{type(error).__name__}: {error}\nof {drawn}') from error


def attempt(drawn: Draw) -> str:
    torch.manual_seed(0)
    try:
        try:
            model = MODELS.build(drawn.model)
            model.init_weights()
        except Exception as error:
            # The training command makes a sentence of what libraries raise here.
            if drawn.faults and not isinstance(error, ConfigurationError):
                return LIBRARY
            raise
        train_a_step(model, drawn)
    except ConfigurationError as error:
        assert drawn.faults, f'a coherent configuration was refused: {error}'
        sentence = str(error)
        assert len(sentence) > 20 and '\n' not in sentence, sentence
        return re.sub(r"'[^']*'|[-\d.e]*\d|\(.*?\)|\[.*?\]|\{.*\}", '*', sentence)[:90]
    return TRAINED


def train_a_step(model, drawn: Draw) -> None:
    batch = images(**drawn.images)
    data = model.data_preprocessor(dict(inputs=batch, data_samples=None), training=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    dtype = getattr(torch, drawn.precision)
    mixed = dtype != torch.float32
    with torch.autocast('cpu', dtype) if mixed else nullcontext():
        losses = model(**data, mode='loss')
    check_shapes(model, data['inputs'], len(batch))
    expected = {'loss_recon'} if model.with_neck else set()
    if model.head.contrast_loss is not None:
        expected.add('loss_homocon')
    assert set(losses) == expected, losses
    finite = not OTHERS_FAULTS.keys() & drawn.faults.keys()
    for name, loss in losses.items():
        assert loss.shape == () and loss.dtype == torch.float32, (name, loss)
        assert loss.isfinite() or not finite, (name, loss)
    sum(losses.values()).backward()
    if dtype == torch.float16:
        return  # gradients that overflow are the loss scaler's business
    optimizer.step()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and finite:
            assert parameter.grad.isfinite().all(), f'gradient of {name}'
            assert parameter.isfinite().all(), name
    assert any(parameter.grad is not None for parameter in model.parameters())


def check_shapes(model, inputs: dict, num_images: int) -> None:
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


def images(channels: int, batch_size: int, size, dtype: str, as_list: bool):
    pixels = torch.randint(0, 256, (batch_size, channels, *size), dtype=torch.uint8)
    pixels = pixels.to(getattr(torch, dtype))  # (B, C, H, W)
    return list(pixels) if as_list and batch_size else pixels
