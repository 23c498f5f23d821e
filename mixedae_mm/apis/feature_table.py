"""Tables of features: Parquet files with the columns ``path`` and ``feature``."""
import json
from pathlib import Path
from typing import Dict, Sequence, Union

from torch import Tensor

from ..utils.files import whole
from ..utils.errors import ConfigurationError
from ..utils.optional import require

# Name of our settings in the metadata of a Parquet file.
METADATA_KEY = b'mixedae_mm'


def write_table(file: Path, names: Sequence[str], features: Tensor,
                 bad: Dict[str, str]) -> None:
    """Write the features of some images as a Parquet file.

    Args:
        file (Path): The file to write.
        names (Sequence[str]): Of the ``N`` images that could be read.
        features (Tensor): ``(N, C)`` float32.
        bad (dict[str, str]): Unreadable images, with the reason.
    """
    pa = pyarrow()
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(features.flatten().numpy()), features.shape[1])
    table = pa.table([pa.array(names, pa.string()), column], ['path', 'feature'])
    with whole(file) as path:
        pa.parquet.write_table(_with_metadata(table, dict(bad=bad)), path)


def merge(files: Sequence[Path], destination: Path, settings: dict) -> None:
    """Join Parquet files, one in memory at a time."""
    pa = pyarrow()
    first = _with_metadata(pa.parquet.read_table(files[0]), settings)
    with whole(destination) as path, pa.parquet.ParquetWriter(
            path, first.schema) as writer:
        writer.write_table(first)
        for file in files[1:]:
            writer.write_table(
                _with_metadata(pa.parquet.read_table(file), settings))


def _with_metadata(table, content: dict):
    return table.replace_schema_metadata({METADATA_KEY: json.dumps(content)})


def read_metadata(file: Union[str, Path]) -> dict:
    """What :func:`write_features` keeps in the metadata of a Parquet file.

    Raises:
        ConfigurationError: If there is no such file, or something else wrote it.
    """
    pa = pyarrow()
    if not Path(file).is_file():
        raise ConfigurationError(f'There is no file {file}.')
    try:
        metadata = pa.parquet.read_schema(file).metadata or {}
    except pa.ArrowInvalid:
        metadata = {}
    if METADATA_KEY not in metadata:
        raise ConfigurationError(
            f'{file} was not written by tools/analysis_tools/extract_features.py.')
    return json.loads(metadata[METADATA_KEY])


def pyarrow():
    """The package, with what we use of it.

    Raises:
        ConfigurationError: If it is not installed.
    """
    require('pyarrow.parquet', 'pyarrow', 'A Parquet file')
    return require('pyarrow', 'pyarrow', 'A Parquet file')
