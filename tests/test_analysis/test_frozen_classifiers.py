"""k-NN and linear probe on frozen features, and the features themselves."""
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dist import all_gather_object
from mmpretrain.structures import DataSample
from sklearn.neighbors import KNeighborsClassifier
from torch.utils.data import Dataset

from mixedae_mm.analysis import frozen_classifiers, frozen_features
from mixedae_mm.analysis.frozen_classifiers import (best_knn, best_probe,
                                                    knn_accuracy, knn_predict,
                                                    split, standardise)
from mixedae_mm.analysis.frozen_features import (LabelledFeatures,
                                                 default_readout,
                                                 extract_features,
                                                 token_readouts)
from mixedae_mm.utils.errors import ConfigurationError
from reliability.lives import in_processes
from small_models import mixedae, vit, whole


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31), num_bank=st.integers(1, 60),
    num_classes=st.integers(1, 7), temperature=st.floats(0.02, 5), data=st.data())
def test_knn_is_scikit_learns(seed, num_bank, num_classes, temperature, data):
    """Also in parts of the queries."""
    k = data.draw(st.integers(1, num_bank))
    generator = torch.Generator().manual_seed(seed)
    draw = dict(generator=generator, dtype=torch.float64)
    bank, queries = torch.randn(num_bank, 6, **draw), torch.randn(25, 6, **draw)
    labels = torch.randint(num_classes, (num_bank, ), generator=generator)
    reference = KNeighborsClassifier(
        k, metric='cosine', algorithm='brute',
        weights=lambda distance: np.exp((1 - distance) / temperature))
    reference.fit(bank.numpy(), labels.numpy())
    expected = reference.predict(queries.numpy()).tolist()
    for part in (1024, 8):
        with mock.patch.object(frozen_classifiers, 'QUERIES_AT_A_TIME', part):
            found = knn_predict(bank, labels, queries, k, temperature)
        assert found.tolist() == expected


def test_standardised_by_the_bank_alone():
    bank, queries = torch.randn(40, 3) * 5 + 2, torch.randn(10, 3) - 7
    a, b = standardise(bank, queries)
    torch.testing.assert_close(a.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(a.std(0), torch.ones(3))
    torch.testing.assert_close(b * bank.std(0) + bank.mean(0), queries)


def features_of(useful, useless, labels):
    return LabelledFeatures(
        {'layer_01/mean': useless, 'layer_02/mean': useful}, labels)


@pytest.mark.parametrize('classify', [best_knn, best_probe])
def test_validation_chooses_the_readout_that_tells_classes_apart(classify):
    labels = torch.arange(200) % 4
    centres = 3 * torch.randn(4, 5)
    train, test = (
        features_of(centres[labels] + torch.randn(200, 5), torch.randn(200, 5),
                    labels) for _ in range(2))
    result = classify(train, test)
    assert result.readout == 'layer_02/mean'
    assert result.accuracy > 0.8 > 0.5 > result.validation['layer_01/mean']


def test_choosing_does_not_look_at_test_images():
    labels = torch.arange(80) % 4
    train = features_of(torch.randn(80, 5), torch.randn(80, 5), labels)
    first, second = (
        best_knn(train, features_of(
            torch.randn(40, 5), torch.randn(40, 5), labels[:40]))
        for _ in range(2))
    assert first.validation == second.validation
    fit, held_out = split(train, seed=0)
    assert len(fit.labels) == 60 and len(held_out.labels) == 20
    rows = torch.cat([fit.features['layer_01/mean'],
                      held_out.features['layer_01/mean']])
    assert len(rows.unique(dim=0)) == 80  # each image once


@pytest.mark.parametrize('k, temperature', [(0, 1), (6, 1), (1, 0), (1, -2)])
def test_votes_that_cannot_be_are_refused(k, temperature):
    with pytest.raises(ConfigurationError):
        knn_predict(torch.randn(5, 2), torch.zeros(5).long(), torch.randn(1, 2),
                    k, temperature)


@pytest.mark.parametrize('classify, images, facts', [
    (best_knn, 20, r'k is 20, .* 1 to 15: of 20 training images 5 are held out'),
    (best_knn, 2, 'at least 3 images, but there are 2'),
    (best_probe, 2, 'at least 3 images, but there are 2')])
def test_too_few_images_to_choose_by_are_refused(classify, images, facts):
    labels = torch.arange(images) % 2
    data = features_of(torch.randn(images, 5), torch.randn(images, 5), labels)
    with pytest.raises(ConfigurationError, match=facts):
        classify(data, data)


@pytest.mark.parametrize('kind', ['VisionTransformer', 'MAEViT', 'MixedAEViT'])
def test_readouts_are_the_tokens(kind):
    backbone, images = vit(kind), torch.randn(2, 3, 16, 16)
    tokens = whole(backbone, images)[0]
    readouts = token_readouts(backbone, images)
    assert len(readouts) == 9
    torch.testing.assert_close(readouts['layer_03/cls'], tokens[:, 0])
    torch.testing.assert_close(readouts['layer_03/mean'], tokens[:, 1:].mean(1))
    torch.testing.assert_close(readouts['layer_03/max'], tokens[:, 1:].amax(1))
    assert default_readout(backbone) == 'layer_03/mean'
    assert not any(len(layer._forward_hooks) for layer in backbone.layers)


class LabelledNoise(Dataset):
    """Images of one colour each, labelled by their place."""

    def __len__(self):
        return 13

    def __getitem__(self, index):
        image = torch.full((3, 16, 16), 19 * index, dtype=torch.uint8)
        return dict(inputs=image, data_samples=DataSample().set_gt_label(index))


class Unlabelled(LabelledNoise):

    def __getitem__(self, index):
        return dict(super().__getitem__(index), data_samples=DataSample())


def test_features_are_in_the_order_of_the_data():
    model = mixedae()
    found = extract_features(model, LabelledNoise(), batch_size=5)
    assert found.labels.tolist() == list(range(13))
    for index in (0, 6, 12):
        image = LabelledNoise()[index]['inputs'][None]
        inputs = model.data_preprocessor(
            dict(inputs=image, data_samples=None))['inputs']
        for name, value in token_readouts(model.backbone, inputs).items():
            torch.testing.assert_close(
                found.features[name][index], value[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('dataset, readouts, message', [
    (Unlabelled(), None, 'must have one label'),
    (LabelledNoise(), ['layer_04/mean'], 'layers 1 to 3'),
    (LabelledNoise(), ['last'], 'is not a read-out'),
    (LabelledNoise(), ['layer_²/mean'], 'is not a read-out'),
    (LabelledNoise(), ['layer_02/median'], 'is not a read-out'),
])
def test_what_has_no_features_is_refused(dataset, readouts, message):
    with pytest.raises(ConfigurationError, match=message):
        extract_features(mixedae(), dataset, readouts)


def _features():
    torch.manual_seed(0)
    found = extract_features(mixedae(), LabelledNoise(), ['layer_03/mean'])
    return found.features['layer_03/mean'], found.labels


def _same_features_on_every_rank():
    found = _features()
    for others in all_gather_object(found):
        torch.testing.assert_close(others, found, rtol=0, atol=0)
    return found


@pytest.mark.slow
def test_two_processes_get_what_one_gets():
    torch.testing.assert_close(
        in_processes(_same_features_on_every_rank, 2), _features(),
        atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('dataset, elsewhere, message', [
    (Unlabelled(), None, 'must have one label'),
    (LabelledNoise(), 'OSError: no such disk', 'another process.*no such disk'),
])
def test_what_fails_in_one_process_fails_in_all(monkeypatch, dataset, elsewhere,
                                                message):
    """Nobody waits in a gather for a process that has stopped."""
    gathered = []

    def all_gather_object(share):
        gathered.append(share)
        return [share, elsewhere]

    monkeypatch.setattr(frozen_features, 'all_gather_object', all_gather_object)
    with pytest.raises(ConfigurationError, match=message):
        extract_features(mixedae(), dataset)
    assert len(gathered) == 1


def test_accuracy_counts():
    labels = torch.tensor([0, 0, 1, 1])
    points = torch.tensor([[1., 0], [1, .1], [0, 1], [.1, 1]])
    train = LabelledFeatures({'layer_01/mean': points}, labels)
    test = LabelledFeatures(
        {'layer_01/mean': points}, torch.tensor([0, 1, 1, 1]))
    assert knn_accuracy(train, test, 'layer_01/mean', k=2) == 0.75
