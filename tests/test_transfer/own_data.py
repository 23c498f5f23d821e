"""Sets in the layouts of docs/your_own_labels.md, and a checkpoint to start from."""
import json
import re
from pathlib import Path

import images
import numpy as np
import preloaded
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/your_own_labels.md').read_text()
ARCH = dict(embed_dims=24, num_layers=6, num_heads=2, feedforward_channels=24)
SHAPES = ('lid', 'plate', 'tile')  # classes that no public data set has
SIDE = 64
TOOLBOX = dict(classify='mmpretrain', segment='mmseg', detect='mmdet')
METRIC = dict(classify='accuracy/top1', segment='mIoU', detect='coco/segm_mAP')
LOADERS = ['train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
           'val_dataloader.persistent_workers=False',
           'train_dataloader.persistent_workers=False']
SMALL = {  # what makes it quick, beside the size of the images
    'classify': ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=6'],
    'segment': [
        'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
        'default_hooks.checkpoint.interval=2', 'train_dataloader.batch_size=2',
        'model.decode_head.channels=8', 'model.auxiliary_head.channels=8'],
    'detect': [
        'train_cfg.max_epochs=1',
        'model.train_cfg.rpn_proposal.max_per_img=16',
        'model.test_cfg.rpn.max_per_img=8', 'model.test_cfg.rcnn.score_thr=0.0',
        'model.roi_head.mask_head.num_convs=1', *(
            f'model.{key}' for i in range(3) for key in (
                f'train_cfg.rcnn.{i}.sampler.num=8',
                f'roi_head.bbox_head.{i}.num_shared_convs=1',
                f'roi_head.bbox_head.{i}.conv_out_channels=16',
                f'roi_head.bbox_head.{i}.fc_out_channels=16'))],
}


def page_config(name):
    """A config of the page, as readers copy it."""
    return re.search(rf'```python\n(# {name}\.py\n.*?)```', PAGE, re.S)[1]


def write_sets(root, write_image, suffix, parts_suffix):
    """The three sets, six images to train and three to validate on.

    ``write_image(path, i, box)`` writes an image with an object from (left, top) to
    (right, bottom).
    """
    for split, number in (('train', 6), ('val', 3)):
        coco = dict(images=[], annotations=[], categories=[
            dict(id=7 + i, name=name) for i, name in enumerate(SHAPES)])
        for i in range(number):
            left, top, right, bottom = box = 10, 10 + i, 50, 45 + i
            for name in (f'birds/{split}/{SHAPES[i % 3]}/{i}{suffix}',
                         f'leaves/images/{split}/{i}{suffix}',
                         f'parts/{split}/{i}{parts_suffix}'):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                write_image(root / name, i, box)
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[top:bottom + 1, left:right + 1] = i % 3
            images.save(root / f'leaves/masks/{split}/{i}.png', mask)
            width, height = right - left, bottom - top
            coco['images'].append(dict(
                id=i, file_name=f'{i}{parts_suffix}', width=SIDE, height=SIDE))
            coco['annotations'].append(dict(
                id=1 + i, image_id=i, category_id=7 + i % 3, iscrowd=0,
                bbox=[left, top, width, height], area=width * height,
                segmentation=[[left, top, right, top, right, bottom, left, bottom]]))
        file = root / f'parts/annotations/{split}.json'
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(coco))


def write_checkpoint(path, in_channels=3, **config):
    """A pre-training with random weights, and with its config."""
    backbone = dict(type='MixedAEViT', arch=ARCH, img_size=SIDE, patch_size=8,
                    in_channels=in_channels)
    vit = MODELS.build(dict(backbone, num_sources=4))
    config = Config(config)
    config.merge_from_dict(dict(model=dict(backbone=backbone)))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(
        state_dict={f'backbone.{k}': v for k, v in vit.state_dict().items()},
        meta=dict(cfg=config.pretty_text)), path)


def run(folder, *command):
    """What a command prints."""
    return preloaded.output_of(*command, cwd=folder, PYTHONPATH=ROOT)


def last_checkpoint(work_dir):
    return work_dir / Path((work_dir / 'last_checkpoint').read_text()).name
