"""The commands of ``tools/`` from any directory: ``python -m mixedae_mm train ...``."""
import ast
import runpy
import sys
from pathlib import Path
from typing import Dict, List

from .config_names import mim_folder


def tools() -> Dict[str, Path]:
    """Name of a command -> its script."""
    return {file.stem: file for file in sorted((mim_folder() / 'tools').glob('*.py'))
            if file.stem != 'setup_environment'}


def main(argv: List[str]) -> int:
    """Run a command as if its script had been; returns the exit status."""
    known = tools()
    if argv and argv[0] in known:
        script = str(known[argv[0]])
        sys.argv = [script, *argv[1:]]
        runpy.run_path(script, run_name='__main__')
        return 0
    asked = not argv or argv[0] in ('-h', '--help')
    stream = sys.stdout if asked else sys.stderr
    if not asked:
        print(f'error: there is no command {argv[0]}.', file=stream)
    print('usage: python -m mixedae_mm COMMAND ...\n', file=stream)
    for name, file in known.items():
        first_line = (ast.get_docstring(ast.parse(file.read_text())) or '').partition(
            '\n')[0]
        print(f'  {name:<20}{first_line}', file=stream)
    return 0 if asked else 2


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
