"""The eleven-point mAP, and data that does not fit."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from mixedae_mm.engine import DataCheckHook
from mixedae_mm.evaluation import ElevenPointMAP
from mixedae_mm.utils.errors import ConfigurationError


def eleven_points(scores, truth):
    """Word by word: at each recall the best precision at it or beyond."""
    order = np.argsort(-np.asarray(scores))
    truth = np.asarray(truth)[order]
    points = []
    for found in range(1, len(truth) + 1):
        hits = truth[:found].sum()
        points.append((hits / truth.sum(), hits / found))
    return np.mean([
        max((p for r, p in points if r >= t / 10 - 1e-12), default=0)
        for t in range(11)
    ])


@pytest.mark.parametrize('seed', range(5))
def test_eleven_points_by_definition(seed):
    random = np.random.RandomState(seed)
    scores = random.rand(40, 3)
    truth = (random.rand(40, 3) < .3).astype(int)
    expected = 100 * np.mean(
        [eleven_points(s, t) for s, t in zip(scores.T, truth.T)])
    got = ElevenPointMAP.calculate(torch.tensor(scores), torch.tensor(truth))
    assert got.item() == pytest.approx(expected)


def test_eleven_points_are_mmdets():
    mean_ap = pytest.importorskip('mmdet.evaluation.functional.mean_ap')
    random = np.random.RandomState(0)
    scores, truth = random.rand(50), random.rand(50) < .2
    hits = truth[np.argsort(-scores)].cumsum()
    expected = mean_ap.average_precision(
        hits / hits[-1], hits / np.arange(1, 51), mode='11points')
    got = ElevenPointMAP.calculate(
        torch.tensor(scores)[:, None], torch.tensor(truth).long()[:, None])
    assert got.item() == pytest.approx(100 * float(expected), abs=1e-4)


def test_difficult_images_do_not_count():
    """As an evaluator uses it: class 1 is only marked difficult in image 2."""
    metric = ElevenPointMAP(average=None)
    samples = []
    for scores, labels, difficult in [((.9, .1), [0], []),
                                      ((.1, .9), [0], [1]),
                                      ((.2, .8), [1], [])]:
        sample = DataSample().set_gt_label(labels).set_pred_score(
            torch.tensor(scores))
        sample.set_field(difficult, 'gt_label_difficult', field_type='metainfo')
        samples.append(sample.to_dict())
    metric.process(None, samples)
    result = metric.evaluate(3)
    first, second = result['11-point/AP_classwise']
    # Class 0: right, wrong, right. Class 1 without image 2: right, wrong.
    assert first == pytest.approx(100 * (6 * 1 + 5 * 2 / 3) / 11)
    assert second == pytest.approx(100)
    macro = ElevenPointMAP()
    macro.process(None, samples)
    assert macro.evaluate(3)['11-point/mAP'] == pytest.approx(
        (first + second) / 2)


class Dataset(list):
    """What the hook sees of a data set."""

    def __init__(self, classes=('a', 'b'), size=3, **files):
        super().__init__([files] * size)
        self.metainfo = dict(classes=classes) if classes else {}

    def get_data_info(self, index):
        return self[index]


def runner(train, val=None):
    head, rpn = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    head.num_classes, rpn.num_classes = 2, 1
    train_loop, val_loop = (
        data is not None and SimpleNamespace(dataloader=SimpleNamespace(dataset=data))
        for data in (train, val))
    return SimpleNamespace(
        cfg={}, model=torch.nn.ModuleDict(dict(decode_head=head, rpn_head=rpn)),
        train_loop=train_loop, val_loop=val_loop or None, test_loop=val_loop or None)


def test_data_that_fits_is_let_through(tmp_path):
    (tmp_path / 'a.jpg').touch()
    run = runner(Dataset(img_path=str(tmp_path / 'a.jpg')), Dataset())
    hook = DataCheckHook()
    hook.before_train(run)
    hook.before_val(run)
    hook.before_test(run)
    hook.before_train(runner(Dataset(classes=None)))


@pytest.mark.parametrize('dataset, message', [
    (Dataset(classes=('a', 'b', 'c')),
     r'The Dataset of train_dataloader has 3 classes, but the model predicts '
     r'2 \(decode_head.num_classes\)'),
    (Dataset(size=0), 'The Dataset of train_dataloader has no samples.*data_root'),
    (Dataset(img_path='/none/a.jpg'), 'names /none/a.jpg, which does not'),
    (Dataset(seg_map_path='/none/a.png'), 'names /none/a.png, which does not'),
])
def test_data_that_does_not_fit_is_refused(dataset, message):
    with pytest.raises(ConfigurationError, match=message):
        DataCheckHook().before_train(runner(dataset))
    with pytest.raises(
            ConfigurationError, match=message.replace('train_', 'val_')):
        DataCheckHook().before_train(runner(Dataset(), dataset))
