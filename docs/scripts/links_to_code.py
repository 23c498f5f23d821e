"""A hook of mkdocs: links from pages to code work in the built pages, too.

Pages link to `../mixedae_mm/mixing.py`, which works where the repository is
browsed. For mkdocs these files become part of the site, under `code/`. A link to
a file that does not exist stays as it is, and fails the strict build; one to a
folder becomes the folder's name.
"""
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r'\[([^\]]*)\]\(\.\./([^)#\s]+)(#[^)]*)?\)')


def on_files(files, config):
    """Add what is linked to."""
    pages = [file.content_string for file in files.documentation_pages()]
    targets = {match[2] for page in pages for match in LINK.finditer(page)}
    for target in sorted(targets):
        if (ROOT / target).is_file():
            files.append(File.generated(
                config, f'code/{target}.txt', abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Point links to what was added."""

    def replace(match):
        text, target = match[1], match[2]
        if (ROOT / target).is_file():
            return f'[{text}](code/{target}.txt)'
        return text if (ROOT / target).is_dir() else match[0]

    return LINK.sub(replace, markdown)
