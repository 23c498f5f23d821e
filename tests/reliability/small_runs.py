"""Runs of seconds that have all there is to lose: what the kills and faults are for."""
import os.path as osp

import small_vit
from mmengine.config import Config

from mixedae_mm import config_path

from .images import write_noise

IMPORTS = dict(imports=['mixedae_mm', 'reliability.hooks'])
MIXEDAE = small_vit.config(backbone=dict(drop_path_rate=0.1))
VIT = MIXEDAE['backbone']


def pretraining(folder: str) -> Config:
    """MixedAE by iterations, with accumulation and augmenting workers."""
    return Config(dict(
        _common(),
        model=MIXEDAE,
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
            head=dict(type='LinearClsHead', num_classes=2, in_channels=32, topk=(1, ),
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


def paper(folder: str) -> Config:
    """The paper's config with a smaller model, smaller images and four epochs."""
    cfg = Config.fromfile(config_path('mixedae_vitb_300e'))
    cfg.model.backbone.update(img_size=32, patch_size=8, arch=small_vit.ARCH)
    cfg.model.neck.update(MIXEDAE['neck'])
    loader = _loader(folder, 'UnlabelledImageFolder', 'DefaultSampler')
    cfg.train_dataloader.dataset.pipeline[1].size = 32
    cfg.train_dataloader.dataset.update(data_root=folder, data_prefix=dict(img_path=''))
    cfg.train_dataloader.update(
        {key: loader[key] for key in ('batch_size', 'num_workers')})
    cfg.train_cfg.max_epochs = 4
    return cfg


def _common(*hooks: dict) -> dict:
    return dict(
        custom_imports=IMPORTS,
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
    if not osp.isdir(folder):  # two classes that an epoch can tell apart
        write_noise(osp.join(folder, 'fine'), 45)
        write_noise(osp.join(folder, 'coarse'), 45, pixels=8)
    return dict(
        batch_size=batch_size, num_workers=workers, persistent_workers=workers > 0,
        drop_last=shuffle, collate_fn=dict(type='default_collate'),
        sampler=dict(type=sampler, shuffle=shuffle),
        dataset=dict(
            type=dataset, data_root=folder, pipeline=[
                dict(type='LoadImageTensor'),
                dict(type='TensorRandomResizedCrop', size=32),
                dict(type='torchvision/RandomHorizontalFlip', p=0.5),
                dict(type='PackInputs', meta_keys=('img_path', ))]))
