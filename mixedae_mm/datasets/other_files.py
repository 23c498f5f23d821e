"""Name and count the files that are left out of a folder of images."""
import os
from collections import defaultdict
from typing import Dict, List, Sequence

# Windows leaves these in every folder. They are ignored, as hidden files are.
SYSTEM_FILES = ('thumbs.db', 'desktop.ini')
MAX_KINDS, MAX_NAMES = 6, 3


def describe_files(paths: Sequence[str], extensions: Sequence[str] = (),
                   keep_case: bool = False) -> str:
    """Describe files by kind, the most frequent kinds first; '' if there are none.

    >>> describe_files(['a.txt', 'b/c.TXT', 'README'])
    '2 .txt (a.txt, b/c.TXT), 1 without an extension (README)'

    Args:
        paths (Sequence[str]): The files.
        extensions (Sequence[str]): Those of images. What has one of them and was
            left out nevertheless is not a file, but a broken link, for example.
        keep_case (bool): Tell ``.JPG`` from ``.jpg``.
    """
    kinds: Dict[str, List[str]] = defaultdict(list)
    for path in paths:
        extension = os.path.splitext(path)[1]
        kind = extension if keep_case else extension.lower()
        if kind in extensions:
            kind = 'broken links or special files'
        # A name may hold bytes that cannot be written to a log.
        kinds[kind or 'without an extension'].append(
            os.fsencode(path).decode(errors='replace'))
    ordered = sorted(kinds.items(), key=lambda item: -len(item[1]))
    parts = [
        f'{len(names)} {kind} ({", ".join(names[:MAX_NAMES])}'
        f'{", ..." if len(names) > MAX_NAMES else ""})'
        for kind, names in ordered[:MAX_KINDS]]
    rest = sum(len(names) for _, names in ordered[MAX_KINDS:])
    return ', '.join(parts + ([f'{rest} others'] if rest else []))
