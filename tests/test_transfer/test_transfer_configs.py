"""Every transfer config builds, and says what its protocol says."""
import copy
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, EVALUATOR, METRICS, MODELS, DefaultScope

import tiny_data
from mixedae_mm.config.tree import resolve
from mixedae_mm.launch.entry import adapt_to_cpu
from mixedae_mm.models.vit_sizes import SIZES
from transfer import transfer_eleven as eleven_sets

ROOT = Path(__file__).parents[2] / 'configs'
IN_1K = [
    'classification/finetune_vitb_100e_in1k.py',
    'classification/finetune_vitl_50e_in1k.py',
    'classification/finetune_vith_50e_in1k.py',
    'classification/linear_vitb_90e_in1k.py',
    'classification/linear_vitl_90e_in1k.py',
]
SMALL = [f'classification/small_sets/{name}.py' for name in eleven_sets.SETS]
ADE = [
    'segmentation/upernet_vitb_160k_ade20k.py',
    'segmentation/upernet_vitb_rel-pos_160k_ade20k.py',
    'segmentation/upernet_vitl_160k_ade20k.py',
    'segmentation/upernet_vith_160k_ade20k.py',
]
COCO = [
    'detection/cascade-mask-rcnn_vitb_1x_coco.py',
    'detection/cascade-mask-rcnn_vitl_1x_coco.py',
    'detection/cascade-mask-rcnn_vith_1x_coco.py',
]
ALL = IN_1K + SMALL + ADE + COCO
MIXMIM = 'classification/finetune_mixmim-b_100e_in1k.py'  # not a plain ViT


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """Configs as they are without a user's settings."""
    monkeypatch.delenv('DATA_ROOT', raising=False)
    monkeypatch.delenv('PRETRAINED', raising=False)


def load(name):
    return Config.fromfile(ROOT / name)


@lru_cache(maxsize=None)
def built(name):
    """A config and its model, which no test changes."""
    config = load(name)
    return config, build_model(config)


def size_of(name):
    """The size of ViT that a config's name says; ViT-B if it says none."""
    return next((size for size in SIZES if f'_{size.replace("-", "")}_' in name),
                'vit-b')


def registered(config):
    """Make the toolbox's parts known and found by their bare names."""
    scope = config.default_scope
    pytest.importorskip(scope)
    import_module(f'{scope}.utils').register_all_modules(init_default_scope=False)
    return DefaultScope.overwrite_default_scope(scope)


def build_model(config, device='meta'):
    """The whole model, by default without the memory for its weights."""
    model = config.model
    if 'data_preprocessor' in config:  # mmpretrain's runner does the same
        model.setdefault('data_preprocessor', config.data_preprocessor)
    with registered(config), torch.device(device):
        return MODELS.build(model)


def build_optimizer(config, model):
    config = copy.deepcopy(config)  # what is in it would be shared
    config.launcher = 'none'
    adapt_to_cpu(config)
    with registered(config):
        return build_optim_wrapper(model, config.optim_wrapper).optimizer


def test_no_config_is_forgotten():
    assert {*ALL, MIXMIM} == {
        str(path.relative_to(ROOT))
        for kind in ('classification', 'segmentation', 'detection')
        for path in (ROOT / kind).rglob('*.py')}


@pytest.mark.parametrize('name', ALL)
def test_model_and_optimizer_build(name):
    config, model = built(name)
    backbone = model.backbone
    assert type(backbone).__name__ == 'MixedAEViT'
    size = SIZES[size_of(name)]
    assert (backbone.embed_dims, backbone.num_layers) == (size.width, size.depth)
    patch = 14 if size_of(name) == 'vit-h' else 16
    assert backbone.patch_embed.projection.kernel_size == (patch, patch)
    assert not backbone.is_pretraining and not backbone.homologous_in_transfer
    is_trained = {p.requires_grad for p in backbone.parameters()}
    assert is_trained == {'linear' not in name}
    if 'linear' in name:
        assert backbone.frozen_stages == size.depth
    if name in ADE:
        assert model.decode_head.in_channels == [size.width] * 4
        assert backbone.relative_position_bias is ('rel-pos' in name)
        assert backbone.patch_resolution == ((37, 37) if patch == 14 else (32, 32))

    for head in model.roi_head.bbox_head if name in COCO else ():
        assert type(head).__name__ == 'ConvFCBBoxHead'
        assert (len(head.shared_convs), len(head.shared_fcs)) == (4, 1)
        assert type(head.loss_bbox).__name__ == 'GIoULoss'
        assert head.reg_decoded_bbox and not head.reg_class_agnostic
        kinds = {type(module).__name__ for module in head.modules()}
        assert {kind for kind in kinds if 'Norm' in kind} == {'SyncBatchNorm'}

    groups = build_optimizer(config, model).param_groups
    assert {id(p) for group in groups for p in group['params']} == {
        id(p) for p in model.parameters() if p.requires_grad or 'linear' in name}


@pytest.mark.parametrize('name', ALL)
def test_pre_trained_weights_and_data_come_from_the_environment(
        name, monkeypatch):
    config = load(name)
    checkpoint = config.model.backbone.init_cfg.checkpoint
    assert checkpoint.startswith(
        f'work_dirs/mixedae_{size_of(name).replace("-", "")}_')

    def root_of(config):
        root, = {config[f'{kind}_dataloader'].dataset.data_root
                 for kind in ('train', 'val', 'test')}
        return root

    assert root_of(config).startswith('data/')
    monkeypatch.setenv('PRETRAINED', '/weights/other.pth')
    monkeypatch.setenv('DATA_ROOT', '/elsewhere')
    config = load(name)
    assert config.model.backbone.init_cfg.checkpoint == '/weights/other.pth'
    assert root_of(config) == '/elsewhere'
    assert 'data/' not in str(config.val_evaluator)


@pytest.mark.parametrize('name', ALL)
def test_runs_are_as_safe_as_pre_training(name):
    config = load(name)
    pretraining = Config.fromfile(ROOT / 'mae_vitb_300e.py')
    assert config.custom_hooks == [
        *pretraining.custom_hooks, dict(type='DataCheckHook')]
    for each in (config, pretraining):
        assert each.default_hooks.checkpoint.type == 'SafeCheckpointHook'


# config: epochs or steps, batch on 8 processes, lr, weight decay, layer decay,
# drop path, layers whose output is used (counted from 1)
RECIPES = {
    'classification/finetune_vitb_100e_in1k.py':
    (100, 1024, 2e-3, .05, .65, .1, [12]),
    'classification/finetune_vitl_50e_in1k.py':
    (50, 1024, 4e-3, .05, .75, .2, [24]),
    'classification/finetune_vith_50e_in1k.py':
    (50, 1024, 4e-3, .05, .75, .3, [32]),
    'segmentation/upernet_vitb_160k_ade20k.py':
    (160000, 16, 1e-4, .05, .65, .1, [4, 6, 8, 12]),
    'segmentation/upernet_vitb_rel-pos_160k_ade20k.py':
    (160000, 16, 1e-4, .05, .65, .1, [4, 6, 8, 12]),
    'segmentation/upernet_vitl_160k_ade20k.py':
    (160000, 16, 2e-5, .05, .95, .2, [8, 12, 16, 24]),
    'segmentation/upernet_vith_160k_ade20k.py':
    (160000, 16, 2e-5, .05, .95, .3, [11, 16, 22, 32]),
    'detection/cascade-mask-rcnn_vitb_1x_coco.py':
    (12, 16, 1e-4, .05, .75, .2, [4, 6, 8, 12]),
    'detection/cascade-mask-rcnn_vitl_1x_coco.py':
    (12, 16, 1e-4, .05, .75, .3, [8, 12, 16, 24]),
    'detection/cascade-mask-rcnn_vith_1x_coco.py':
    (12, 16, 1e-4, .05, .75, .3, [11, 16, 22, 32]),
}


@pytest.mark.parametrize('name', RECIPES)
def test_recipe(name):
    length, batch, lr, decay, layer_decay, drop_path, layers = RECIPES[name]
    config, model = built(name)
    assert length == (
        config.train_cfg.get('max_iters') or config.train_cfg.max_epochs)
    assert 8 * config.train_dataloader.batch_size == batch
    assert config.auto_scale_lr.base_batch_size == batch
    assert not config.auto_scale_lr.get('enable', False)
    settings = config.optim_wrapper.optimizer
    assert settings.type == 'AdamW' and settings.betas == (.9, .999)
    assert (settings.lr, settings.weight_decay) == (lr, decay)
    assert model.backbone.layers[-1].ffn.dropout_layer.drop_prob == drop_path
    assert [i + 1 for i in model.backbone.out_indices] == layers
    assert config.optim_wrapper.type == 'AmpOptimWrapper'
    # Parameter by parameter: test_layer_decay_optim_constructor.py.
    groups = build_optimizer(config, model).param_groups
    rates = sorted({group['lr'] for group in groups}, reverse=True)
    depth = model.backbone.num_layers
    torch.testing.assert_close(
        rates, [lr * layer_decay**i for i in range(depth + 2)])


PROTOCOLS = {
    "MAE's fine-tuning": (IN_1K[:3], {
        'model.backbone.out_type': 'avg_featmap',  # mean of patches
        'model.backbone.final_norm': False,
        'model.head.loss.label_smooth_val': .1,
        'model.train_cfg.augments': [
            dict(type='Mixup', alpha=.8), dict(type='CutMix', alpha=1.)],
        'train_dataloader.dataset.pipeline.3.type': 'RandAugment',
        'train_dataloader.dataset.pipeline.3.magnitude_level': 9,
        'train_dataloader.dataset.pipeline.3.magnitude_std': .5,
        'train_dataloader.dataset.pipeline.4.type': 'RandomErasing',
        'train_dataloader.dataset.pipeline.4.erase_prob': .25,
        'train_dataloader.dataset.pipeline.4.mode': 'rand',
        'param_scheduler.0.end': 5, 'param_scheduler.1.begin': 5,
        'val_evaluator.type': 'Accuracy', 'val_evaluator.topk': (1, 5)}),
    "MAE's linear probing": (IN_1K[3:], {
        'model.neck.type': 'ClsBatchNormNeck', 'train_dataloader.batch_size': 2048,
        'auto_scale_lr.base_batch_size': 16384, 'train_cfg.max_epochs': 90,
        'optim_wrapper.optimizer.type': 'LARS', 'optim_wrapper.optimizer.lr': 6.4,
        'optim_wrapper.optimizer.weight_decay': 0}),
    "BEiT's UperNet": (ADE, {
        'model.neck.type': 'ViTFeaturePyramid', 'model.decode_head.num_classes': 150,
        'model.test_cfg': dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
        'param_scheduler.0.end': 1500, 'param_scheduler.1.type': 'PolyLR',
        'param_scheduler.1.begin': 1500, 'param_scheduler.1.end': 160000,
        'param_scheduler.1.power': 1., 'param_scheduler.1.eta_min': 0.}),
    "iBOT's detector": (COCO, {
        'model.neck.0.type': 'ViTFeaturePyramid', 'model.neck.1.type': 'FPN',
        'param_scheduler.1.type': 'MultiStepLR', 'param_scheduler.1.gamma': .1,
        'param_scheduler.1.milestones': [8, 11],
        'train_dataloader.dataset.pipeline.2.scales': [
            (1333, side) for side in range(480, 801, 32)],
        'val_dataloader.dataset.pipeline.1.scale': (1333, 800),
        'val_evaluator.metric': ['bbox', 'segm']}),
}


@pytest.mark.parametrize('name, settings', [
    (name, settings) for names, settings in PROTOCOLS.values() for name in names])
def test_protocol(name, settings):
    config = load(name)
    assert {key: resolve(config, key.split('.')) for key in settings} == settings


def test_mixmim_has_the_recipe_of_the_others():
    config = load(MIXMIM)
    model = build_model(config, 'cpu')
    vit, _ = built(IN_1K[0])
    backbone = model.backbone
    assert type(backbone).__name__ == 'MixMIMTransformer'
    assert model.head.in_channels == backbone.num_features
    for key in ('train_dataloader', 'param_scheduler', 'train_cfg', 'custom_hooks',
                'default_hooks'):
        assert config[key] == vit[key]
    assert config.model.train_cfg == vit.model.train_cfg
    rates = {group['lr'] for group in build_optimizer(config, model).param_groups}
    torch.testing.assert_close(sorted(rates, reverse=True), [
        2e-3 * .7**i for i in range(sum(backbone.depths) + 2)])


def test_resnet_50_has_the_recipe_of_the_eleven_sets():
    config = load(SMALL[0])
    vit = copy.deepcopy(config)
    config.merge_from_dict(
        Config.fromfile(eleven_sets.BACKBONES['resnet50']).to_dict())
    model = build_model(config, 'cpu')
    assert type(model.backbone).__name__ == 'ResNet' and model.backbone.depth == 50
    assert model.head.fc.weight.shape == (100, 2048)
    assert config.model.backbone.init_cfg.complete
    assert 'patch_size' not in config.model.backbone
    assert config.optim_wrapper == vit.optim_wrapper


# set: dataset class, split for the final training, classes, metric's name
PROTOCOL = {
    'aircraft': ('FGVCAircraft', 'trainval', 100, 'mean per class'),
    'caltech101': ('Caltech101', 'train', 102, 'mean per class'),
    'cars': ('StanfordCars', 'train', 196, 'top-1'),
    'cifar10': ('CIFAR10', 'train', 10, 'top-1'),
    'cifar100': ('CIFAR100', 'train', 100, 'top-1'),
    'dtd': ('DTD', 'trainval', 47, 'top-1'),
    'flowers102': ('Flowers102', 'trainval', 102, 'mean per class'),
    'food101': ('Food101', 'train', 101, 'top-1'),
    'pets': ('OxfordIIITPet', 'trainval', 37, 'mean per class'),
    'sun397': ('SUN397', 'train', 397, 'top-1'),
    'voc2007': ('VOC', 'trainval', 20, '11-point mAP'),
}
METRICS_BY_NAME = {
    'mean per class': dict(type='SingleLabelMetric', items=['recall']),
    'top-1': dict(type='Accuracy', topk=1),
    '11-point mAP': dict(type='ElevenPointMAP'),
}


@pytest.mark.parametrize('name', PROTOCOL)
def test_small_set(name, tmp_path, monkeypatch):
    """Class, splits, metric, and a batch from files of the real format."""
    kind, split, num_classes, metric = PROTOCOL[name]
    config = load(f'classification/small_sets/{name}.py')
    assert config.model.head.num_classes == num_classes
    assert config.val_evaluator == METRICS_BY_NAME[metric]
    assert config.train_dataloader.batch_size == 64
    assert config.train_cfg.max_iters == 5000

    tiny_data.small_set(name, tmp_path, 10, monkeypatch)
    choice = eleven_sets.Choice(1e-2, 0.)
    final, sweep = (
        eleven_sets.run_config(config, choice, str(tmp_path), validate)
        for validate in (False, True))
    assert final.train_dataloader.dataset.split == split
    with registered(config):
        datasets = {
            (stage, part): DATASETS.build(c[f'{part}_dataloader'].dataset)
            for stage, c in (('final', final), ('sweep', sweep))
            for part in ('train', 'val')}
        EVALUATOR.build(dict(type='Evaluator', metrics=config.val_evaluator))
    if name != 'flowers102':  # its classes have no names in mmpretrain
        assert {len(d.metainfo['classes'])
                for d in datasets.values()} == {num_classes}
    train, test = datasets['final', 'train'], datasets['final', 'val']
    assert type(train).__name__ == type(test).__name__ == kind
    assert test.split == 'test'
    for dataset in datasets.values():
        sample = dataset[0]
        assert sample['inputs'].shape == (3, 224, 224)
        assert sample['inputs'].dtype == torch.uint8

    # Nothing of the test images is seen by the sweep, and no training image
    # validates it.
    def files(stage, part):
        infos = map(datasets[stage, part].get_data_info,
                    range(len(datasets[stage, part])))
        return {info.get('img_path') or info['img'].tobytes() for info in infos}

    swept, validated = files('sweep', 'train'), files('sweep', 'val')
    assert not swept & validated
    assert not (swept | validated) & files('final', 'val')
    if 'hold_out' in config.sweep:
        assert swept | validated == files('final', 'train')
        assert len(validated) == len(swept | validated) // 5


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory):
    folder = tmp_path_factory.mktemp('imagenet')
    tiny_data.imagenet(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('name', IN_1K)
def test_imagenet_batches(name, imagenet, monkeypatch):
    monkeypatch.setenv('DATA_ROOT', str(imagenet))
    config = load(name)
    with registered(config):
        for part in ('train', 'val', 'test'):
            dataset = DATASETS.build(config[f'{part}_dataloader'].dataset)
            assert len(dataset) == 1000
            sample = dataset[7]
            assert sample['inputs'].shape == (3, 224, 224)
            assert sample['data_samples'].gt_label.item() == 7


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scenes')
    tiny_data.scenes(folder)
    return folder


@pytest.mark.parametrize('name', ADE)
def test_ade20k_batches(name, scenes, monkeypatch):
    monkeypatch.setenv('DATA_ROOT', str(scenes / 'ade'))
    config = load(name)
    with registered(config):
        train = DATASETS.build(config.train_dataloader.dataset)
        val = DATASETS.build(config.val_dataloader.dataset)
        several = config.val_dataloader.dataset.copy()
        several['pipeline'] = config.tta_pipeline
        scales = DATASETS.build(several)[0]
    assert (len(train), len(val)) == (4, 2)
    assert len(train.metainfo['classes']) == 150
    sample = train[0]
    assert sample['inputs'].shape[-2:] == (512, 512)
    labels = sample['data_samples'].gt_sem_seg.data.unique().tolist()
    assert set(labels) <= {0, 1, 2, 3, 4, 5, 6, 7, 8, 255}
    # The shorter side is 512, and the labels stay at the original size.
    sample = val[0]
    assert min(sample['inputs'].shape[-2:]) == 512
    assert max(sample['data_samples'].gt_sem_seg.shape) == 96
    assert [min(image.shape[-2:]) for image in scales['inputs']] == sorted(
        2 * [256, 384, 512, 640, 768, 896])


@pytest.mark.parametrize('name', COCO)
def test_coco_batches(name, scenes, monkeypatch):
    monkeypatch.setenv('DATA_ROOT', str(scenes / 'coco'))
    config = load(name)
    with registered(config):
        train = DATASETS.build(config.train_dataloader.dataset)
        val = DATASETS.build(config.val_dataloader.dataset)
        METRICS.build(config.val_evaluator)
    assert len(train.metainfo['classes']) == 80
    sample = train[0]
    assert 480 <= min(sample['inputs'].shape[-2:]) <= 800
    instances = sample['data_samples'].gt_instances
    assert len(instances) == len(instances.masks) >= 1
    assert min(val[0]['inputs'].shape[-2:]) == 800
