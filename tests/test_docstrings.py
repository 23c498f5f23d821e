"""Examples in docstrings run, and the configs in them name arguments that exist."""
import ast
import doctest
import importlib
import inspect
import pkgutil
import textwrap

import mmengine
import pytest
from mmpretrain.registry import DATASETS, HOOKS, MODELS, OPTIMIZERS, TRANSFORMS
from PIL import Image
from test_interop.foreign_checkpoints import mixedae_model, mm_checkpoint

import mixedae_mm

# Kernels need a GPU's compiler, and have no examples.
MODULES = [
    module.name for module in pkgutil.walk_packages(mixedae_mm.__path__, 'mixedae_mm.')
    if '.triton' not in module.name and not module.name.endswith('__main__')]
REGISTRIES = (MODELS, HOOKS, DATASETS, TRANSFORMS, OPTIMIZERS)


def docstrings():
    for name in MODULES:
        module = importlib.import_module(name)
        for part in [module, *vars(module).values()]:
            own = part is module or getattr(part, '__module__', '') == name
            text = inspect.getdoc(part)
            if own and text and (callable(part) or part is module):
                yield getattr(part, '__qualname__', name), text


def configs():
    """Indented blocks after ``::`` that are Python."""
    for owner, text in docstrings():
        for block in text.split('::\n')[1:]:
            lines = block.splitlines()
            code = []
            for line in lines:
                if line.strip() and not line.startswith(' '):
                    break
                code.append(line)
            code = textwrap.dedent('\n'.join(code))
            if 'dict(' in code:
                yield pytest.param(code, id=owner)


@pytest.fixture
def files_of_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'work_dirs/mixedae_vitb_300e'
    folder.mkdir(parents=True)
    mm_checkpoint(folder / 'epoch_300.pth', mixedae_model())
    Image.new('RGB', (64, 48), 'brown').save('photo.jpg')


def test_examples_give_what_they_say(files_of_examples):
    tried = 0
    for name in MODULES:
        module = importlib.import_module(name)
        if '>>> ' in inspect.getsource(module):
            result = doctest.testmod(
                module, extraglobs=dict(mixedae_mm=mixedae_mm, mmengine=mmengine))
            assert not result.failed, name
            tried += result.attempted
    assert tried >= 6


@pytest.mark.parametrize('code', list(configs()))
def test_configs_name_arguments_that_exist(code):
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or getattr(node.func, 'id', '') != 'dict':
            continue
        arguments = {word.arg: word.value for word in node.keywords if word.arg}
        kind = getattr(arguments.pop('type', None), 'value', None)
        if kind is None:
            continue
        part = next((found for found in map(lambda r: r.get(kind), REGISTRIES)
                     if found), None)
        assert part is not None, f'{kind} is not registered'
        part = getattr(part, 'func', part)  # torchvision's are wrapped
        if not inspect.isclass(part):
            continue
        known = set()
        for base in part.__mro__:
            known |= set(inspect.signature(base.__init__).parameters)
        assert arguments.keys() <= known, kind
