"""Measure each pre-trained encoder; the results are plain numbers."""
import json
import random
from functools import lru_cache
from pathlib import Path
from statistics import mean
from typing import Any, Callable, Dict, List, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from mixedae_mm.analysis.attention_probe import topk_sampling_accuracy
from mixedae_mm.analysis.frozen_classifiers import best_knn, best_probe
from mixedae_mm.analysis.frozen_features import (LabelledFeatures, extract_features,
                                                 labelled_splits)
from mixedae_mm.analysis.loading import (find_images, image_size_of, load_images,
                                         load_model)
from mixedae_mm.analysis.object_awareness import (CENTRE, attention_on_objects,
                                                  score_models)
from mixedae_mm.analysis.object_masks import masks_of, sample_masks
from mixedae_mm.analysis.probe_batch import mix_for_probing
from mixedae_mm.analysis.reconstruction import reconstruction_loss
from mixedae_mm.datasets import LoadImageTensor, TensorRandomResizedCrop
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.files import write_json
from mixedae_mm.utils.preprocessing import ImageSize
from mixedae_mm.utils.random import own_random_numbers
from mixedae_mm.utils.undisturbed import evaluating
from .fingerprints import fingerprint, path_fingerprint

# Measured again whenever this changes.
VERSION = 2
NUM_MEASURED = 400  # images for losses and TopK accuracy
NUM_HELD_OUT = 400  # images to choose a learning rate by
MASKS_PER_IMAGE = 4
CROPS_PER_IMAGE = 4
CROP_SCALE = (0.8, 1.0)  # of configs/reproduce/*_views.py
NUM_PROBED_READOUTS = 3
MOST_LABELLED = 1200  # of either split, to classify by or to be classified


class Images(NamedTuple):
    """Where the images to measure on are."""
    labelled: Dict[str, Path]  # name -> folder with train and val, as ImageNet's
    mixing: Path  # not trained on: for the losses and TopK accuracy
    annotations: Path  # masks in COCO's or VOC's format
    masked: Path  # the images of COCO's annotations

    def fingerprint(self) -> str:
        """Hash of the content of all these files."""
        return fingerprint([
            {name: path_fingerprint(path) for name, path in self.labelled.items()},
            *map(path_fingerprint, self[1:])])


def measured(record: Path, identity: Dict[str, Any],
             model_of: Callable[[], nn.Module], images: Images) -> Dict[str, Any]:
    """Measure a model, or read the record if it is of the same model and images.

    ``identity`` is everything that the model depends on, in JSON types; ``model_of``
    is called unless such a record exists.
    """
    key = dict(model=fingerprint(identity), images=images.fingerprint(),
               version=VERSION, num_images=NUM_MEASURED)
    if record.is_file():
        content = json.loads(record.read_text())
        if content['key'] == key:
            return content['values']
    values = measure(model_of(), images)
    record.parent.mkdir(parents=True, exist_ok=True)
    write_json(record, dict(key=key, values=values))
    return values


def check_own_images(folder: Path) -> None:
    """Read, before hours of training, what will be measured of a user's own images.

    Raises:
        ConfigurationError: If an image cannot be read, ``val`` has fewer than a mix
            takes, or its classes are not those of ``train``.
    """
    for dataset in labelled_splits(folder, size=64):
        part = _measured_part(dataset)
        for index in range(len(part)):
            part[index]
    paths = {path for number, seed in ((NUM_MEASURED, 0), (NUM_HELD_OUT, 1))
             for path in find_images(folder / 'val', number, seed)}
    if len(paths) < CROPS_PER_IMAGE:
        raise ConfigurationError(
            f'{folder / "val"} has {len(paths)} images, but must have at least '
            f'{CROPS_PER_IMAGE}, which are mixed to measure losses.')
    load = LoadImageTensor(min_side=1)
    for path in sorted(paths):
        load(dict(img_path=path))


@lru_cache(maxsize=None)
def held_out_loss(config: Path, checkpoint: Path, folder: Path) -> float:
    """Sum of the losses that a model is trained with, on the images of a folder."""
    model = load_model(config, checkpoint)
    paths = find_images(folder, NUM_HELD_OUT, seed=1)
    paths = paths[:len(paths) // 4 * 4]
    inputs = torch.stack([
        image for _, image in load_images(paths, image_size_of(model.backbone))])
    with evaluating(model), own_random_numbers(0):
        data = model.data_preprocessor(
            dict(inputs=inputs, data_samples=None), training=True)
        losses = model(**data, mode='loss')
    return float(sum(losses.values()))


def measure(model: nn.Module, images: Images) -> Dict[str, Any]:
    """Measure everything that does not train the encoder."""
    size = image_size_of(model.backbone)
    paths = find_images(images.mixing, NUM_MEASURED, seed=0)
    pixels = torch.stack([image for _, image in load_images(paths, size)])
    crops = _crops(paths[:len(paths) // CROPS_PER_IMAGE], size)
    recon, views = (mean(reconstruction_loss(model, batch, seed)
                         for seed in range(MASKS_PER_IMAGE))
                    for batch in (pixels, crops))
    scores = score_models(attention_on_objects(
        dict(model=model),
        sample_masks(masks_of(str(images.annotations), str(images.masked))), size))
    return dict(
        loss_recon=recon, loss_views=views, topk=_topk_accuracy(model, pixels),
        classified={name: _classify(model, folder, size)
                    for name, folder in images.labelled.items()},
        attention=scores['model']._asdict(), centre=scores[CENTRE]._asdict())


def _crops(paths: List[str], size: ImageSize) -> Tensor:
    """Similar crops, those of one image one after the other."""
    load, crop = LoadImageTensor(min_side=1), TensorRandomResizedCrop(size, CROP_SCALE)
    with own_random_numbers(0):
        return torch.stack([crop(load(dict(img_path=path)))['img']
                            for path in paths for _ in range(CROPS_PER_IMAGE)])


def _topk_accuracy(model: nn.Module, pixels: Tensor) -> List[float]:
    """TopK accuracy of each layer, in percent."""
    with evaluating(model):
        batch = mix_for_probing(model, pixels, seed=0)
        return (100 * topk_sampling_accuracy(
            model.backbone, batch.mixed, batch.mix_mask)).tolist()


def _classify(model: nn.Module, folder: Path, size: ImageSize) -> Dict[str, Any]:
    """k-NN and linear probe on frozen features."""
    train, test = (_features(model, dataset)
                   for dataset in labelled_splits(folder, size))
    knn = best_knn(train, test)
    ranked = sorted(knn.validation, key=knn.validation.get, reverse=True)
    # The probe takes a thousand times as long, so it tries fewer read-outs.
    probe = best_probe(
        train._replace(features={
            name: train.features[name] for name in ranked[:NUM_PROBED_READOUTS]
        }), test)
    return dict(
        knn=100 * knn.accuracy, knn_readout=knn.readout,
        probe=100 * probe.accuracy, probe_readout=probe.readout,
        num_test=len(test.labels), num_classes=int(train.labels.max()) + 1)


def _features(model: nn.Module, dataset: Dataset) -> LabelledFeatures:
    with evaluating(model):
        return extract_features(model, _measured_part(dataset))


def _measured_part(dataset: Dataset) -> Dataset:
    """At most :data:`MOST_LABELLED` of the images, at random."""
    if len(dataset) <= MOST_LABELLED:
        return dataset
    chosen = random.Random(0).sample(range(len(dataset)), MOST_LABELLED)
    return Subset(dataset, chosen)


def model_of_run(run) -> nn.Module:
    """The model of a finished :class:`.training_run.TrainingRun`."""
    return load_model(run.saved_config, run.checkpoint)
