"""Commands from any directory, with our components and configs known by name.

``python -m mixedae_mm train ...`` runs ``tools/train.py``, wherever it was installed;
``python -m mixedae_mm mmpretrain::visualization/browse_dataset ...`` a script of a
toolbox, which would not find ``mixedae_mm::...`` in a config by itself.
"""
import ast
import runpy
import sys
from importlib import util
from pathlib import Path
from typing import Dict, List, Optional

from mmengine.utils import get_installed_path

from .utils.config_names import mim_folder


def tools() -> Dict[str, Path]:
    """Name of a command -> its script."""
    scripts = {
        file.parent.name if file.stem == '__main__' else
        file.stem.removesuffix('_command'): file
        for file in sorted((mim_folder() / 'tools').rglob('*.py'))
        if "if __name__ == '__main__'" in file.read_text()}
    scripts.pop('setup_environment', None)
    return dict(sorted(scripts.items()))


def find_script(name: str) -> Optional[Path]:
    """The script of a command, ours or ``toolbox::folder/script``."""
    toolbox, is_theirs, script = name.partition('::')
    if not is_theirs:
        return tools().get(name)
    if util.find_spec(toolbox) is None:
        return None
    file = Path(get_installed_path(toolbox)) / '.mim/tools' / script
    file = file.with_name(file.name.removesuffix('.py') + '.py')
    return file if file.is_file() else None


def main(argv: List[str]) -> int:
    """Run a command as if its script had been; returns the exit status."""
    script = find_script(argv[0]) if argv else None
    if script is not None:
        sys.argv = [str(script), *argv[1:]]
        runpy.run_path(str(script), run_name='__main__')
        return 0
    asked = not argv or argv[0] in ('-h', '--help')
    stream = sys.stdout if asked else sys.stderr
    if not asked:
        print(f'error: there is no command {argv[0]}.', file=stream)
    print('usage: python -m mixedae_mm COMMAND ...\n', file=stream)
    for name, file in tools().items():
        first_line = (ast.get_docstring(ast.parse(file.read_text())) or '').partition(
            '\n')[0]
        print(f'  {name:<20}{first_line}', file=stream)
    print('\n  mmpretrain::PATH    a script in the tools folder of a toolbox',
          file=stream)
    return 0 if asked else 2


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
