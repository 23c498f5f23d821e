"""Attention probing against attention that is known."""
import pytest
import torch
from torch import nn

from mixedae_mm.analysis.attention_probe import (attention_probe,
                                                 cls_attention_maps,
                                                 topk_sampling_accuracy)
from mixedae_mm.analysis.figures import draw_accuracy_per_layer
from mixedae_mm.mixing import draw_mix_masks
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.undisturbed import outputs_of
from small_models import ARCH, vit, whole

HEADS = ARCH['num_heads']
LAYERS = ARCH['num_layers']
KINDS = pytest.mark.parametrize('kind', ['VisionTransformer', 'MAEViT', 'MixedAEViT'])


def queries_and_keys(backbone, run):
    """Of each layer, by plain matrix products: (B, heads, N, D)."""
    found = []

    def keep(attention, inputs):
        tokens = inputs[0]
        weights, biases = (parameter.chunk(3) for parameter in (
            attention.qkv.weight, attention.qkv.bias))
        found.append([
            (tokens @ weight.T + bias).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for weight, bias in zip(weights[:2], biases)])

    handles = [layer.attn.register_forward_pre_hook(keep) for layer in backbone.layers]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return found


def accuracy_by_loops(query, key, mix_mask, topk):
    """The definition of Fig. 6, one query after the other."""
    shares = []
    for sample, mask in enumerate(mix_mask.tolist()):
        for head in range(HEADS):
            for position, source in enumerate(mask):
                scores = [float(query[sample, head, 1 + position] @ k)
                          for k in key[sample, head]]
                ranking = sorted(range(len(scores)), key=lambda j: -scores[j])
                patches = [j - 1 for j in ranking[:topk] if j > 0]  # 0 is CLS
                if patches:
                    own = [j for j in patches if mask[j] == source]
                    shares.append(len(own) / len(patches))
    return sum(shares) / len(shares)


def check_accuracy(backbone, mixed, mix_mask, topk, run):
    expected = [accuracy_by_loops(query, key, mix_mask, topk or 4)
                for query, key in queries_and_keys(backbone, run)]
    accuracy = topk_sampling_accuracy(backbone, mixed, mix_mask, topk)
    assert accuracy.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('num_sources, topk', [(4, 1), (2, 3), (4, 4), (2, 16)])
def test_accuracy_equals_the_definition(num_sources, topk):
    backbone = vit(num_sources=num_sources)
    mixed, mix_mask = torch.randn(3, 3, 16, 16), draw_mix_masks(3, 16, num_sources)
    check_accuracy(backbone, mixed, mix_mask, topk, lambda: backbone(mixed, mix_mask))


@KINDS
def test_other_vits_see_the_whole_mixed_sample(kind):
    backbone, mixed = vit(kind), torch.randn(2, 3, 16, 16)
    check_accuracy(backbone, mixed, draw_mix_masks(2, 16, 4), None,
                   lambda: whole(backbone, mixed))


def hand_made_backbone(signs):
    """A ViT whose tokens tell nothing but their source, in every layer.

    Args:
        signs: For every layer and head, 1 to attend to the own source, -1 to
            attend to all others.
    """
    backbone = vit(num_sources=4)
    width = ARCH['embed_dims']
    for name, parameter in backbone.named_parameters():
        nn.init.constant_(parameter, 'ln' in name and 'weight' in name)
    # Sources along four axes: after LayerNorm, tokens of one source have a
    # positive product, of two sources a negative one, and CLS has 0 with all.
    backbone.segment_embed.data[:, :4] = torch.eye(4)
    for layer, layer_signs in zip(backbone.layers, signs):
        for head, sign in enumerate(layer_signs):
            rows = head * (width // HEADS) + torch.arange(4)
            layer.attn.qkv.weight.data[rows, torch.arange(4)] = sign
            layer.attn.qkv.weight.data[width + rows, torch.arange(4)] = 1
    return backbone


@pytest.mark.parametrize('topk', [None, 5])  # the fifth is CLS and does not count
def test_accuracy_of_attention_set_by_hand(topk):
    backbone = hand_made_backbone([(1, 1), (1, -1), (-1, -1)])
    accuracy = topk_sampling_accuracy(
        backbone, torch.randn(2, 3, 16, 16), draw_mix_masks(2, 16, 4), topk)
    assert accuracy.tolist() == [1, 0.5, 0]


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
    draw_accuracy_per_layer({'without a dot': accuracy.tolist()}, chance=25)


def direct_attention_map(backbone, images, bias=0, kept=None):
    """The CLS row of the last layer's softmax, by its formula."""
    query, key = queries_and_keys(backbone, lambda: whole(backbone, images))[-1]
    scores = query @ key.mT / query.size(-1)**0.5 + bias
    if kept is not None:
        threshold = scores.sort(-1, descending=True).values[..., kept - 1]
        scores[scores < threshold[..., None]] = -torch.inf
    return scores.softmax(-1).mean(1)[:, 0, 1:]


@KINDS
@pytest.mark.parametrize('height, width', [(16, 16), (32, 24)])
def test_attention_maps_are_the_softmax(kind, height, width):
    backbone, images = vit(kind), torch.randn(2, 3, height, width)
    maps = cls_attention_maps(backbone, images)
    assert maps.shape == (2, height // 4, width // 4)
    torch.testing.assert_close(
        maps.flatten(1), direct_attention_map(backbone, images))
    assert (maps >= 0).all() and (maps.sum((1, 2)) < 1).all()


def test_attention_maps_with_position_bias():
    backbone, images = vit(relative_position_bias=True), torch.randn(2, 3, 16, 16)
    with outputs_of({0: backbone.layers[-1].attn.rel_pos_bias}) as biases:
        whole(backbone, images)
    torch.testing.assert_close(
        cls_attention_maps(backbone, images).flatten(1),
        direct_attention_map(backbone, images, bias=biases[0]))


def test_attention_maps_of_homologous_attention():
    backbone = vit(homologous_in_transfer=True, k_ratio=0.25)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(
        cls_attention_maps(backbone, images).flatten(1),
        direct_attention_map(backbone, images, kept=4))


def test_maps_do_not_depend_on_mixed_precision():
    backbone, images = vit(), torch.randn(2, 3, 16, 16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        maps = cls_attention_maps(backbone, images)
    assert maps.dtype == torch.float32
    # bfloat16 weights and tokens, but float32 scores and softmax.
    torch.testing.assert_close(
        maps, cls_attention_maps(backbone, images), atol=0.02, rtol=0)


def test_chosen_layers_are_read_and_nothing_stays_hooked():
    backbone, seen = vit(num_sources=4), []
    images, masks = torch.randn(1, 3, 16, 16), draw_mix_masks(1, 16, 4)
    topk_sampling_accuracy(backbone, images, masks)
    cls_attention_maps(backbone, images)
    with pytest.raises(RuntimeError, match='within'):
        with attention_probe(
                backbone, lambda i, query, key, scale: seen.append(
                    (i, query.shape, key.shape, scale)), layers=[2]):
            backbone(images, masks)
            raise RuntimeError('an error within')
    assert seen == [(2, (1, 2, 17, 8), (1, 2, 17, 8), 8**-0.5)]
    assert not any(module._forward_hooks for module in backbone.modules())


@pytest.mark.parametrize('backbone, topk, message', [
    (nn.Sequential(nn.Linear(2, 2)), None, 'Sequential has no layers'),
    (vit(with_cls_token=False, out_type='avg_featmap'), None, 'no CLS token'),
    (vit(num_sources=4), 0, 'topk is 0'), (vit(num_sources=4), 17, 'topk is 17')])
def test_what_cannot_be_read_is_refused(backbone, topk, message):
    images = torch.randn(1, 3, 16, 16)
    with pytest.raises(ConfigurationError, match=message):
        topk_sampling_accuracy(backbone, images, draw_mix_masks(1, 16, 4), topk)
        cls_attention_maps(backbone, images)
