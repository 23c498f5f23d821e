"""What the kill test runs when no config is given: small, but with everything.

Both are killed within seconds of training, so nothing here is about results.
"""
import os
import os.path as osp
from typing import Callable, Dict

import numpy as np
from mmengine.config import Config
from PIL import Image

VIT = dict(
    type='MixedAEViT',
    img_size=32,
    patch_size=8,
    drop_path_rate=0.1,
    arch=dict(embed_dims=48, num_layers=3, num_heads=2, feedforward_channels=96))


def pretraining(folder: str) -> Config:
    """MixedAE by iterations, with accumulation and augmenting workers."""
    return Config(dict(
        _common(),
        model=dict(
            type='MixedAE',
            backbone=dict(VIT, out_type='raw'),
            neck=dict(type='MixedAEDecoder', decoder_embed_dim=32,
                      decoder_depth=1, decoder_num_heads=2),
            head=dict(type='MixedAEPretrainHead')),
        train_dataloader=_loader(folder, 'UnlabelledImageFolder', 'InfiniteSampler'),
        train_cfg=dict(by_epoch=False, max_iters=40),
        optim_wrapper=_optimizer(accumulative_counts=2),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=10),
            dict(type='CosineAnnealingLR', by_epoch=False, begin=10, end=40)],
        default_hooks=_hooks(by_epoch=False, interval=7)))


def classification(folder: str) -> Config:
    """A ViT by epochs, with mixup, EMA, evaluation, checkpoints within epochs."""
    return Config(dict(
        _common(dict(type='EMAHook', momentum=0.02)),
        model=dict(
            type='ImageClassifier',
            data_preprocessor=dict(num_classes=2, to_rgb=False),
            backbone=dict(VIT, out_type='avg_featmap'),
            train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=48,
                      loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1,
                                num_classes=2, mode='original'))),
        train_dataloader=_loader(folder, 'CustomDataset', 'DefaultSampler'),
        val_dataloader=_loader(folder, 'CustomDataset', 'DefaultSampler',
                               shuffle=False, workers=0, batch_size=2),
        val_evaluator=dict(type='Accuracy'),
        train_cfg=dict(by_epoch=True, max_epochs=4),
        val_cfg=dict(),
        optim_wrapper=_optimizer(constructor='LayerDecayOptimWrapperConstructor',
                                 paramwise_cfg=dict(layer_decay_rate=0.75)),
        param_scheduler=[dict(type='CosineAnnealingLR', by_epoch=True, T_max=4,
                              convert_to_iter_based=True)],
        default_hooks=_hooks(by_epoch=False, interval=4, save_best='auto')))


BUILT_IN: Dict[str, Callable[[str], Config]] = dict(
    pretraining=pretraining, classification=classification)


def _common(*hooks: dict) -> dict:
    return dict(
        default_scope='mmpretrain',
        custom_hooks=[dict(type='ExactResumeHook'), dict(type='PreemptionHook'),
                      dict(type='NonFiniteLossHook'), *hooks],
        env_cfg=dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0)),
        randomness=dict(seed=0, diff_rank_seed=True))


def _hooks(**checkpoint) -> dict:
    return dict(
        logger=dict(type='LoggerHook', interval=5),
        checkpoint=dict(type='SafeCheckpointHook', max_keep_ckpts=2, **checkpoint))


def _optimizer(**kwargs) -> dict:
    return dict(type='OptimWrapper', **kwargs,
                optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05))


def _loader(folder: str, dataset: str, sampler: str, shuffle: bool = True,
            workers: int = 2, batch_size: int = 8) -> dict:
    _make_images(folder)
    return dict(
        batch_size=batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=shuffle,
        collate_fn=dict(type='default_collate'),
        sampler=dict(type=sampler, shuffle=shuffle),
        dataset=dict(
            type=dataset,
            data_root=folder,
            pipeline=[
                dict(type='LoadImageTensor'),
                dict(type='TensorRandomResizedCrop', size=32),
                dict(type='torchvision/RandomHorizontalFlip', p=0.5),
                dict(type='PackInputs', meta_keys=('img_path', ))]))


def _make_images(folder: str) -> None:
    """90 images of noise in two classes."""
    if osp.isdir(folder):
        return
    chance = np.random.default_rng(0)
    for name in ('fine', 'coarse'):
        os.makedirs(osp.join(folder, name))
        for number in range(45):
            size = 40 if name == 'fine' else 8
            pixels = chance.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((40, 40)).save(
                osp.join(folder, name, f'{number}.png'))
