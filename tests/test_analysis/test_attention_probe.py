"""Attention probing against attention that is known."""
import pytest
import torch
from torch import nn

from mixedae_mm.analysis.attention_probe import (attention_probe,
                                                 cls_attention_maps,
                                                 topk_sampling_accuracy)
from mixedae_mm.mixing import draw_mix_masks
from mixedae_mm.utils.errors import ConfigurationError
from small_models import ARCH, vit

HEADS = ARCH['num_heads']
LAYERS = ARCH['num_layers']


def attention_inputs(backbone, run):
    """What each layer's attention gets when ``run()`` runs the backbone."""
    inputs = []
    handles = [
        layer.attn.register_forward_pre_hook(
            lambda module, args: inputs.append(args[0]))
        for layer in backbone.layers
    ]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return inputs


def queries_and_keys(layer, tokens):
    """By plain matrix products: two (B, heads, N, D)."""
    weights = layer.attn.qkv.weight.chunk(3)
    biases = layer.attn.qkv.bias.chunk(3)
    return [(tokens @ weight.T + bias).unflatten(-1, (HEADS, -1)).transpose(
        1, 2).detach() for weight, bias in zip(weights[:2], biases[:2])]


def accuracy_by_loops(query, key, mix_mask, topk):
    """The definition of Fig. 6, one query after the other."""
    shares = []
    for sample, mask in enumerate(mix_mask.tolist()):
        for head in range(query.size(1)):
            for position, source in enumerate(mask):
                scores = [
                    float(query[sample, head, 1 + position] @ k)
                    for k in key[sample, head]
                ]
                ranking = sorted(
                    range(len(scores)), key=lambda j: -scores[j])[:topk]
                patches = [j - 1 for j in ranking if j > 0]  # 0 is CLS
                if patches:
                    own = [j for j in patches if mask[j] == source]
                    shares.append(len(own) / len(patches))
    return sum(shares) / len(shares)


@pytest.mark.parametrize('topk', [1, 3, 4, 16])
@pytest.mark.parametrize('num_sources', [2, 4])
def test_accuracy_equals_the_definition(num_sources, topk):
    backbone = vit(num_sources=num_sources)
    mixed = torch.randn(3, 3, 16, 16)
    mix_mask = draw_mix_masks(3, 16, num_sources)
    inputs = attention_inputs(backbone, lambda: backbone(mixed, mix_mask))
    expected = [
        accuracy_by_loops(*queries_and_keys(layer, tokens), mix_mask, topk)
        for layer, tokens in zip(backbone.layers, inputs)
    ]
    accuracy = topk_sampling_accuracy(backbone, mixed, mix_mask, topk)
    assert accuracy.tolist() == pytest.approx(expected, abs=1e-12)


def hand_made_backbone(signs):
    """A ViT whose tokens tell nothing but their source, in every layer.

    Args:
        signs: For every layer and head, 1 to attend to the own source, -1 to
            attend to all others.
    """
    backbone = vit(num_sources=4)
    width = ARCH['embed_dims']
    head_width = width // HEADS
    for name, parameter in backbone.named_parameters():
        nn.init.constant_(parameter, 'ln' in name and 'weight' in name)
    # Sources along four axes: after LayerNorm, tokens of one source have a
    # positive product, of two sources a negative one, and CLS has 0 with all.
    backbone.segment_embed.data[:, :4] = torch.eye(4)
    for layer, layer_signs in zip(backbone.layers, signs):
        for head, sign in enumerate(layer_signs):
            rows = head * head_width + torch.arange(4)
            layer.attn.qkv.weight.data[rows, torch.arange(4)] = sign
            layer.attn.qkv.weight.data[width + rows, torch.arange(4)] = 1
    return backbone


def test_accuracy_of_attention_set_by_hand():
    backbone = hand_made_backbone([(1, 1), (1, -1), (-1, -1)])
    mixed = torch.randn(2, 3, 16, 16)
    mix_mask = draw_mix_masks(2, 16, 4)
    assert topk_sampling_accuracy(
        backbone, mixed, mix_mask).tolist() == [1, 0.5, 0]
    # The fifth key is CLS, which does not count.
    assert topk_sampling_accuracy(
        backbone, mixed, mix_mask, topk=5).tolist() == [1, 0.5, 0]


def test_only_cls_kept_is_no_number():
    backbone = hand_made_backbone([(-1, -1)] * LAYERS)
    for layer in backbone.layers:
        # A constant query that only CLS answers.
        layer.attn.qkv.weight.data.zero_()
        layer.attn.qkv.bias.data[:] = 1
        layer.attn.qkv.weight.data[ARCH['embed_dims']:, :4] = -1
    backbone.segment_embed.data[:, :4] = 1  # the same for every patch
    accuracy = topk_sampling_accuracy(
        backbone, torch.randn(1, 3, 16, 16), draw_mix_masks(1, 16, 4), topk=1)
    assert accuracy.isnan().all()


@pytest.mark.parametrize('kind', ['VisionTransformer', 'MAEViT', 'MixedAEViT'])
def test_other_vits_see_the_whole_mixed_sample(kind):
    backbone = vit(kind)
    mixed = torch.randn(2, 3, 16, 16)
    mix_mask = draw_mix_masks(2, 16, 4)
    whole = (lambda: backbone(mixed, mask=None)) if kind == 'MAEViT' else (
        lambda: backbone(mixed))
    inputs = attention_inputs(backbone, whole)
    expected = [
        accuracy_by_loops(*queries_and_keys(layer, tokens), mix_mask, 4)
        for layer, tokens in zip(backbone.layers, inputs)
    ]
    accuracy = topk_sampling_accuracy(backbone, mixed, mix_mask)
    assert accuracy.tolist() == pytest.approx(expected, abs=1e-12)


def direct_attention_map(backbone, images, bias=0, kept=None):
    """The CLS row of the last layer's softmax, by its formula."""
    whole = (lambda: backbone(images, mask=None)) if type(
        backbone).__name__ == 'MAEViT' else (lambda: backbone(images))
    tokens = attention_inputs(backbone, whole)[-1]
    query, key = queries_and_keys(backbone.layers[-1], tokens)
    scores = query @ key.mT / query.size(-1)**0.5 + bias
    if kept is not None:
        threshold = scores.sort(-1, descending=True).values[..., kept - 1]
        scores[scores < threshold[..., None]] = -torch.inf
    return scores.softmax(-1).mean(1)[:, 0, 1:]


@pytest.mark.parametrize('kind', ['VisionTransformer', 'MAEViT', 'MixedAEViT'])
@pytest.mark.parametrize('height, width', [(16, 16), (32, 24)])
def test_attention_maps_are_the_softmax(kind, height, width):
    backbone = vit(kind)
    images = torch.randn(2, 3, height, width)
    maps = cls_attention_maps(backbone, images)
    assert maps.shape == (2, height // 4, width // 4)
    torch.testing.assert_close(
        maps.flatten(1), direct_attention_map(backbone, images))
    assert (maps >= 0).all() and (maps.sum((1, 2)) < 1).all()


def test_attention_maps_with_position_bias():
    backbone = vit(relative_position_bias=True)
    bias_module = backbone.layers[-1].attn.rel_pos_bias
    images = torch.randn(2, 3, 16, 16)
    biases = []
    handle = bias_module.register_forward_hook(
        lambda module, args, output: biases.append(output))
    expected = direct_attention_map(backbone, images)
    handle.remove()
    expected = direct_attention_map(backbone, images, bias=biases[0])
    torch.testing.assert_close(
        cls_attention_maps(backbone, images).flatten(1), expected)


def test_attention_maps_of_homologous_attention():
    backbone = vit(homologous_in_transfer=True, k_ratio=0.25)
    images = torch.randn(2, 3, 16, 16)
    maps = cls_attention_maps(backbone, images).flatten(1)
    torch.testing.assert_close(
        maps, direct_attention_map(backbone, images, kept=4))


def test_maps_do_not_depend_on_mixed_precision():
    backbone = vit()
    images = torch.randn(2, 3, 16, 16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        maps = cls_attention_maps(backbone, images)
    assert maps.dtype == torch.float32
    # bfloat16 weights and tokens, but float32 scores and softmax.
    torch.testing.assert_close(
        maps, cls_attention_maps(backbone, images), atol=0.02, rtol=0)


def hooks_of(backbone):
    return sum(
        len(module._forward_hooks) for module in backbone.modules())


def test_nothing_stays_hooked():
    backbone = vit(num_sources=4)
    images, masks = torch.randn(1, 3, 16, 16), draw_mix_masks(1, 16, 4)
    topk_sampling_accuracy(backbone, images, masks)
    cls_attention_maps(backbone, images)
    with pytest.raises(RuntimeError, match='within'):
        with attention_probe(backbone, lambda *args: None):
            raise RuntimeError('an error within')
    assert hooks_of(backbone) == 0


def test_probe_reads_chosen_layers_only():
    backbone = vit()
    seen = []
    with attention_probe(
            backbone, lambda i, query, key, scale: seen.append(
                (i, query.shape, key.shape, scale)), layers=[2]):
        backbone(torch.randn(1, 3, 16, 16))
    assert seen == [(2, (1, 2, 17, 8), (1, 2, 17, 8), 8**-0.5)]


def test_what_cannot_be_read_is_refused():
    with pytest.raises(ConfigurationError, match='Sequential'):
        topk_sampling_accuracy(
            nn.Sequential(nn.Linear(2, 2)), torch.randn(1, 3, 16, 16),
            draw_mix_masks(1, 16, 4))
    headless = vit(with_cls_token=False, out_type='avg_featmap')
    with pytest.raises(ConfigurationError, match='no CLS token'):
        cls_attention_maps(headless, torch.randn(1, 3, 16, 16))
    for topk in (0, 17):
        with pytest.raises(ConfigurationError, match=f'topk is {topk}'):
            topk_sampling_accuracy(
                vit(num_sources=4), torch.randn(1, 3, 16, 16),
                draw_mix_masks(1, 16, 4), topk)
