"""Every code block of README, CONTRIBUTING and docs/ is run, or at least checked.

Commands run in a folder with some photographs and small checkpoints. RUN lists the
commands that are run, and what makes them short. All others are checked: the command,
its options and the configs that it names exist.
"""
import ast
import json
import re
import shlex
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import List, NamedTuple

import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from mmengine.config import Config
from packaging.requirements import Requirement
from PIL import Image
from preloaded import output_of
from test_interop.foreign_checkpoints import classifier_model, mm_checkpoint

import mixedae_mm
from demo.labelled_objects import make_scene_folder
from mixedae_mm.__main__ import find_script
from mixedae_mm.compat import installed_providers
from mixedae_mm.interop.convert import convert
from transfer.fine_tunings import CLASSES

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted(ROOT.glob('docs/*.md'))]
BLOCK = re.compile(r'^```(bash|python)\n(.*?)^```$', re.MULTILINE | re.DOTALL)

# ViT-Ti, one epoch of three steps, for a ViT-B and days.
SMALL = ('--cfg-options model.backbone.arch=deit-tiny model.neck.decoder_depth=1 '
         'model.neck.decoder_embed_dim=32 model.neck.decoder_num_heads=2 '
         'train_dataloader.batch_size=4 train_dataloader.num_workers=0 '
         'train_cfg.max_epochs=1 ').split()
TINY_MODEL = SMALL[:5]
FEW_STEPS = ('--cfg-options train_cfg.max_iters=2 train_dataloader.batch_size=4 '
             'train_dataloader.num_workers=0').split()
NO_WORKERS = ['--cfg-options', 'train_dataloader.num_workers=0']
# What is run: beginning of the command -> what is added to make it short.
RUN = {
    'python tools/train.py configs/mixedae_vitb_folder.py': SMALL,
    'python tools/train.py configs/mixedae_vitb_300e.py --cfg-options load': SMALL[1:],
    'python tools/converters/convert.py mae_pretrain': ['--decoder-heads', '2'],
    'python tools/converters/convert.py': [],
    'python tools/analysis_tools/extract_features.py': ['--workers', '0'],
    'python tools/analysis_tools/nearest_neighbours.py': [],
    'python tools/converters/export.py': [],
    'python -m mixedae_mm train mine.py': TINY_MODEL,
    'python -m mixedae_mm train blockwise_demo.py': FEW_STEPS,
    'python -m mixedae_mm train timm_demo.py': FEW_STEPS,
    'python -m mixedae_mm channel_statistics': [],
    'python -m mixedae_mm train small_bands.py': NO_WORKERS,
    'python -m mixedae_mm report work_dirs/small_bands': [],
    'python -m mixedae_mm knn_and_probe small_bands.py': ['--num-workers', '0'],
    'python -m mixedae_mm extract_features scenes': ['--workers', '0'],
    'python -m mixedae_mm train classify_bands.py': [
        *NO_WORKERS, 'val_dataloader.num_workers=0'],
    'python -m mixedae_mm predict fields/val': [],
    'python -m mixedae_mm convert work_dirs/small_bands': [],
    'python -m mixedae_mm browse_dataset': [],
    'python -m mixedae_mm plot_logs': [],
    'python -m mixedae_mm mmpretrain::analysis_tools/analyze_logs': [],
    'python -m mixedae_mm mmseg::analysis_tools/browse_dataset': [],
    'python -m mixedae_mm mmdet::analysis_tools/browse_dataset': [],
}
if 'mmsegmentation' in installed_providers('mmseg'):  # the classic stack
    del RUN['python tools/converters/export.py']  # needs PyTorch 2.5
    # mmseg 1.2.2 draws labels in a way that its OpenCV, 4.11, refuses.
    del RUN['python -m mixedae_mm mmseg::analysis_tools/browse_dataset']
PHOTOGRAPHS = ('astronaut', 'coffee', 'chelsea', 'rocket')
# Programs that are looked for, but not started from here.
OTHER_PROGRAMS = {'tensorboard', 'mim', 'export'}
PLACEHOLDERS = {'/path/to/imagenet': 'data/imagenet', '/path/to/images': 'photos'}


class Block(NamedTuple):
    language: str
    text: str
    before: str  # the line above it


def blocks_of(page: Path) -> List[Block]:
    text = page.read_text()
    return [Block(match[1], match[2], text[:match.start()].rstrip().rpartition('\n')[2])
            for match in BLOCK.finditer(text)]


@pytest.fixture(scope='module')
def materials(tmp_path_factory):
    """Photographs, and checkpoints of a real (very short) training."""
    folder = tmp_path_factory.mktemp('materials')
    (folder / 'photos').mkdir()
    photos = [getattr(skimage.data, name)() for name in PHOTOGRAPHS]
    for i in range(12):
        image = Image.fromarray(photos[i % 4])
        image.crop((30 * i, 0, 30 * i + 200, 200)).save(folder / f'photos/{i}.jpg')
    output_of(ROOT / 'tools/train.py', ROOT / 'configs/mixedae_vitb_folder.py',
              '--work-dir', folder / 'run', *SMALL, cwd=folder, DATA_ROOT='photos')
    checkpoint = folder / 'epoch_300.pth'
    # Without the optimizer, as small as published ones.
    content = torch.load(folder / 'run/epoch_1.pth', weights_only=False)
    torch.save(dict(meta=content['meta'], state_dict=content['state_dict']), checkpoint)
    convert(str(checkpoint), str(folder / 'mae_pretrain_vit_base_full.pth'), 'mae')
    mm_checkpoint(folder / 'best.pth', classifier_model('mean'))
    make_bands(folder / 'bands')
    make_scene_folder(str(folder / 'scenes/scenes'), 3, 1, classes=CLASSES)
    return folder


def make_bands(folder: Path) -> None:
    """TIFFs of 13 bands of 12 bits: 160 scenes, and fields of four classes."""
    generator = np.random.default_rng(0)
    bands = generator.dirichlet(np.ones(3), 13)  # each a mix of red, green and blue
    photos = [getattr(skimage.data, name)() for name in PHOTOGRAPHS]
    for part, number in (('scenes', 160), ('fields/train', 40), ('fields/val', 20)):
        for i in range(number):
            photo = photos[i % 4]
            top, left = generator.integers(0, np.array(photo.shape[:2]) - 96)
            crop = 16.0 * photo[top:top + 96, left:left + 96] @ bands.T
            crop += generator.normal(0, 40, crop.shape)
            kind = '' if part == 'scenes' else f'class_{i % 4}'
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(
                folder / part / kind / f'{i}.tif',
                crop.clip(0, 4095).astype(np.uint16).transpose(2, 0, 1),
                photometric='minisblack')


@pytest.fixture
def sandbox(materials, tmp_path, monkeypatch):
    """The working directory has the files which the pages' commands name."""
    monkeypatch.chdir(tmp_path)
    for name in ('configs', 'tools', 'docs'):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ('epoch_300.pth', 'best.pth', 'mae_pretrain_vit_base_full.pth'):
        (tmp_path / name).symlink_to(materials / name)
    for name in ('scenes', 'fields'):
        (tmp_path / name).symlink_to(materials / 'bands' / name)
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'data/imagenet/train').mkdir(parents=True)
    (tmp_path / 'work_dirs/demo_transfer').mkdir(parents=True)
    (tmp_path / 'work_dirs/demo_transfer/data').symlink_to(materials / 'scenes')
    photos = sorted((materials / 'photos').iterdir())
    for photo in photos:
        (tmp_path / 'photos' / photo.name).symlink_to(photo)
    (tmp_path / 'data/imagenet/train/class').symlink_to(materials / 'photos')
    for name in ('photo.jpg', 'a.jpg', 'b.jpg', 'photos/cat.jpg'):
        (tmp_path / name).symlink_to(photos[0])
    (tmp_path / 'work_dirs/mixedae_vitb_300e').mkdir(parents=True)
    (tmp_path / 'work_dirs/mixedae_vitb_300e/epoch_300.pth').symlink_to(
        materials / 'epoch_300.pth')
    return tmp_path


# ------------------------------------------------------------------- checking


def script_of(words: List[str]) -> tuple:
    """Script and arguments of a command that starts Python."""
    if words[1] == '-m':
        assert words[2] == 'mixedae_mm', words
        if len(words) == 3:
            return 'mixedae_mm', []
        script = find_script(words[3])
        assert script is not None, f'there is no command {words[3]}'
        return str(script), words[4:]
    return str(ROOT / words[1]), words[2:]


@lru_cache(maxsize=None)
def help_of(script: str) -> str:
    return output_of(script, '--help', cwd=ROOT)


def check_arguments(script: str, arguments: List[str]) -> None:
    """Check that options are in the help, and that configs exist."""
    for word in arguments:
        option = word.partition('=')[0]
        if option.startswith('--'):
            assert option in help_of(script), f'{script} has no option {option}'
        elif word.startswith(('configs/', 'mixedae_mm::')):
            name = word.removeprefix('configs/')
            assert Path(mixedae_mm.config_path(name)).is_file()


def check_other(words: List[str]) -> None:
    """Check a command that does not start Python."""
    program = words[0].rpartition('/')[2]
    if program == 'make':
        assert subprocess.run(['make', '-n', *words[1:], 'PYTHON=python3'], cwd=ROOT,
                              capture_output=True).returncode == 0, words
    elif words[0].startswith('tools/'):
        assert (ROOT / words[0]).is_file()
        command = 'test' if 'test' in program else 'train'
        config = next(i for i, word in enumerate(words) if word.endswith('.py'))
        count = 1 if program.startswith('dist') else 0
        check_arguments(str(ROOT / f'tools/{command}.py'),
                        [words[config], *words[config + 1 + count:]])
    elif program == 'mim' and words[1] in ('train', 'run'):
        script = 'train' if words[1] == 'train' else words[3]
        check_arguments(str(find_script(script)), words[3:])
    elif program == 'pip':
        extras = {extra for word in words[2:] if '[' in word
                  for extra in Requirement(word.replace('.', 'mixedae-mm')).extras}
        assert extras <= {'interop', 'demo', 'test', 'docs', 'onedl', 'openmmlab'}
    else:
        assert program in OTHER_PROGRAMS, words


def do_bash(text: str, sandbox: Path) -> None:
    """Run or check the commands of a block."""
    assert subprocess.run(['bash', '-n'], input=text, text=True).returncode == 0
    text = re.sub(  # each turn of a loop over files is a command
        r'for (\w+) in (\S+); do (.*); done', lambda loop: '\n'.join(
            loop[3].replace(f'"${loop[1]}"', str(file.relative_to(ROOT)))
            for file in sorted(ROOT.glob(loop[2])) or [ROOT / loop[2]]), text)
    for line in text.replace('\\\n', ' ').splitlines():
        for placeholder, path in PLACEHOLDERS.items():
            line = line.replace(placeholder, path)
        words = shlex.split(line, comments=True)
        variables = {}
        while words and re.match(r'[A-Z_]+=', words[0]):
            name, _, value = words.pop(0).partition('=')
            variables[name] = value
        if not words:
            continue
        how = next((added for start, added in RUN.items()
                    if ' '.join(words).startswith(start)), None)
        if words[0] == 'python' or words[0] == '.venv/bin/python':
            if words[1:3] == ['-m', 'pytest']:
                assert all((ROOT / word).exists() for word in words if '/test' in word)
                continue
            script, arguments = script_of(words)
            if how is None:
                if script != 'mixedae_mm':
                    check_arguments(script, arguments)
            else:
                arguments = [found for word in arguments for found in (
                    sorted(map(str, sandbox.glob(word))) if '*' in word else [word])]
                output_of(script, *arguments, *how, cwd=sandbox, **variables)
        else:
            check_other(words)


def do_python(block: Block, sandbox: Path) -> None:
    """Write files, load configs, run everything else."""
    tree = ast.parse(block.text)
    file = re.match(r'# (\w+\.py)\n', block.text)
    path = sandbox / (file[1] if file else 'block.py')
    path.write_text(block.text)
    assigned = {target.id for node in tree.body if isinstance(node, ast.Assign)
                for target in node.targets if isinstance(target, ast.Name)}
    if 'snippet:' in block.before:  # loaded by tests/test_transfer, in place
        return
    if assigned & {'_base_', 'custom_imports'}:
        if not file or path.stem not in ('blockwise_demo', 'timm_demo'):
            Config.fromfile(path)  # others are trained with
    elif not file:
        output_of(path, cwd=sandbox)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_code_of(page, sandbox):
    for block in blocks_of(page):
        if block.language == 'bash':
            do_bash(block.text, sandbox)
        else:
            do_python(block, sandbox)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_links_of(page):
    """Files, and what `mkdocs build` does not look at: names in code, other pages."""
    link = re.compile(r'(?:\[`(?:\w+\.)?(\w+)`)?\]'
                      r'\((?!https?:)([^)#\s]+)(?:#([^)\s]+))?\)')
    for name, target, heading in link.findall(page.read_text()):
        file = page.parent / target
        assert file.exists(), target
        if file.suffix == '.py' and name not in ('', 'py'):
            assert re.search(rf'(def|class) {name}\b', file.read_text()), target
        if heading:
            words = heading.replace('-', '.*')
            assert re.search(f'(?i)\n#+ .*{words}', file.read_text()), target


def test_notebook(sandbox):
    cells = json.loads((ROOT / 'docs/tour.ipynb').read_text())['cells']
    code = '\n'.join(''.join(cell['source']) for cell in cells
                     if cell['cell_type'] == 'code')
    (sandbox / 'tour.py').write_text(code)
    output = output_of('tour.py', cwd=sandbox, TOUR_STEPS=2)
    assert 'patches of each image: [16, 16, 16, 16]' in output
