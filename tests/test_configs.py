"""Every pre-training config builds, and says what the paper says."""
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from images import save
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, init_default_scope

ROOT = Path(__file__).parents[1] / 'configs'
PRETRAINING = sorted(
    str(path.relative_to(ROOT))
    for folder in (ROOT, ROOT / 'ablations', ROOT / 'demo')
    for path in folder.glob('*.py'))

# Parameters counted by hand for ViT-B/16 and MAE's decoder (8 x 512):
# a layer of width D with a four times wider FFN has 12 D^2 + 13 D.
LAYER = 12 * 768**2 + 13 * 768
VIT_B = (768 * 768 + 768) + 768 + 197 * 768 + 12 * LAYER + 2 * 768
SEGMENTS = 4 * 768
DECODER = (768 * 512 + 512) + 512 + 197 * 512 + 8 * (
    12 * 512**2 + 13 * 512) + 2 * 512 + (512 * 768 + 768)
LIGHT = (768 * 256 + 256) + 256 + 197 * 256 + 2 * (
    12 * 256**2 + 13 * 256) + 2 * 256 + (256 * 768 + 768)
PROJECTOR = 768 * 128 + 128
MIXEDAE = VIT_B + SEGMENTS + DECODER + PROJECTOR
VIT_L = (1024 * 768 + 1024) + 1024 + 197 * 1024 + 24 * (
    12 * 1024**2 + 13 * 1024) + 2 * 1024
DECODER_L = DECODER + (1024 - 768) * 512
PROJECTOR_L = 1024 * 128 + 128

# config: epochs, images a step, base lr, parameters
PAPER = {
    'mixedae_vitb_300e.py': (300, 4096, 7.5e-5, MIXEDAE),
    'mixedae_vitb_800e.py': (800, 4096, 7.5e-5, MIXEDAE),
    'mixedae_vitb_1600e.py': (1600, 4096, 7.5e-5, MIXEDAE),
    'mixedae_vitl_300e.py':
    (300, 4096, 7.5e-5, VIT_L + 4 * 1024 + DECODER_L + PROJECTOR_L),
    'mixedae_full_vitb_300e.py': (300, 1024, 7.5e-5, MIXEDAE),
    'mixedae_full_light_vitb_300e.py':
    (300, 1024, 7.5e-5, VIT_B + SEGMENTS + LIGHT + PROJECTOR),
    'naive_mixing_vitb_300e.py': (300, 4096, 1.5e-4, VIT_B + DECODER),
    'mae_vitb_300e.py': (300, 4096, 1.5e-4, VIT_B + DECODER),
    'mae_vitb_800e.py': (800, 4096, 1.5e-4, VIT_B + DECODER),
    'mae_vitb_1600e.py': (1600, 4096, 1.5e-4, VIT_B + DECODER),
    'ablations/3f_both.py': (300, 4096, 1.5e-4, MIXEDAE),
    'ablations/3f_neither.py': (300, 4096, 1.5e-4, VIT_B + DECODER),
    'ablations/3f_attention_only.py':
    (300, 4096, 1.5e-4, VIT_B + SEGMENTS + DECODER),
    'ablations/3f_contrastive_only.py': (300, 4096, 1.5e-4, MIXEDAE),
    'ablations/contrastive_without_reconstruction.py':
    (300, 4096, 1.5e-4, VIT_B + SEGMENTS + PROJECTOR),
}

# ablation: what it is about, as attributes of the built model
TABLE_3 = {
    '3a_ratio_025.py': dict(n=4, layers=12, contrast=None),
    '3a_ratio_05.py': dict(n=2, layers=12, contrast=None),
    '3b_after_norm.py': dict(layers=12, contrast='after_norm'),
    '3b_before_norm.py': dict(layers=12, contrast='before_norm'),
    '3c_positives_separate.py': dict(layers=12, positives='separate'),
    '3c_positives_mean.py': dict(layers=12, positives='mean'),
    '3d_topk_0125.py': dict(layers=0, topk=24),
    '3d_topk_025.py': dict(layers=0, topk=49),
    '3d_topk_05.py': dict(layers=0, topk=98),
    '3d_topk_1.py': dict(layers=12),
    '3e_global_none.py': dict(layers=0, topk=49),
    '3e_global_first.py': dict(layers=1, topk=49),
    '3e_global_first_two.py': dict(layers=2, topk=49),
    '3e_global_first_three.py': dict(layers=3, topk=49),
    '3f_neither.py': dict(layers=12, contrast=None),
    '3f_attention_only.py': dict(layers=1, topk=49, contrast=None),
    '3f_contrastive_only.py': dict(layers=12, contrast='after_norm'),
    '3f_both.py': dict(layers=1, topk=49, contrast='after_norm'),
}


@pytest.fixture
def photo_folder(tmp_path, monkeypatch):
    """A data root that serves ImageNet's layout and a plain folder."""
    for i in range(8):
        save(tmp_path / f'train/class/{i}.jpg', (40 + i, 30))
    monkeypatch.setenv('DATA_ROOT', str(tmp_path))
    return tmp_path


def load(name):
    cfg = Config.fromfile(ROOT / name)
    init_default_scope(cfg.default_scope)
    return cfg


@lru_cache(maxsize=None)
def build_model(name):
    """Which no test changes."""
    with torch.device('meta'):  # shapes and names without the memory
        return MODELS.build(load(name).model)


@pytest.mark.parametrize('name', PRETRAINING)
def test_builds_model_pipeline_and_optimizer(name, photo_folder):
    cfg = load(name)
    model = build_model(name)

    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    sample = dataset[0]
    side = cfg.model.backbone.get('img_size', 224)
    assert sample['inputs'].shape == (3, side, side)
    assert sample['inputs'].dtype == torch.uint8
    assert sample['data_samples'].img_path
    batch_size = cfg.train_dataloader.batch_size
    if cfg.model.type == 'MixedAE':
        assert batch_size % model.data_preprocessor.num_sources == 0
    assert cfg.train_dataloader.drop_last

    # The AMP wrapper needs a GPU, the fused optimizer real memory; the groups
    # depend on neither.
    optim = dict(cfg.optim_wrapper, type='OptimWrapper')
    optim.pop('loss_scale', None)
    optim['optimizer'] = dict(cfg.optim_wrapper.optimizer, fused=False)
    wrapper = build_optim_wrapper(model, optim)
    decay = {}
    for group in wrapper.optimizer.param_groups:
        for parameter in group['params']:
            decay[parameter] = group['weight_decay']
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad:  # fixed positions: never updated
            continue
        exempt = parameter.ndim < 2 or key.rsplit('.')[-1] in (
            'pos_embed', 'decoder_pos_embed', 'cls_token', 'mask_token',
            'segment_embed')
        assert decay[parameter] == (0 if exempt else 0.05), key
    assert wrapper.optimizer.defaults['betas'] == (0.9, 0.95)


@pytest.mark.parametrize('name', PAPER)
def test_recipe_is_the_papers(name):
    epochs, images, base_lr, parameters = PAPER[name]
    cfg = load(name)
    assert cfg.train_cfg.max_epochs == epochs
    assert 8 * cfg.train_dataloader.batch_size == images
    assert cfg.auto_scale_lr.base_batch_size == images
    lr = cfg.optim_wrapper.optimizer.lr
    assert lr == pytest.approx(base_lr * images / 256)
    warmup, cosine = cfg.param_scheduler
    assert (warmup.begin, warmup.end) == (0, 40)
    assert (cosine.begin, cosine.end) == (40, epochs)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.randomness.diff_rank_seed
    crop = cfg.train_pipeline[1]
    assert (crop.size, tuple(crop.scale)) == (224, (.2, 1.))
    assert crop.interpolation == 'bicubic'
    count = sum(p.numel() for p in build_model(name).parameters())
    assert count == parameters


def test_every_ablation_of_table_3_is_here():
    names = {path.name for path in (ROOT / 'ablations').glob('3*.py')}
    assert names == set(TABLE_3)


@pytest.mark.parametrize('name', TABLE_3)
def test_ablation_changes_what_it_says(name):
    expected = TABLE_3[name]
    cfg = load(f'ablations/{name}')
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1.5e-4 * 16)
    model = build_model(f'ablations/{name}')
    topk = model.backbone.topk_of_layers(196)
    assert topk[:expected['layers']] == [None] * expected['layers']
    rest = topk[expected['layers']:]
    assert rest == [expected.get('topk')] * len(rest)
    assert model.head.num_sources == expected.get('n', 4)
    if 'contrast' in expected:
        contrast = model.head.contrast_loss and model.head.contrast_input
        assert contrast == expected['contrast']
    if 'positives' in expected:
        assert model.head.contrast_loss.positives == expected['positives']


def test_full_mode_and_light_decoder():
    full = build_model('mixedae_full_vitb_300e.py')
    assert full.data_preprocessor.mode == 'full'
    light = build_model('mixedae_full_light_vitb_300e.py')
    assert light.data_preprocessor.mode == 'full'
    assert len(light.neck.decoder_blocks) == 2
    assert light.neck.decoder_blocks[0].attn.num_heads == 8
    assert build_model('mixedae_vitb_300e.py').data_preprocessor.mode == 'compose'


def test_data_root_comes_from_the_environment(photo_folder, monkeypatch):
    cfg = load('mixedae_vitb_folder.py')
    assert cfg.train_dataloader.dataset.data_root == str(photo_folder)
    monkeypatch.delenv('DATA_ROOT')
    assert load('mixedae_vitb_folder.py'
                ).train_dataloader.dataset.data_root == 'data/images'
    assert load('mixedae_vitb_300e.py'
                ).train_dataloader.dataset.data_root == 'data/imagenet'


@pytest.mark.parametrize('folder', sorted(
    {path.parent for path in ROOT.rglob('*.py') if '_base_' not in path.parts}),
    ids=lambda folder: str(folder.relative_to(ROOT.parent)))
def test_every_config_is_in_the_table_of_its_folder(folder):
    table = (folder / 'README.md').read_text()
    missing = [path.name for path in folder.glob('*.py')
               if f'`{path.name}`' not in table]
    assert not missing


def test_measurements_count_what_their_run_counts():
    """mmengine counts epochs unless told, of which a run of steps has none."""
    wrong = []
    for path in ROOT.rglob('*.py'):
        config = Config.fromfile(path)
        if config.get('val_dataloader') and config.get('train_cfg'):
            by_epoch = config.default_hooks.logger.get('log_metric_by_epoch', True)
            if by_epoch != ('max_iters' not in config.train_cfg):
                wrong.append(str(path))
    assert not wrong
