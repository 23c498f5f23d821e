"""Any configuration trains a step or is refused; and the fuzzer can fail."""
from copy import deepcopy

import pytest
import torch

from mixedae_mm.models import MixedAEDecoder, MixedAEPretrainHead
from reliability import config_fuzzer
from reliability.config_draws import FAULTS, Draw, put


@pytest.mark.slow
def test_any_configuration_trains_or_is_refused():
    """The same 150 every time; tools/fuzz_configs.py tries others."""
    outcomes = config_fuzzer.fuzz(150)
    print(config_fuzzer.summary(outcomes))
    assert outcomes['trained'] > 50
    assert sum(outcomes.values()) - outcomes['trained'] > 20


@pytest.mark.slow
def test_every_fault_is_refused():
    """One at a time, in a configuration that is right otherwise."""
    images = dict(channels=3, size=(16, 16), batch_size=4, dtype='uint8', as_list=False)
    model = dict(
        type='MixedAE',
        data_preprocessor=dict(mix_ratio=.25),
        backbone=dict(
            type='MixedAEViT', img_size=16, patch_size=4,
            arch=dict(embed_dims=16, num_layers=2, num_heads=2,
                      feedforward_channels=8)),
        neck=dict(type='MixedAEDecoder', decoder_embed_dim=8, decoder_depth=1,
                  decoder_num_heads=2),
        head=dict(type='MixedAEPretrainHead',
                  contrast_loss=dict(type='HomologousContrastiveLoss')))
    for place, values in FAULTS.items():
        for value in values:
            faulty = deepcopy(dict(model, images=images))
            put(faulty, place.split('.'), deepcopy(value))
            drawn = Draw(faulty, faulty.pop('images'), 'float32', {place: value})
            assert config_fuzzer.outcome(drawn) != 'trained', (place, value)


@pytest.mark.parametrize('cls, name, wrong', [
    (MixedAEDecoder, 'forward', lambda self, tokens, mask: tokens[:, :1]),
    (MixedAEPretrainHead, 'reconstruction_loss', lambda *args: torch.tensor(torch.nan)),
    (MixedAEPretrainHead, 'reconstruction_loss', lambda *args: 1 / 0),
], ids=['shape', 'not finite', 'another error'])
def test_the_fuzzer_finds_defects(monkeypatch, cls, name, wrong):
    monkeypatch.setattr(cls, name, wrong)
    with pytest.raises(Exception) as found:
        config_fuzzer.fuzz(20)
    assert not isinstance(found.value, config_fuzzer.ConfigurationError)


def test_a_hang_is_an_error(monkeypatch):
    monkeypatch.setattr(config_fuzzer, 'DEADLINE', 1)

    def hang(drawn):
        while True:
            pass

    monkeypatch.setattr(config_fuzzer, '_train_a_step', hang)
    with pytest.raises(TimeoutError, match='more than 1 seconds'):
        config_fuzzer.outcome(None)
