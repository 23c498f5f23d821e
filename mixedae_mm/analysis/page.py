"""HTML pages that need no other file."""
import base64
import html
from pathlib import Path
from typing import List, Optional, Sequence, Union

from matplotlib.figure import Figure

from .figures import figure_to_png

STYLE = '''
:root { --ink: #1c2330; --soft: #5b6472; --line: #dfe3e8; --accent: #0b5cad; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f6f8; color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; margin: 0 0 4px; }
h2 { font-size: 20px; margin: 0 0 6px; }
p { margin: 6px 0 12px; max-width: 76ch; }
.lead, figcaption, small { color: var(--soft); }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: 20px 24px; margin-top: 20px; }
figure { margin: 14px 0 4px; }
figure img { max-width: 100%; height: auto; display: block; margin: 0 auto; }
figcaption { font-size: 14px; margin-top: 6px; text-align: center; }
.side-by-side { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fit, minmax(400px, 1fr)); }
.headline { display: grid; gap: 12px; margin-top: 20px;
  grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); }
.headline div { background: #fff; border: 1px solid var(--line);
  border-radius: 10px; padding: 14px 16px; }
.headline b { display: block; font-size: 24px; color: var(--accent);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.headline span { font-size: 14px; color: var(--soft); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: 15px; }
th, td { text-align: left; padding: 4px 18px 4px 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); }
td.number, th.number { text-align: right; padding: 4px 14px; }
pre { background: #f5f6f8; border-radius: 8px; padding: 12px; overflow: auto;
  font-size: 12.5px; max-height: 480px; }
summary { cursor: pointer; color: var(--accent); }
'''


def write_page(out: Union[str, Path], title: str, parts: Sequence[str]) -> None:
    """Write a page of HTML elements; its folder is made."""
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>{html.escape(title)}</title>'
        f'<style>{STYLE}</style></head><body><main>\n' + '\n'.join(parts) +
        '\n</main></body></html>\n', encoding='utf-8')


def section(title: str, text: str, *content: str) -> str:
    """A box with a heading, a paragraph and HTML elements."""
    paragraph = f'<p>{html.escape(text, quote=False)}</p>' if text else ''
    return (f'<section><h2>{html.escape(title)}</h2>{paragraph}'
            + '\n'.join(content) + '</section>')


def figure_element(figure: Figure, dpi: int = 130, caption: str = '') -> str:
    """A figure of matplotlib as a picture inside the page."""
    data = base64.b64encode(figure_to_png(figure, dpi)).decode()
    width = round(figure.get_figwidth() * 96)
    text = f'<figcaption>{html.escape(caption)}</figcaption>' if caption else ''
    return (f'<figure><img width="{width}" alt="{html.escape(caption)}" '
            f'src="data:image/png;base64,{data}">{text}</figure>')


def table_element(header: Optional[Sequence[str]],
                  rows: Sequence[Sequence[str]],
                  numbers: bool = True) -> str:
    """A table of texts.

    Args:
        header (Sequence[str], optional): Of the columns.
        rows (Sequence[Sequence[str]]): The first column are names.
        numbers (bool): Align the other columns to the right.
    """
    align = ' class="number"' if numbers else ''

    def line(tag: str, cells: Sequence[str]) -> str:
        first, *others = map(html.escape, cells)
        return (f'<tr><th>{first}</th>' + ''.join(
            f'<{tag}{align}>{cell}</{tag}>' for cell in others) + '</tr>')

    lines: List[str] = [] if header is None else [line('th', header)]
    lines += [line('td', row) for row in rows]
    return f'<table>{"".join(lines)}</table>'
