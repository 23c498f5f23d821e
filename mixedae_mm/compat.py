"""The two package stacks under one set of import names.

Two families of distributions install the same import names: the maintained
OneDL forks (the default here) and the classic OpenMMLab releases. Either works;
both at once break each other, because they write the same files. This is the
only module that knows about the two. Importing it imports neither.
"""

import functools
import re
import sys
import warnings
from importlib import metadata, util
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

# import name -> the distributions that provide it: the maintained one, the
# classic one, then other builds of the classic one.
PROVIDERS: Dict[str, Tuple[str, ...]] = {
    'mmengine': ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite', 'mmcv-full'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
}
# Pre-training needs these; mmseg and mmdet only their own configs.
REQUIRED = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain')
# mmpretrain's language models need names that later versions of transformers lack.
# The first version that is too new, by mmpretrain.
TOO_NEW_TRANSFORMERS = {'onedl-mmpretrain': (5, 0), 'mmpretrain': (4, 50)}


def check_dependencies() -> None:
    """Refuse to start on packages that cannot work together, in milliseconds.

    Raises:
        ImportError: If an import name is provided by two distributions, or one
            of :data:`REQUIRED` is missing or has lost its files. The message is
            one sentence that ends with the commands to run.
    """
    installed = {name: installed_providers(name) for name in PROVIDERS}
    doubled = {name: dists for name, dists in installed.items() if len(dists) > 1}
    if doubled:
        listing = '; '.join(f'{name} from {" and ".join(dists)}'
                            for name, dists in doubled.items())
        every = ' '.join(sum(doubled.values(), []))
        keep = ' '.join(_preferred(name, installed) for name in doubled)
        raise ImportError(
            'mixedae_mm found import names that are installed twice, so that each '
            f'has overwritten files of the other ({listing}): '
            f'run `pip uninstall -y {every} && pip install {keep}`.')

    missing = [name for name in REQUIRED if not is_available(name)]
    if missing:
        # A distribution without its files is what uninstalling one of two leaves.
        force = ('--force-reinstall --no-deps '
                 if all(installed.get(name) for name in missing) else '')
        needed = ' '.join(_preferred(name, installed) for name in missing)
        raise ImportError(
            f'mixedae_mm needs {", ".join(missing)}, which cannot be imported here: '
            f'run `pip install {force}{needed}`.')
    drop_misleading_warning()


def installed_providers(import_name: str) -> List[str]:
    """Names of the installed distributions that provide ``import_name``."""
    return [dist for dist in PROVIDERS[import_name] if _version(dist)]


def install_command(import_name: str) -> str:
    """The pip command that adds ``import_name`` from the stack in use."""
    installed = {name: installed_providers(name) for name in PROVIDERS}
    return f'pip install {_preferred(import_name, installed)}'


def is_available(import_name: str) -> bool:
    """Whether a package can be imported."""
    # A folder left behind without __init__.py is found, but has no origin.
    spec = util.find_spec(import_name)
    return spec is not None and spec.origin is not None


def has_compiled_mmcv() -> bool:
    """Whether mmcv's compiled operators are there; mmdet and mmseg need them."""
    return util.find_spec('mmcv._ext') is not None


def drop_misleading_warning() -> None:
    """Drop the one warning on import that misleads people who pre-train.

    mmcv without compiled operators advises to replace ``mmcv-lite``, which is
    not installed, for the sake of an operator that mmpretrain does not use.
    """
    warnings.filterwarnings(
        'ignore', message='Fail to import ``MultiScaleDeformableAttention``')


def leave_out_language_models() -> None:
    """Let mmpretrain be imported beside a transformers that is too new for it.

    mmpretrain imports its language models wherever transformers is installed, and fails
    with them. It decides that in one small module, which is loaded here before the rest
    and changed. Who asks for one of these models is told why.
    """
    name = 'mmpretrain.utils.dependency'
    transformers = _version('transformers')
    spec = util.find_spec('mmpretrain')
    if not transformers or not spec or not spec.origin or name in sys.modules:
        return
    mmpretrain = (installed_providers('mmpretrain') or ['mmpretrain'])[0]
    limit = TOO_NEW_TRANSFORMERS[mmpretrain]
    if tuple(map(int, re.findall(r'\d+', transformers)[:2])) < limit:
        return

    def refuse(model, /, *args, **kwargs):
        raise ImportError(
            f'{model} of {mmpretrain} does not work with transformers {transformers}: '
            f'run `pip install "transformers<{limit[0]}.{limit[1]}"`.')

    def register_placeholders(names, registry):
        for model in names:
            registry.register_module(name=model,
                                     module=functools.partial(refuse, model))

    path = Path(spec.origin).parent / 'utils/dependency.py'
    module_spec = util.spec_from_file_location(name, path)
    assert module_spec and module_spec.loader  # as for every .py file
    module: Any = util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    module.WITH_MULTIMODAL = False
    module.register_multimodal_placeholder = register_placeholders
    sys.modules[name] = module


def silence_onedl_notice() -> None:
    """Do not print "Could not import OneDL" on every command.

    The maintained mmpretrain and mmdet say so of a package that nobody here needs: as a
    debug message, but without a logger, and then mmengine prints messages of any level.
    """
    from mmengine import logging as mmengine_logging
    print_log = mmengine_logging.print_log

    @functools.wraps(print_log)
    def print_other_messages(msg, *args, **kwargs):
        if not str(msg).startswith('Could not import OneDL'):
            print_log(msg, *args, **kwargs)

    mmengine_logging.print_log = print_other_messages


def separate_subset_copies() -> None:
    """Let no ``BaseDataset.get_subset`` see what an earlier call has copied.

    mmengine 0.10 keeps one dictionary of copies, by the address of what was copied,
    until the process ends. Where an object lies at the address of one that is gone, its
    subset gets the copy of that one: another data set's transform, say, without a
    warning. OneDL's mmengine has fixed this.
    """
    from mmengine.dataset import BaseDataset
    copy_without_annotation = BaseDataset._copy_without_annotation
    if copy_without_annotation.__defaults__ == (None,):
        return

    @functools.wraps(copy_without_annotation)
    def with_own_memo(self, memo=None):
        return copy_without_annotation(self, {} if memo is None else memo)

    BaseDataset._copy_without_annotation = with_own_memo


def _preferred(import_name: str, installed: Dict[str, List[str]]) -> str:
    """The distribution to install: the one of the stack that is in use."""
    if import_name not in PROVIDERS:
        return import_name
    maintained, classic = PROVIDERS[import_name][:2]
    # Whether each that is installed is of the maintained stack.
    found = [dist == PROVIDERS[name][0]
             for name, dists in installed.items() for dist in dists]
    return classic if found and not any(found) else maintained


def _version(distribution: str) -> Optional[str]:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
