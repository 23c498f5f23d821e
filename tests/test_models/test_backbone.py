"""The backbone in transfer: any input, bias, freezing, checkpointing."""
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import BEiTViT, VisionTransformer

from mixedae_mm.models.layers.relative_position_bias import (
    RelativePositionBias, patch_offsets, resize_table)
from mixedae_mm.utils.errors import ConfigurationError
from small_vit import ARCH, backbone, randomize


@pytest.mark.parametrize('size', [(32, 32), (64, 64), (50, 83), (8, 200)])
@pytest.mark.parametrize('out_type', ['raw', 'cls_token', 'featmap', 'avg_featmap'])
@pytest.mark.parametrize('num_sources', [None, 4])
def test_features_are_mmpretrains(size, out_type, num_sources):
    """Of whole images, in pre-training, too."""
    options = dict(img_size=32, patch_size=8, out_type=out_type)
    vit = randomize(
        backbone(out_indices=(1, 3), num_sources=num_sources, **options)).eval()
    plain = VisionTransformer(ARCH, out_indices=[1, 3], **options)
    weights = vit.state_dict()
    weights.pop('segment_embed', None)
    plain.load_state_dict(weights, strict=True)
    plain.eval()
    image = torch.randn(2, 3, *size)
    torch.testing.assert_close(vit(image), plain(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('size', [(50, 83), (33, 32), (8, 9)])
def test_other_sizes_are_padded_at_the_bottom_and_right(size):
    """Features of the image are those of the same image with a zero border,
    so position (i, j) of a map always lies at (i, j) * stride."""
    vit = randomize(backbone()).eval()
    image = torch.randn(1, 3, *size)
    features, = vit(image)
    expected, = vit(F.pad(image, (0, -size[1] % 8, 0, -size[0] % 8)))
    assert torch.equal(features, expected)
    assert features.shape[-2:] == tuple(-(-side // 8) for side in size)


@pytest.mark.parametrize('bias', [False, True])
def test_checkpointing_changes_memory_only(bias):
    image = torch.randn(2, 3, 40, 24)
    gradients = []
    for with_cp in (False, True):
        vit = randomize(backbone(with_cp=with_cp, relative_position_bias=bias,
                                 drop_path_rate=.3)).train()
        torch.manual_seed(3)
        vit(image)[0].square().sum().backward()
        gradients.append({name: p.grad for name, p in vit.named_parameters()})
    torch.testing.assert_close(*gradients)


def test_frozen_stages_stay_frozen_in_training():
    """Also after ``train()``, which an epoch begins with."""
    vit = randomize(backbone(frozen_stages=2, drop_path_rate=.5)).train()
    for name, parameter in vit.named_parameters():
        assert parameter.requires_grad is not name.startswith(
            ('cls_token', 'pos_embed', 'patch_embed.', 'layers.0.', 'layers.1.')), name
    assert [layer.training for layer in vit.layers] == [False] * 2 + [True] * 2
    assert not vit.patch_embed.training
    image = torch.randn(2, 3, 32, 32)
    vit.out_indices = [1]
    assert torch.equal(vit(image)[0], vit(image)[0])  # no drop path there

    everything = backbone(frozen_stages=4, final_norm=True)
    assert not any(p.requires_grad for p in everything.parameters())
    for wrong in (-2, 5):
        with pytest.raises(
                ConfigurationError, match=rf'frozen_stages is {wrong}.*\[-1, 4\]'):
            backbone(frozen_stages=wrong)


def test_drop_path_grows_with_depth():
    vit = backbone(drop_path_rate=.3)
    rates = [layer.attn.out_drop.drop_prob for layer in vit.layers]
    torch.testing.assert_close(rates, [0., .1, .2, .3])


@pytest.mark.parametrize('given, counted', [
    (-1, [3]), (0, [0]), ([0, 3], [0, 3]), ((1, -1), [1, 3]), ([1, -1], [1, 3]),
    (range(2), [0, 1]),
])
def test_out_indices(given, counted):
    assert backbone(out_indices=given).out_indices == counted


@pytest.mark.parametrize('wrong', [
    4, -5, [], [0, 12], ['1'], [1.5], [3, 1], [1, 1], [0, 3, -1]])
def test_wrong_out_indices(wrong):
    with pytest.raises(ConfigurationError, match='ascending order, each once.*has '
                       r'outputs 0 to 3 \(or -4 to -1\)'):
        backbone(out_indices=wrong)


def test_relative_position_bias_begins_as_the_plain_vit():
    image = torch.randn(2, 3, 48, 40)
    plain = randomize(backbone()).eval()
    biased = backbone(relative_position_bias=True).eval()
    missing, unexpected = biased.load_state_dict(plain.state_dict(), strict=False)
    assert len(missing) == 4 and not unexpected
    assert all(name.endswith('relative_position_bias_table') for name in missing)
    torch.testing.assert_close(biased(image), plain(image))


@pytest.mark.parametrize('with_cls_token', [True, False])
def test_relative_position_bias_by_its_definition(with_cls_token):
    """Each pair of tokens by hand, in float64."""
    grid, heads = (2, 3), 2
    bias = RelativePositionBias(grid, heads, with_cls_token).double()
    torch.nn.init.normal_(bias.relative_position_bias_table)
    table = bias.relative_position_bias_table
    got = bias(patch_offsets(grid, with_cls_token))
    places = [(r, c) for r in range(2) for c in range(3)]
    if with_cls_token:
        places = ['cls'] + places
    for i, query in enumerate(places):
        for j, key in enumerate(places):
            if query == key == 'cls':
                entry = table[-1]
            elif key == 'cls':
                entry = table[-2]
            elif query == 'cls':
                entry = table[-3]
            else:
                down, right = (query[0] - key[0], query[1] - key[1])
                entry = table[:15].unflatten(0, (3, 5))[down + 1, right + 2]
            assert torch.equal(got[:, i, j], entry)


def test_relative_position_bias_is_numbered_as_beits():
    beit = BEiTViT(ARCH, img_size=32, patch_size=8, use_rel_pos_bias=True)
    expected = beit.layers[0].attn.relative_position_index
    assert torch.equal(patch_offsets((4, 4)).entries, expected)
    table = beit.layers[0].attn.relative_position_bias_table
    ours = RelativePositionBias((4, 4), 2).relative_position_bias_table
    assert ours.shape == table.shape and ours.eq(0).all()


def test_relative_position_bias_enters_the_scores():
    """The layer equals softmax(q k^T / sqrt(D) + bias) v, with gradients."""
    vit = randomize(backbone(relative_position_bias=True)).double()
    attention = vit.layers[0].attn
    x = torch.randn(2, 17, 32, dtype=torch.float64)
    offsets = patch_offsets((4, 4))
    got = attention(x, offsets=offsets)
    qkv = attention.qkv(x).unflatten(-1, (3, 2, 16))
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    scores = query @ key.mT / 4 + attention.rel_pos_bias(offsets)
    expected = attention.proj(
        (scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(got, expected)
    table = attention.rel_pos_bias.relative_position_bias_table
    gradient, = torch.autograd.grad(got.square().sum(), table)
    wanted, = torch.autograd.grad(expected.square().sum(), table)
    torch.testing.assert_close(gradient, wanted)


def test_relative_position_bias_on_other_grids():
    vit = randomize(backbone(relative_position_bias=True)).eval()
    for size in [(64, 64), (24, 72), (30, 33)]:
        assert vit(torch.randn(1, 3, *size))[0].isfinite().all()
    # A bias that is linear in the offset stays so: 4 x 4 to 7 x 10 patches.
    rows = torch.arange(-3., 4.)[:, None].expand(7, 7)
    table = torch.cat([rows.reshape(-1, 1), torch.tensor([[7.], [8.], [9.]])])
    resized = resize_table(table, (4, 4), (7, 10))
    assert resized.shape == (13 * 19 + 3, 1)
    picture = resized[:-3].view(13, 19)
    assert torch.equal(picture[:, 0], picture[:, 18])
    torch.testing.assert_close(picture[[0, 6, 12], 5], torch.tensor([-3., 0., 3.]))
    assert resized[-3:].flatten().tolist() == [7., 8., 9.]


@pytest.mark.parametrize('options', [
    dict(num_sources=4), dict(homologous_in_transfer=True)])
def test_relative_position_bias_is_for_plain_transfer(options):
    with pytest.raises(ConfigurationError, match='is for transfer'):
        backbone(relative_position_bias=True, **options)


@pytest.mark.parametrize('bias', [False, True])
def test_mixed_precision(bias):
    vit = randomize(backbone(relative_position_bias=bias))
    image = torch.randn(2, 3, 40, 40)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        features, = vit(image)
    features.float().square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in vit.parameters())
    torch.testing.assert_close(features.float(), vit(image)[0], atol=.1, rtol=.1)
