"""Weights for another number of channels, only when asked for."""
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import save_checkpoint
from small_vit import backbone, config, mae, mixedae, randomize

from mixedae_mm.analysis import evaluating
from mixedae_mm.engine.hooks.checked_loading_hook import CheckedLoadingHook
from mixedae_mm.interop.convert import convert
from mixedae_mm.launch.entry import set_input_channels
from mixedae_mm.models.checkpoint_loading import load_pretrained
from mixedae_mm.utils.errors import ConfigurationError

CHANNELS = [(3, 1), (3, 4), (3, 13), (4, 3), (13, 1)]


def saved(model, path):
    save_checkpoint(dict(state_dict=model.state_dict()), str(path))
    return str(path)


def with_statistics(channels):
    """A MixedAE for so many channels."""
    return randomize(MODELS.build(config(
        backbone=dict(in_channels=channels),
        data_preprocessor=dict(mean=[0.] * channels, std=[1.] * channels))))


@pytest.mark.parametrize('before, after', CHANNELS)
def test_images_of_equal_channels_mean_the_same(before, after, tmp_path):
    """To the encoder, and what the decoder predicts is their mean."""
    old, new = with_statistics(before), with_statistics(after)
    report = load_pretrained(
        new, saved(old, tmp_path / 'old.pth'), input_channels='mean')
    assert f'patch_embed.projection.weight {before} -> {after} channels' in str(report)
    grey, mask = torch.randn(2, 1, 32, 32), torch.arange(16).repeat(2, 1) % 4
    with torch.no_grad(), evaluating(old), evaluating(new):
        tokens = [model.backbone(grey.repeat(1, channels, 1, 1), mask).tokens
                  for model, channels in ((old, before), (new, after))]
        torch.testing.assert_close(tokens[0], tokens[1], atol=1e-5, rtol=1e-5)
        want = old.neck(tokens[0], mask).unflatten(-1, (-1, before)).mean(-1)
        got = new.neck(tokens[0], mask).unflatten(-1, (-1, after))
    for channel in got.unbind(-1):
        torch.testing.assert_close(channel, want, atol=1e-5, rtol=1e-5)


def test_without_the_option_they_are_refused(tmp_path):
    path = saved(mixedae(), tmp_path / 'rgb.pth')
    new = with_statistics(13)
    before = {name: value.clone() for name, value in new.state_dict().items()}
    with pytest.raises(ConfigurationError, match="input channels 3 instead of 13; "
                       "input_channels='mean'"):
        load_pretrained(new, path)
    assert all(torch.equal(value, before[name])
               for name, value in new.state_dict().items())
    with pytest.raises(ConfigurationError, match="'repeat', but must be one of"):
        backbone(in_channels=13, init_cfg=dict(
            type='Pretrained', checkpoint=path, input_channels='repeat')).init_weights()


@pytest.mark.parametrize('make', [mixedae, mae])
def test_every_start_of_a_transfer(make, tmp_path):
    """The option of init_cfg, which the top of a config hands to it."""
    path = saved(make(), tmp_path / 'rgb.pth')
    cfg = Config(dict(input_channels='mean', model=dict(backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone.')))))
    set_input_channels(cfg)
    vit = backbone(in_channels=4, init_cfg=cfg.model.backbone.init_cfg)
    vit.init_weights()
    weight = torch.load(path)['state_dict']['backbone.patch_embed.projection.weight']
    for channel in vit.patch_embed.projection.weight.unbind(1):
        torch.testing.assert_close(channel, weight.sum(1) / 4)


def test_an_option_without_a_checkpoint_is_refused():
    # What is resumed has the channels already.
    set_input_channels(Config(dict(input_channels='mean', model=dict(), resume=True)))
    with pytest.raises(ConfigurationError, match='names no checkpoint'):
        set_input_channels(Config(dict(input_channels='mean', model=dict())))
    with pytest.raises(ConfigurationError, match="'min', but must be one of"):
        set_input_channels(Config(dict(input_channels='min', load_from='a.pth')))


@pytest.mark.parametrize('complete', [False, True])
def test_a_training_asks_and_a_test_does_not(complete, tmp_path):
    class Runner:
        model, _resume, _load_from = with_statistics(13), False, 'rgb.pth'
        strategy = object()  # someone's own
    hook = CheckedLoadingHook(complete, 'mean')
    content = dict(state_dict=mixedae().state_dict())
    if complete:
        with pytest.raises(ConfigurationError, match='input channels 3 instead of 13'):
            hook.after_load_checkpoint(Runner, content)
    else:
        hook.after_load_checkpoint(Runner, content)
        Runner.model.load_state_dict(content['state_dict'])


@pytest.mark.parametrize('to', ['mm', 'mae', 'hf-mae', 'timm'])
@pytest.mark.parametrize('before, after', [(3, 13), (13, 3), (4, 1)])
def test_conversion(before, after, to, tmp_path):
    library = dict(timm='timm', mae='timm').get(to, 'transformers')
    if to != 'mm':
        pytest.importorskip(library)
    source = tmp_path / 'source.pth'
    model = with_statistics(before)
    model.backbone.segment_embed.data.zero_()
    text = Config(dict(model=config(
        backbone=dict(in_channels=before), data_preprocessor=dict(
            mean=[100.] * before, std=[50.] * before)))).pretty_text
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=text)), source)
    result = convert(str(source), str(tmp_path / 'out'), to, input_channels=after)
    assert result.vit.description.in_channels == after
    assert any(f'{after} channels instead of {before}' in note
               for note in result.vit.notes)
    assert result.comparisons and all(one.is_small() for one in result.comparisons)
    card = (tmp_path / 'out/README.md').read_text()
    assert ('RGB' in card) == (after == 3)
    plain = convert(str(source), str(tmp_path / 'plain'), to)  # of its own channels
    assert plain.vit.description.in_channels == before and plain.comparisons
