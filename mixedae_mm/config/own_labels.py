"""What configs of ``own_labels/`` leave out: read from the data and the checkpoint."""
import os
from collections import Counter
from typing import Any, Mapping, Optional, Sequence

import mmengine
from mmengine.config import Config
from mmpretrain.datasets.custom import find_folders

from ..datasets.channels import CHANNEL_EXTENSIONS
from ..datasets.decode import EXTENSIONS
from ..datasets.folder_index import scan_folder
from ..models.checkpoint_reading import read_checkpoint, saved_config
from ..utils.checks import check_flag
from ..utils.errors import ConfigurationError
from .own_channels import take_channels
from .own_sizes import resize, take_architecture
from .tree import expand_home, walk
from .values import DATALOADERS

# Top-level keys that a user sets. They are not in the config that a run saves, which
# is an ordinary one and needs neither the data nor the checkpoint to be read.
KEYS = ('own_labels', 'data_root', 'pretrained', 'classes', 'reduce_zero_label',
        'image_size', 'channels', 'mean', 'std')
# Sizes in the recipe of each task, which ``image_size`` replaces: the crop, or the
# shorter side of the largest images.
RECIPE_SIZES = dict(folders=224, masks=512, coco=800)


def fill_in(cfg: Config) -> None:
    """Write data, weights and classes where a config needs them, in place.

    The number of classes goes to every head and to the preprocessor, names to every
    data set. Architecture, patch size and channels are those of the checkpoint. What
    is not there is left as it is, to be refused by name before a training.

    Args:
        cfg (Config): With ``own_labels``, where the classes come from: ``'folders'``,
            ``'masks'`` or ``'coco'``.

    Raises:
        ConfigurationError: If the data are there, but not their classes.
    """
    expand_home(cfg)
    given = {key: cfg.pop(key, None) for key in KEYS}
    check_given(given, cfg.filename)
    root, weights = given['data_root'], given['pretrained']
    theirs: dict = {}
    if weights is None:
        cfg.model.backbone.init_cfg = None
    else:
        cfg.model.backbone.init_cfg.checkpoint = weights
        if os.path.isfile(weights):
            saved = saved_config(read_checkpoint(weights))
            theirs = saved if isinstance(saved.get('model'), dict) else {}
            take_architecture(cfg, theirs)
    if given['image_size'] is not None:
        resize(cfg, given['image_size'], RECIPE_SIZES[given['own_labels']])
    take_channels(cfg, theirs, given['channels'], given['mean'], given['std'])
    datasets = [cfg[name].dataset for name in DATALOADERS]
    for dataset in datasets:
        dataset.data_root = root
    train = datasets[0]
    if given['own_labels'] == 'coco':
        for part in ('val', 'test'):
            cfg[f'{part}_evaluator'].ann_file = os.path.join(
                root, cfg[f'{part}_dataloader'].dataset.ann_file)
        classes = given['classes'] or categories_of(os.path.join(root, train.ann_file))
    elif given['own_labels'] == 'masks':
        classes = given['classes']
        for dataset in datasets:
            dataset.reduce_zero_label = given['reduce_zero_label']
            for key, folder in (('img_suffix', 'img_path'),
                                ('seg_map_suffix', 'seg_map_path')):
                suffix = usual_suffix(os.path.join(root, dataset.data_prefix[folder]))
                if suffix:
                    dataset.setdefault(key, suffix)
        if not classes and os.path.isdir(root):
            raise ConfigurationError(
                f'{cfg.filename} has no classes, which masks do not name: set classes '
                '= (...), the name of label 0 first.')
    else:
        folders = os.path.join(root, train.data_prefix)
        classes = given['classes'] or folders_in(folders)
    if not classes:
        return
    if len(classes) == 1 and given['own_labels'] != 'coco':
        # A softmax over one class is always 1: nothing is learned.
        raise ConfigurationError(
            f'{cfg.filename} has the one class {classes[0]!r}, but must have at least '
            'two to tell apart; in masks the background is one of them.')
    for dataset in datasets:
        if given['own_labels'] == 'folders':
            check_class_folders(os.path.join(root, dataset.data_prefix), classes,
                                'classes' if given['classes'] else folders)
        dataset.metainfo = dict(classes=tuple(classes))
    for _, node in walk(dict(model=cfg.model, other=cfg.get('data_preprocessor'))):
        if isinstance(node, dict) and 'num_classes' in node:
            node['num_classes'] = len(classes)


def check_given(given: Mapping[str, Any], config: Optional[str]) -> None:
    """Refuse values of :data:`KEYS` of other types than the ones that are used."""
    if not isinstance(given['data_root'], str):
        raise ConfigurationError(
            f'data_root in {config} is {given["data_root"]!r}, but must be a path.')
    if not isinstance(given['pretrained'], (str, type(None))):
        raise ConfigurationError(
            f'pretrained in {config} is {given["pretrained"]!r}, but must be a path, '
            'or None to start from random weights.')
    if given['reduce_zero_label'] is not None:
        check_flag(f'reduce_zero_label in {config}', given['reduce_zero_label'])
    classes = given['classes']
    if isinstance(classes, str):  # would be one class per letter
        raise ConfigurationError(
            f'classes in {config} is the text {classes!r}, but must be a tuple of '
            f'names; one name is ({classes!r}, ), with a comma.')
    if classes is not None and not (
            isinstance(classes, (list, tuple))
            and all(isinstance(name, str) for name in classes)
            and len(set(classes)) == len(classes)):
        raise ConfigurationError(
            f'classes in {config} is {classes!r}, but must be a tuple of different '
            'names.')


def folders_in(path: str) -> Sequence[str]:
    """Classes of a data set in class folders, in the order of mmpretrain's labels."""
    if not os.path.isdir(path):
        return ()
    names = find_folders(path)[0]
    if not names:
        raise ConfigurationError(
            f'{path} has no folders, but must have one per class: '
            f'{os.path.join(path, "CLASS", "IMAGE")}.')
    return names


def check_class_folders(path: str, classes: Sequence[str], source: str) -> None:
    """Refuse class folders that are not the classes; mmpretrain counts them only."""
    folders = folders_in(path)
    differing = [f'{what}: {", ".join(sorted(names))}' for what, names in (
        ('missing', set(classes) - set(folders)),
        ('in it only', set(folders) - set(classes))) if names]
    if folders and differing:
        raise ConfigurationError(
            f'{path} does not have the folders of {source}: {"; ".join(differing)} (an '
            'empty folder keeps the place of a missing class).')
    if folders and list(folders) != list(classes):
        raise ConfigurationError(
            f'classes are in another order than the folders in {path}, which are the '
            f'labels: leave classes out, or write ({", ".join(map(repr, folders))}).')


def categories_of(path: str) -> Sequence[str]:
    """Classes of a COCO file, in the order of mmdet's labels."""
    if not os.path.isfile(path):
        return ()
    try:
        return [category['name'] for category in mmengine.load(path)['categories']]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f'{path} names no categories, which COCO\'s format demands '
            f'({type(error).__name__}: {error}).') from error


def usual_suffix(folder: str) -> str:
    """How most names of images in a folder end, '' if there are none."""
    if not os.path.isdir(folder):
        return ''
    images, _ = scan_folder(folder, (*EXTENSIONS, *CHANNEL_EXTENSIONS))
    suffixes = Counter(os.path.splitext(name)[1] for name in images).most_common(1)
    return suffixes[0][0] if suffixes else ''
