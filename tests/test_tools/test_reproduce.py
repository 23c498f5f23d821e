"""The small controlled experiment, from its runs to its verdicts."""
import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev

import preloaded
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mixedae_mm.utils.errors import ConfigurationError
from reproduce import (claims, fingerprints, measuring, page, paper_scale, results,
                       verdicts)
from reproduce.__main__ import parse_arguments, run as reproduce
from reproduce.experiment import Experiment
from reproduce.presets import ALL, PRESETS, VARIANT_OF
from reproduce.training_run import TrainingRun, differing

ROOT = Path(__file__).resolve().parents[2]


def entry(*values):
    return dict(mean=mean(values), std=stdev(values) if values[1:] else None,
                values=list(values))


def summary(mae, mixing, metric='loss_recon', num_test=None):
    return dict(num_test={metric: num_test} if num_test else {}, variants={
        name: dict(metrics={metric: entry(*values)})
        for name, values in (('mae', mae), ('naive_mixing', mixing))})


EASIER = next(c for c in claims.CLAIMS if c.where == 'Eq. 5')
WORSE = next(c for c in claims.CLAIMS if c.better == 'mae')


@pytest.mark.parametrize('mae, mixing, verdict', [
    ([0.50, 0.52], [0.40, 0.42], verdicts.REPRODUCED),
    ([0.40, 0.42], [0.50, 0.52], verdicts.OPPOSITE),
    ([0.40, 0.50], [0.41, 0.47], verdicts.NO_DIFFERENCE),  # within the spread
    ([0.500], [0.480], verdicts.NO_DIFFERENCE),  # one seed: less than 5 %
    ([0.500], [0.470], verdicts.REPRODUCED),
])
def test_a_loss_has_to_differ_by_more_than_seeds_do(mae, mixing, verdict):
    assert verdicts.verdict(EASIER, verdicts.differences(
        EASIER, summary(mae, mixing))) == verdict


def test_noise_on_paper():
    """Losses of two seeds each; accuracies of one seed on 100 images."""
    found, = verdicts.differences(EASIER, summary([0.5, 0.56], [0.4, 0.48]))
    # Variances 0.0018 and 0.0032, pooled 0.0025; means of two have half of it.
    assert found.gain == pytest.approx(0.09)
    assert found.noise == pytest.approx(2 * (0.0025 / 2 + 0.0025 / 2)**0.5)
    found, = verdicts.differences(
        WORSE, summary([50.], [40.], 'objects_knn', num_test=100))
    # 50 * 50 / 100 and 40 * 60 / 100 are the squared errors.
    assert found.gain == 10
    assert found.noise == pytest.approx(2 * (25 + 24)**0.5)
    assert verdicts.verdict(WORSE, [found]) == verdicts.NO_DIFFERENCE


@pytest.mark.parametrize('gains, verdict, or_equal', [
    ((3, 3, 0), verdicts.REPRODUCED, verdicts.REPRODUCED),
    ((3, 0, 0), verdicts.PARTLY, verdicts.REPRODUCED),
    ((0, 0, 0), verdicts.NO_DIFFERENCE, verdicts.REPRODUCED),
    ((3, 3, -3), verdicts.MIXED, verdicts.MIXED),
    ((0, 0, -3), verdicts.OPPOSITE, verdicts.OPPOSITE),
    ((), claims.NOT_RUN, claims.NOT_RUN),
])
def test_several_numbers_make_one_verdict(gains, verdict, or_equal):
    found = [verdicts.Difference('objects_knn', {}, {}, gain, 1) for gain in gains]
    assert verdicts.verdict(WORSE, found) == verdict
    assert verdicts.verdict(WORSE._replace(or_equal=True), found) == or_equal
    if found:  # a question of our own is not "not reproduced"
        answer = verdicts.verdict(WORSE._replace(in_paper=False), found)
        assert answer == verdicts.ANSWERS[verdict] and 'reproduced' not in answer


def test_every_method_takes_the_rate_with_its_lowest_held_out_loss(monkeypatch):
    experiment = Experiment(PRESETS['smoke'], Path('unused'))
    losses = dict(zip(('mae_lr0.001', 'mae_lr0.002', 'both_lr0.001', 'both_lr0.002'),
                      (2., 1., 3., 4.)))
    mae, both = VARIANT_OF['mae'], VARIANT_OF['both']
    assert experiment.trial_losses(mae) == {}  # nothing has run
    monkeypatch.setattr(TrainingRun, 'is_finished', True)
    monkeypatch.setattr(
        measuring, 'held_out_loss',
        lambda config, checkpoint, _: losses[checkpoint.parent.name])
    for variant, rate in ((mae, 2e-3), (both, 1e-3)):
        assert experiment.learning_rate(variant) == rate
        run = experiment.pretraining(variant, 1)
        assert run.options['optim_wrapper.optimizer.lr'] == rate and run.steps == 12
        assert [trial.steps for trial in experiment.trials(variant).values()] == [4, 4]
    given = Experiment(PRESETS['smoke'], Path('unused'), learning_rate=5e-4)
    assert given.trials(mae) == {} and given.learning_rate(mae) == 5e-4


def test_the_documented_numbers_are_those_of_the_record(tmp_path):
    """What `tools/reproduce --results ... --claims ...` writes."""
    file, record = tmp_path / 'claims.md', ROOT / 'docs/claims_tiny.json'

    def write(record=record):
        reproduce(parse_arguments(['--results', str(record), '--claims', str(file)]))

    # What stands behind the marks stays, a mark included.
    written = (ROOT / 'docs/claims.md').read_text() + page.END + 'last'
    before, begin, after = written.partition(page.BEGIN)
    file.write_text(before + begin + '\nold\n' + page.END
                    + after.partition(page.END)[2])
    write()
    assert file.read_text() == written
    summary = json.loads(record.read_text())
    del summary['variants']['mae']['topk']
    for other, fact in (
            ('[]', ''), ('{"preset": "tiny"}', '.*variants'), ('none', ''),
            (json.dumps(summary), '.*topk'),
            (json.dumps(dict(summary, variants={})), '.*'),
            (json.dumps(dict(summary, variants={'mae': []})), '.*')):
        (tmp_path / 'other.json').write_text(other)
        with pytest.raises(ConfigurationError, match='other.json is not a '
                           f'results.json of this command{fact}'):
            write(tmp_path / 'other.json')
    file.write_text('no marks')
    with pytest.raises(ConfigurationError, match='claims.md has no lines'):
        write()


def test_every_variant_differs_only_in_what_it_tests():
    experiment = Experiment(PRESETS['smoke'], Path('unused'))
    runs = {variant.name: experiment.pretraining(variant, 0).setting()
            for variant in ALL}
    contrast, attention, mode = (
        'model.head.contrast_loss', 'model.backbone.homologous_attention',
        'model.data_preprocessor.mode')
    for name, keys in dict(
            attention_only={contrast}, contrastive_only={attention},
            segment_embedding={contrast, attention},
            naive_mixing={contrast, attention, 'model.backbone.segment_embedding'},
            full={mode, 'train_dataloader.batch_size'}, full_images={mode},
            topk_05={'model.backbone.k_ratio'}).items():
        assert set(differing(runs['both'], runs[name])) == keys, name
    assert differing(runs['mae'], runs['mae_views']) == differing(
        runs['naive_mixing'], runs['naive_mixing_views']) == [
            *(f'train_dataloader.dataset.pipeline.{key}' for key in (
                '1.scale.0', '1.scale.1', '2.meta_keys.0', '2.meta_keys.1', '2.p',
                '2.type', '3.meta_keys.0', '3.meta_keys.1', '3.type')),
            *(f'train_dataloader.sampler.{key}' for key in (
                'num_repeats', 'shuffle', 'type'))]
    # MAE: another model, all else the same.
    assert all(key.startswith('model.') for key in differing(runs['both'], runs['mae']))
    # With another encoder, what is fine-tuned fits it.
    run = Experiment(PRESETS['small'], Path('unused')).finetuning('mae', 0, None)
    assert run.setting()['model.head.in_channels'] == 192


@pytest.mark.parametrize('variant', ALL, ids=lambda variant: variant.name)
def test_every_variant_learns_with_another_encoder(variant):
    """What takes its tokens is changed with it: the model computes losses."""
    preset = PRESETS['smoke']._replace(encoder=dict(
        embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=32))
    config = Config.fromfile(ROOT / f'configs/reproduce/{variant.file}')
    config.merge_from_dict(preset.options(variant, 0, 1e-3, 4))
    init_default_scope('mmpretrain')
    model = MODELS.build(config.model)
    assert model.backbone.embed_dims == 32 and len(model.backbone.layers) == 3
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    data = model.data_preprocessor(
        dict(inputs=images, data_samples=[None] * 4), training=True)
    losses = model(**data, mode='loss')
    has_contrast = variant.name in (
        'both', 'full', 'full_images', 'contrastive_only', 'topk_0125', 'topk_05')
    assert ('loss_homocon' in losses) == has_contrast
    sum(losses.values()).backward()
    # A quarter of the patches is kept where the config does not say otherwise.
    if 'mae' not in variant.name:
        expected = {
            'both': 16, 'full': 16, 'full_images': 16, 'attention_only': 16,
            'topk_0125': 8, 'topk_05': 32}.get(variant.name)
        assert model.backbone.topk_of_layers(64)[0] is None
        assert model.backbone.topk_of_layers(64)[2] == expected


def test_what_is_asked_for_by_name_is_done():
    """Full mode on all images is left out of tiny, for its time."""
    def names(**options):
        experiment = Experiment(PRESETS['tiny'], Path('unused'), **options)
        return [f'{variant.name} {seed}' for variant, seed, _ in
                experiment.pretrainings()]

    assert 'full_images 0' not in names()
    assert {'both 0', 'both 1', 'topk_05 0'} < set(names())
    assert 'topk_05 1' not in names()
    assert names(variants=['full_images']) == ['full_images 0']


def test_measurements_are_of_these_images_and_weights(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(measuring, 'measure',
                        lambda *_: calls.append(1) or dict(loss=len(calls)))
    for name in ('labelled', 'mixing', 'masked'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'image.jpg').write_bytes(b'pixels')
    (tmp_path / 'masks.json').touch()
    images = measuring.Images(
        dict(own=tmp_path / 'labelled'), tmp_path / 'mixing',
        tmp_path / 'masks.json', tmp_path / 'masked')

    def measured(identity='weights'):
        fingerprints.path_fingerprint.cache_clear()  # as in another command
        return measuring.measured(tmp_path / 'record.json', dict(model=identity),
                                  lambda: None, images)['loss']

    assert [measured(), measured()] == [1, 1]
    for number, name in enumerate(('labelled', 'mixing', 'masked'), start=2):
        (tmp_path / name / 'image.jpg').write_bytes(b'slepix')  # as many bytes
        assert [measured(), measured()] == [number, number]
    assert [measured('others'), measured('others')] == [5, 5]


@pytest.mark.parametrize('options, kind, facts', [
    (['--preset', 'huge'], SystemExit, "'huge'.*tiny.*paper"),
    (['--variants', 'beit'], SystemExit, "'beit'.*naive_mixing"),
    (['--steps', '0'], SystemExit, 'at least 1'),
    (['--train-only', '--report-only'], SystemExit, 'not allowed with'),
    (['--claims', 'FILE'], ConfigurationError, 'has no lines'),
    (['--claims', 'FILE', '--train-only'], ConfigurationError, '--train-only, .*none'),
    (['--claims', 'FILE', '--preset', 'paper'], ConfigurationError, 'paper, .*none'),
    (['--images-per-second', '9'], ConfigurationError, 'goes with --preset paper'),
    (['--claims', 'nowhere/claims.md'], SystemExit, 'nowhere does not exist'),
    (['--learning-rate', '2'], ConfigurationError, 'rate is 2'),
    (['--learning-rate', '0'], ConfigurationError, 'rate is 0.0, .*0, 1'),
    (['--images', 'IMAGES'], ConfigurationError, 'No such file .*/train/')])
def test_what_cannot_be_done_is_refused(tmp_path, capsys, options, kind, facts):
    (tmp_path / 'claims.md').write_text(f'{page.END} {page.BEGIN}')  # no END below it
    places = dict(IMAGES=tmp_path, FILE=tmp_path / 'claims.md')
    options = [str(places.get(option, option)) for option in options]
    with pytest.raises(kind) as refused:
        reproduce(parse_arguments([*options, '--work-dir', str(tmp_path / 'work')]))
    assert re.search(facts, f'{capsys.readouterr().err} {refused.value}')


def test_seeds_are_a_column_where_there_are_several():
    variants = {name: dict(title=name, seeds=seeds, metrics=dict(loss_recon=entry(0.5)))
                for name, seeds in (('mae', [0]), ('both', [0, 1]))}
    few = dict(variants=dict(mae=variants['mae']), centre={})
    header, rows = results.metric_table(few, ['loss_recon'])
    assert header == ['pre-training', 'reconstruction loss']
    assert rows == [['mae', '0.5000']]
    header, rows = results.metric_table(few, ['loss_recon'], seeds=True)
    assert header[1] == 'seeds' and rows == [['mae', '1', '0.5000']]
    several = dict(few, variants=variants)
    assert results.metric_table(several, ['loss_recon'])[1] == [
        ['mae', '1', '0.5000'], ['both', '2', '0.5000']]
    assert results.metric_table(several, ['loss_recon'], dict(mae='r = 0.25'))[1] == [
        ['r = 0.25', '0.5000']]


@pytest.mark.parametrize('use', [
    lambda folder: Experiment(
        PRESETS['smoke'], folder / 'work', images=folder).check_images(),
    lambda folder: measuring._classify(None, folder, 16)], ids=['before', 'after'])
def test_a_class_that_val_lacks_is_refused(tmp_path, use):
    """Labels would be shifted by one."""
    for name in ('train/a', 'train/b', 'val/b'):
        (tmp_path / name).mkdir(parents=True)
        Image.new('RGB', (8, 8)).save(tmp_path / name / '0.png')
    with pytest.raises(ConfigurationError, match="'a' in train .*: a;"):
        use(tmp_path)


@pytest.mark.parametrize('broken, facts', [
    ('train/a/0.png', 'a/0.png'), ('val/a/3.png', 'a/3.png'),
    (None, 'val has 3 images, .* at least 4')])
def test_images_that_cannot_be_measured_are_refused_before_training(
        tmp_path, broken, facts):
    for split, number in (('train', 2), ('val', 4 if broken else 3)):
        (tmp_path / split / 'a').mkdir(parents=True)
        for i in range(number):
            Image.new('RGB', (8, 8)).save(tmp_path / split / f'a/{i}.png')
    if broken:
        (tmp_path / broken).write_bytes(b'not an image')
    with pytest.raises(ConfigurationError, match=facts):
        Experiment(PRESETS['smoke'], tmp_path / 'work', images=tmp_path).check_images()


def test_costs_at_paper_scale():
    lines = paper_scale.commands()
    assert 'configs/mixedae_full_vitb_300e.py 8    # MixedAE, full mode: 62.3' in lines
    # 300 epochs of 1281167 images at 1000 a second.
    assert '4.4 GPU-days' in paper_scale.commands(1000)
    for word in lines.split():
        if word.startswith('configs/'):
            assert (ROOT / word).is_file(), word


def tool(name, *options, status=0):
    return preloaded.output_of(ROOT / 'tools' / name, *options, status=status)


@pytest.mark.slow
def test_killed_continued_and_guarded(tmp_path):
    options = ['--preset', 'smoke', '--work-dir', tmp_path / 'work', '--variants',
               'mae', '--no-finetune', '--steps', '60', '--workers', '1']
    process = subprocess.Popen(
        [sys.executable, ROOT / 'tools/reproduce', *map(str, options)],
        stdout=subprocess.PIPE, text=True)
    run = tmp_path / 'work/runs/mae_seed0'
    deadline = time.time() + 300
    while not list(run.glob('iter_*.pth')) and time.time() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 75 and 'goes on from there' in output
    assert not (run / 'iter_60.pth').exists()

    page = tmp_path / 'claims.md'
    output = tool('reproduce', *options, '--claims', page)
    assert 'resumed epoch' in (run / 'train.log').read_text()
    assert 'finished mae seed 0' in output and 'Open the report' in output
    results = json.loads((tmp_path / 'work/results.json').read_text())
    with open(tmp_path / 'work/results.csv') as file:
        rows = list(csv.DictReader(file))
    assert [row['variant'] for row in rows] == list(results['variants']) == [
        'mae', 'random']
    assert float(rows[0]['loss_recon']) == pytest.approx(
        results['variants']['mae']['metrics']['loss_recon']['mean'])
    report = (tmp_path / 'work/report.html').read_text()
    assert report.count('<img') >= 4 and 'src="http' not in report
    assert len(re.findall(r'<img [^>]*alt="[^"]{20}', report)) == report.count('<img')
    assert '| MAE | 1 |' in page.read_text()

    # The instruments on the checkpoint of mmpretrain's MAE.
    model = [run / 'mae.py', run / 'iter_60.pth']
    data = tmp_path / 'work/data'
    output = tool('analysis_tools/knn_and_probe.py', *model, data / 'photographs',
                  '--num-workers', '0', '--json', tmp_path / 'frozen.json')
    assert 'k-NN' in output and 'linear probe' in output
    frozen = json.loads((tmp_path / 'frozen.json').read_text())['mae']
    assert frozen['k-NN']['accuracy'] * 100 == pytest.approx(
        results['variants']['mae']['metrics']['photographs_knn']['mean'])
    output = tool(
        'analysis_tools/object_awareness.py', *model,
        data / 'scenes/coco/annotations/instances_val2017.json',
        '--images', data / 'scenes/coco/val2017', '--out', tmp_path / 'objects.png')
    precision = results['variants']['mae']['metrics']['object_ap']['mean']
    assert f'{precision:.1f}' in output and 'centre of the image' in output
    assert (tmp_path / 'objects.png').stat().st_size > 10000

    options[options.index('60')] = '61'
    assert 'train_cfg.max_iters was 60, is 61' in tool(
        'reproduce', *options, status=2)
