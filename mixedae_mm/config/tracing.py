"""What an exception of a library tells: where it was raised, and with which values."""
import re
import sysconfig
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any, List, Optional, Tuple

# Packages whose errors are explained here, wherever they are installed.
LIBRARIES = ('mixedae_mm', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet', 'torch')
LONGEST = 300  # characters of a library's message; some print whole configs


def chain_of(error: BaseException) -> List[BaseException]:
    """An error, and those that it was raised from or during."""
    chain: List[BaseException] = []
    following: Optional[BaseException] = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    return chain


def lines_of(error: BaseException) -> List[Tuple[FrameType, int]]:
    """Frames from the outermost to where the error began, each with its line."""
    return [line for one in chain_of(error) for line in walk_tb(one.__traceback__)]


def frames_of(error: BaseException) -> List[FrameType]:
    """Frames from the outermost to where the error began."""
    return [frame for frame, _ in lines_of(error)]


def users_line(error: BaseException) -> str:
    """``line N of FILE``, the last line of a user's own module, '' if there is none.

    Not that of a config, and not of what is installed.
    """
    for frame, number in reversed(lines_of(error)):
        file = frame.f_code.co_filename
        package = frame.f_globals.get('__name__', '').partition('.')[0]
        if (package and package not in LIBRARIES and not file.startswith('<')
                and not {'site-packages', 'dist-packages'} & set(Path(file).parts)
                and not file.startswith(sysconfig.get_path('stdlib'))):
            return f'line {number} of {file}'
    return ''


def message_of(error: BaseException) -> str:
    """The message of an error in one line, without the configs that some print."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return re.sub(r',? but got \w+=.*', '', short(str(text)))


def short(value: Any) -> str:
    """Format a value in one line of at most :data:`LONGEST` characters."""
    text = ' '.join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= LONGEST else f'{text[:LONGEST]}...'


def equal(one: Any, other: Any) -> bool:
    """Whether two values of a config are equal; False for arrays and tensors."""
    try:
        return bool(one == other)
    except Exception:  # arrays and tensors have no single answer
        return False
