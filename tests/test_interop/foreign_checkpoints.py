"""Small random checkpoints of every layout, made by the libraries themselves."""
from functools import partial

import timm
import torch
import transformers
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

import mixedae_mm  # noqa: F401
import small_vit
from converters import layouts

WIDTH, DEPTH, HEADS, MLP, SIZE, PATCH = 96, 2, 4, 192, 64, 16
DECODER = dict(width=48, depth=2, heads=3)
GRID = SIZE // PATCH
shaken = partial(layouts.shaken, scale=.1)


def mixedae_model() -> dict:
    return small_vit.config(
        data_preprocessor=dict(type='MixedAEDataPreprocessor', patch_size=PATCH,
                               mean=[120., 110., 100.]),
        backbone=dict(
            img_size=SIZE, patch_size=PATCH,
            arch=dict(embed_dims=WIDTH, num_layers=DEPTH, num_heads=HEADS,
                      feedforward_channels=MLP)),
        neck={f'decoder_{name}': value for name, value in zip(
            ('embed_dim', 'depth', 'num_heads'), DECODER.values())})


def classifier_model(pooling: str, num_classes: int = 5) -> dict:
    """As MAE fine-tunes (``'mean'``), or with CLS."""
    on_mean = pooling == 'mean'
    return dict(
        type='ImageClassifier',
        backbone=dict(
            mixedae_model()['backbone'],
            out_type='avg_featmap' if on_mean else 'cls_token',
            final_norm=not on_mean),
        head=dict(
            type='LinearClsHead' if on_mean else 'VisionTransformerClsHead',
            num_classes=num_classes,
            in_channels=WIDTH))


def mm_checkpoint(path, config: dict, **meta) -> nn.Module:
    """Make a random model, and save it as mmengine does."""
    model = shaken(MODELS.build(dict(config, _scope_='mmpretrain')))
    mm_save(model, config, path, **meta)
    return model


def mm_save(model: nn.Module, config: dict, path, **meta) -> None:
    torch.save(
        dict(meta=dict(cfg=Config(dict(model=config)).pretty_text, **meta),
             state_dict=model.state_dict()), path)


def timm_model(**kwargs) -> nn.Module:
    return shaken(timm.models.VisionTransformer(**dict(
        dict(img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH,
             num_heads=HEADS, mlp_ratio=MLP / WIDTH, num_classes=0), **kwargs)))


def hf_sizes(**kwargs) -> dict:
    return dict(
        dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS,
             intermediate_size=MLP, image_size=SIZE, patch_size=PATCH), **kwargs)


def hf_model(**kwargs) -> nn.Module:
    return shaken(transformers.ViTModel(
        transformers.ViTConfig(**hf_sizes(**kwargs)), add_pooling_layer=False))


def hf_mae_model(**kwargs) -> nn.Module:
    config = transformers.ViTMAEConfig(**hf_sizes(
        decoder_hidden_size=DECODER['width'],
        decoder_num_hidden_layers=DECODER['depth'],
        decoder_num_attention_heads=DECODER['heads'],
        decoder_intermediate_size=4 * DECODER['width'],
        **kwargs))
    return shaken(transformers.ViTMAEForPreTraining(config))


class MetaMAE(timm.models.VisionTransformer):
    """MAE by the names of Meta's code, which builds on timm as well.

    Nothing is random: the first patches are seen, the others are mask tokens.
    """

    def __init__(self):
        super().__init__(
            img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH,
            num_heads=HEADS, mlp_ratio=MLP / WIDTH, num_classes=0)
        width = DECODER['width']
        self.decoder_embed = nn.Linear(WIDTH, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_pos_embed = nn.Parameter(torch.zeros(1, GRID**2 + 1, width))
        self.decoder_blocks = nn.ModuleList(
            timm.models.vision_transformer.Block(
                width, DECODER['heads'], qkv_bias=True,
                norm_layer=partial(nn.LayerNorm, eps=1e-6))
            for _ in range(DECODER['depth']))
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pred = nn.Linear(width, PATCH * PATCH * 3)

    def forward(self, images):
        return self.forward_features(images)

    def decode(self, tokens):
        x = self.decoder_embed(tokens)
        hidden = GRID**2 + 1 - x.shape[1]
        x = torch.cat([x, self.mask_token.expand(len(x), hidden, -1)], dim=1)
        x = x + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]
