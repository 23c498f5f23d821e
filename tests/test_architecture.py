"""Imports run one way, as docs/images/architecture.png shows."""
import ast
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mixedae_mm'
LAYERS = runpy.run_path(str(ROOT / 'docs/scripts/draw_architecture.py'))['LAYERS']
# Room -> its layer from above; what stands outside of them may import anything.
LAYER = {name.strip('/').removesuffix('.py'): row
         for row, layer in enumerate(LAYERS) for name, _ in layer}


def imports():
    """Yield (file, its room, a room that it imports), also inside of functions."""
    for file in PACKAGE.rglob('*.py'):
        folders = file.relative_to(PACKAGE).parent.parts
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                module = [*folders[:len(folders) + 1 - node.level],
                          *(node.module.split('.') if node.module else [])]
                for name in [module[0]] if module else [a.name for a in node.names]:
                    yield file, (folders or (file.stem, ))[0], name


def test_no_import_runs_back():
    found = [(file, room, name) for file, room, name in imports()
             if room in LAYER and name in LAYER and room != name]
    assert len(found) > 100
    assert not [edge for edge in found if LAYER[edge[1]] > LAYER[edge[2]]]


def test_every_room_is_drawn():
    rooms = {file.parent.name for file in PACKAGE.glob('*/__init__.py')}
    assert rooms <= LAYER.keys()
