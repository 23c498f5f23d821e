"""Why a config file cannot be read, in one sentence."""
from pathlib import Path

from ..utils.errors import nearest
from .tracing import chain_of, frames_of, lines_of, message_of


def why_unreadable(error: Exception, path: Path) -> str:
    """One sentence about a config file that cannot be read."""
    frames = frames_of(error)
    opened = [frame.f_locals.get('filename') for frame in frames
              if frame.f_code.co_name in ('_file2dict', '_parse_lazy_import')]
    files = [str(path), *(file for file in opened if isinstance(file, str))]
    file = files[-1]
    for cause in reversed(chain_of(error)):
        if isinstance(cause, SyntaxError) and cause.lineno:
            lines = Path(file).read_text(errors='replace').splitlines()
            text = ''.join(lines[cause.lineno - 1:cause.lineno]).strip()
            return f'line {cause.lineno} of {file} is not Python: {cause.msg}: {text}'
    if isinstance(error, FileNotFoundError) and not Path(file).exists():
        near = nearest(Path(file).name,
                       [other.name for other in Path(file).parent.glob('*.*')])
        inherits = next((other for other in reversed(files) if Path(other).exists()),
                        path)
        return (f'_base_ of {inherits} names {file}, which does not exist'
                + (f': did you mean {near}?' if near else '.'))
    variable = next((frame.f_locals for frame in frames
                     if frame.f_code.co_name == '_substitute_env_variables'), None)
    if variable is not None and isinstance(error, KeyError):
        return (f'the environment variable {variable.get("var_name")} is empty, but '
                f'{file} needs it.')
    if isinstance(error, ImportError) and isinstance(error.__cause__, ImportError):
        return (f'custom_imports of {file} cannot be imported: {error.__cause__}; '
                'PYTHONPATH says where to look.')
    merged = [str(frame.f_locals.get('k')) for frame in frames
              if frame.f_code.co_name == '_merge_a_into_b']
    if merged:
        return f'{".".join(merged)} of {file} cannot be set: {message_of(error)}'
    line = next((f'line {number} of ' for frame, number in reversed(lines_of(error))
                 if frame.f_code.co_filename == file), '')
    return f'{line}{file} cannot be read: {type(error).__name__}: {message_of(error)}'
