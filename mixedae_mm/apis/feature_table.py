"""Tables of features: Parquet files with the columns ``path`` and ``feature``."""
import json
from pathlib import Path
from typing import Dict, Optional, Sequence, Union

from torch import Tensor

from ..utils.errors import ConfigurationError
from ..utils.files import whole
from ..utils.optional import require

# Name of our settings in the metadata of a Parquet file.
METADATA_KEY = b'mixedae_mm'


def write_shard(file: Path, names: Sequence[str], features: Tensor,
                reasons: Sequence[Optional[str]]) -> None:
    """Write the features ``(N, C)`` of some images, or why an image has none."""
    pa = pyarrow()
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(features.flatten().numpy()), features.shape[1])
    table = pa.table(dict(
        path=names, feature=column, reason=pa.array(reasons, pa.string())))
    with whole(file) as path:
        pa.parquet.write_table(table, path)


def join(shards: Sequence[Path], destination: Path, settings: dict) -> Dict[str, str]:
    """Join shards without those images that have no feature, whose reasons it returns.

    If none has one, nothing is written.
    """
    pa = pyarrow()
    images = pa.dataset.dataset(list(map(str, shards)))
    is_bad = pa.dataset.field('reason').is_valid()
    bad = images.to_table(columns=['path', 'reason'], filter=is_bad).to_pydict()
    if len(bad['path']) < images.count_rows():
        good = images.scanner(columns=['path', 'feature'], filter=~is_bad)
        schema = good.projected_schema.with_metadata(
            {METADATA_KEY: json.dumps(settings)})
        with whole(destination) as path, pa.parquet.ParquetWriter(
                path, schema) as writer:
            for batch in good.to_batches():  # not all in memory
                writer.write_batch(batch)
    return dict(zip(bad['path'], bad['reason']))


def read_settings(file: Union[str, Path]) -> dict:
    """What :func:`join` keeps in the metadata of a file.

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
            f'{file} is not a finished file of '
            'tools/analysis_tools/extract_features.py.')
    return json.loads(metadata[METADATA_KEY])


def pyarrow():
    """The package, with what we use of it; a ConfigurationError if it is missing."""
    require('pyarrow.parquet', 'pyarrow', 'A Parquet file')
    require('pyarrow.dataset', 'pyarrow', 'A Parquet file')
    return require('pyarrow', 'pyarrow', 'A Parquet file')
