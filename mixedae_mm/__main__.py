"""Commands from any directory, with our components and configs known by name.

``python -m mixedae_mm train ...`` runs ``tools/train.py``, wherever it was installed;
``python -m mixedae_mm mmpretrain::visualization/browse_dataset ...`` a script of a
toolbox, which would not find ``mixedae_mm::...`` in a config by itself.
"""
import ast
import runpy
import signal
import sys
from importlib import util
from pathlib import Path
from typing import List, Optional, TextIO

import mixedae_mm

from .utils.config_names import mim_folder
from .utils.errors import nearest

# What users run; tools/ also holds what the project proves itself with.
GROUPS = {
    'train, evaluate, predict': (
        'train', 'test', 'predict', 'browse_dataset', 'channel_statistics'),
    'use a checkpoint elsewhere': (
        'convert', 'export', 'extract_features', 'nearest_neighbours'),
    'look into a model or a run': (
        'visualize', 'knn_and_probe', 'sampling_accuracy', 'object_awareness',
        'plot_logs', 'report'),
    'try it without data, compare, reproduce': (
        'demo', 'demo_transfer', 'reproduce', 'transfer_eleven', 'benchmarks',
        'conversion_table'),
}
EXAMPLES = """
examples
  DATA_ROOT=photos python -m mixedae_mm train mixedae_mm::mixedae_vitb_folder.py
  python -m mixedae_mm train my_config.py --cfg-options train_dataloader.batch_size=64
  python -m mixedae_mm predict photos --checkpoint work_dirs/my_config/epoch_100.pth
  python -m mixedae_mm COMMAND --help

of another toolbox
  mmpretrain::PATH    a script in its tools folder, such as
                      mmpretrain::analysis_tools/analyze_logs"""
# Of tools/, with commands. Others have modules of the same names as commands.
FOLDERS = ('analysis_tools', 'converters', 'transfer')
# Names of earlier releases, for one release more.
RENAMED = {
    'frozen_accuracy': ['knn_and_probe'],
    'topk_accuracy': ['sampling_accuracy'],
    'visualize_attention': ['visualize', 'attention'],
    'visualize_mixing': ['visualize', 'mixing'],
}


def find_script(name: str) -> Optional[Path]:
    """The script of a command, ours or ``toolbox::folder/script``.

    Ours are NAME.py in ``tools/`` or in one of its ``FOLDERS``, or a folder NAME that
    runs.
    """
    toolbox, is_theirs, script = name.partition('::')
    if is_theirs:
        # A name with dots would be imported to look for it.
        found = util.find_spec(toolbox) if toolbox.isidentifier() else None
        if found is None or found.origin is None:
            return None
        file = Path(found.origin).parent / '.mim/tools' / script
        file = file.with_name(file.name.removesuffix('.py') + '.py')
        return file if file.is_file() else None
    if not any(name in names for names in GROUPS.values()):
        return None
    tools = mim_folder() / 'tools'
    places = [f'{name}.py', f'{name}/__main__.py',
              *(f'{folder}/{name}.py' for folder in FOLDERS)]
    return next((tools / place for place in places if (tools / place).is_file()), None)


def list_commands(stream: TextIO) -> None:
    """Print every command with the first line of its script, by group."""
    print('usage: python -m mixedae_mm COMMAND ...', file=stream)
    for group, names in GROUPS.items():
        print(f'\n{group}', file=stream)
        for name in names:
            script = find_script(name)
            if script is not None:
                text = ast.get_docstring(ast.parse(script.read_text())) or ''
                print(f'  {name:<20}{text.partition(chr(10))[0]}', file=stream)
    print(EXAMPLES, file=stream)


def main(argv: List[str]) -> int:
    """Run a command as if its script had been; returns the exit status."""
    if not argv or argv[0] in ('-h', '--help'):
        list_commands(sys.stdout)
        return 0
    name, *arguments = argv
    if name in RENAMED:
        new = RENAMED[name]
        print(f'{name} is called {" ".join(new)} now; the old name goes with the next '
              'release.', file=sys.stderr)
        name, *arguments = [*new, *arguments]
    script = find_script(name)
    if script is None:
        known = [name for names in GROUPS.values() for name in names]
        close = nearest(name, [*known, *RENAMED])
        hint = f': did you mean {close}?' if close else '.'
        print(f'error: there is no command {name}{hint}', file=sys.stderr)
        list_commands(sys.stderr)
        return 2
    sys.argv = [str(script), *arguments]
    try:
        mixedae_mm.register_components()
        runpy.run_path(str(script), run_name='__main__')
    except KeyboardInterrupt:  # while packages are imported
        return 128 + signal.SIGINT
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
