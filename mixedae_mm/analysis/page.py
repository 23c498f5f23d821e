"""Pages from templates: HTML that needs no other file, and Markdown."""
import base64
import datetime
from pathlib import Path
from typing import Any, Union

import jinja2
from matplotlib.figure import Figure

from .figures import figure_to_png

TEMPLATES = Path(__file__).with_name('templates')  # page.html and elements.html


def render(template: Path, **values: Any) -> str:
    """Fill in a template of jinja2, which may extend and import :data:`TEMPLATES`.

    Texts are escaped in ``*.html``. ``figure | png(dpi)`` is an image inside the
    page, ``today`` the date.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=template.suffix == '.html', undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters['png'] = _data_address
    today = f'{datetime.date.today():%d %B %Y}'
    return environment.get_template(template.name).render(today=today, **values)


def write_page(out: Union[str, Path], template: Path, **values: Any) -> None:
    """Write what :func:`render` makes; the folder is made."""
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(render(template, **values), encoding='utf-8')


def _data_address(figure: Figure, dpi: int = 130) -> str:
    """A figure as the ``src`` of an ``<img>``."""
    data = base64.b64encode(figure_to_png(figure, dpi)).decode()
    return f'data:image/png;base64,{data}'
