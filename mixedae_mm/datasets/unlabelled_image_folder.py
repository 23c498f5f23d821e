"""Any folder of images, without labels or annotation files."""
import os
import random
from functools import partial
from typing import Callable, Iterator, List, Optional, Sequence, Union
from urllib.error import URLError

import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from ..utils.errors import ConfigurationError
from ..utils.messages import listed, warn
from ..utils.processes import from_main_process
from .decode import EXTENSIONS, UnreadableImageError
from .folder_index import FolderIndex, index_folder
from .sample_seeding import SampleSeeding, SharedNumbers

# UNREADABLE stays so for the run; what is MISSED is tried again when it is due.
UNSEEN, READABLE, UNREADABLE, MISSED = range(4)


@DATASETS.register_module()
class UnlabelledImageFolder(SampleSeeding, BaseDataset):
    """All images below a folder, in natural order of their paths.

    Samples are ``dict(img_path=..., sample_idx=...)`` for the pipeline.

    An image that cannot be read is named in one warning, counted, and replaced by
    another image, whose choice depends on nothing but the index. If its content is to
    blame (:class:`UnreadableImageError`), it is not tried again; if it could not be
    reached (:class:`OSError`), it is, the next time it is due. When more than
    ``max_bad_share`` of the images read so far are bad (and at least ``min_bad``, so
    that single ones do not stop a small set), the run stops with a summary. Counts are
    shared with the workers: ``num_bad`` and ``bad_images()`` tell the main process;
    each process of a distributed run counts for itself. With ``test_mode=True`` an
    unreadable image is an error at once.

    Args:
        data_root (str): The folder. Searched at any depth; links are followed,
            hidden files and folders are left out.
        data_prefix (str | dict): Folder below ``data_root``, as a string or as
            ``dict(img_path=...)``.
        pipeline (Sequence): Transforms, or their configs.
        extensions (Sequence[str]): Accepted extensions, in lower case.
        max_bad_share (float): Share of unreadable images, in [0, 1], above which the
            run stops.
        min_bad (int): Number of unreadable images below which it never stops.
        listed_together (bool): In a distributed run the first process lists the
            folder for all, so that all have the same images. Every process must then
            build the data set; with False each lists for itself.
        seed (int, optional): Seed of the augmentations, see
            :class:`~.sample_seeding.SampleSeeding`. Whoever sets it must also
            call ``set_epoch`` before each epoch. With None they are not seeded.
        indices, metainfo, test_mode, lazy_init, max_refetch: As in
            :class:`mmengine.dataset.BaseDataset`.

    Raises:
        ConfigurationError: For a share or seed out of range; when built on a folder
            that is missing or has no image; when too many images are unreadable.
        UnreadableImageError, OSError: With ``test_mode=True``, at a bad image.
    """

    _fully_initialized: bool

    def __init__(self,
                 data_root: str = '',
                 data_prefix: Union[str, dict] = '',
                 pipeline: Sequence[Union[dict, Callable]] = (),
                 extensions: Sequence[str] = EXTENSIONS,
                 max_bad_share: float = 0.01,
                 min_bad: int = 10,
                 listed_together: bool = True,
                 seed: Optional[int] = None,
                 indices: Optional[Union[int, Sequence[int]]] = None,
                 metainfo: Optional[dict] = None,
                 test_mode: bool = False,
                 lazy_init: bool = False,
                 max_refetch: int = 1000):
        if not 0 <= max_bad_share <= 1:
            raise ConfigurationError(
                'UnlabelledImageFolder: max_bad_share must be in [0, 1], got '
                f'{max_bad_share!r}.')
        if isinstance(data_prefix, str):
            data_prefix = dict(img_path=data_prefix)
        self.extensions = tuple(extensions)
        self.max_bad_share = max_bad_share
        self.min_bad = min_bad
        self.listed_together = listed_together
        self.init_sample_seeding(seed)
        super().__init__(
            data_root=data_root, data_prefix=data_prefix, pipeline=list(pipeline),
            indices=indices, metainfo=metainfo, test_mode=test_mode,
            lazy_init=lazy_init, max_refetch=max_refetch)

    @property
    def folder(self) -> str:
        return self.data_prefix['img_path']

    def full_init(self) -> None:
        """List the folder.

        The base class serializes one dictionary per sample into ``data_bytes`` and
        ``data_address``; here these hold the bare paths, a third of the memory, and
        the subset methods of the base class work on them.
        """
        if self._fully_initialized:
            return
        list_images = partial(index_folder, self.folder, self.extensions)
        self.data_bytes, self.data_address = (
            from_main_process(list_images) if self.listed_together else list_images())
        self._fully_initialized = True
        self._forget_bad()
        if self._indices is not None:
            self.get_subset_(self._indices)

    def get_subset_(self, indices) -> None:
        super().get_subset_(indices)
        self._forget_bad()

    def get_subset(self, indices) -> 'UnlabelledImageFolder':
        subset = super().get_subset(indices)
        subset._forget_bad()
        return subset

    def get_data_info(self, idx: int) -> dict:
        """``dict(img_path, sample_idx)`` of the idx-th image."""
        self.full_init()
        idx = range(len(self))[idx]
        name = FolderIndex(self.data_bytes, self.data_address).path(idx)
        return dict(img_path=os.path.join(self.folder, name), sample_idx=idx)

    def prepare_data(self, idx: int):
        """The idx-th sample after the pipeline, or that of its replacement."""
        if self.test_mode:
            return super().prepare_data(idx)
        status = self._status.tensor
        for candidate in self._candidates(idx):
            if status[candidate] == UNREADABLE:
                continue
            try:
                data = super().prepare_data(candidate)
            except (UnreadableImageError, OSError) as error:
                self._report_bad(candidate, error)
                continue
            status[candidate] = READABLE
            return data
        raise ConfigurationError(
            f'No readable image in {self.folder}: {self.get_img_path(idx)} and '
            f'{self.max_refetch} others in its place were tried.')

    def get_img_path(self, idx: int) -> str:
        """Path of the idx-th image."""
        return self.get_data_info(idx)['img_path']

    @property
    def num_bad(self) -> int:
        """How many images turned out unreadable so far."""
        return len(self._bad())

    def bad_images(self) -> List[str]:
        """Paths of the images that turned out unreadable so far."""
        return [self.get_img_path(idx) for idx in self._bad().tolist()]

    def _bad(self) -> torch.Tensor:
        status = self._status.tensor
        return torch.nonzero((status == UNREADABLE) | (status == MISSED)).flatten()

    def _candidates(self, idx: int) -> Iterator[int]:
        """The index, then the same pseudo-random ones whenever it is asked.

        Neighbours would not do: damaged files often lie side by side.
        """
        idx = range(len(self))[idx]
        yield idx
        generator = random.Random(idx)
        for _ in range(self.max_refetch):
            other = 1 + int(generator.random() * (len(self) - 1))
            yield (idx + other) % len(self)

    def _forget_bad(self) -> None:
        """Start counting anew; one byte per image."""
        self._status = SharedNumbers(
            torch.full((len(self), ), UNSEEN), dtype=torch.uint8)

    def _report_bad(self, idx: int, error: Exception) -> None:
        """Count and name an unreadable image; stop where there are too many."""
        status = self._status.tensor
        if status[idx] != MISSED:  # warned of already
            warn(f'Skipped an unreadable image: {error}')
        status[idx] = MISSED if _may_pass(error) else UNREADABLE
        num_bad, num_read = self.num_bad, int((status != UNSEEN).sum())
        too_many = num_bad > self.max_bad_share * num_read
        if too_many and (num_bad >= self.min_bad or num_bad == len(self)):
            examples = listed(self.bad_images(), 3)
            raise ConfigurationError(
                f'{num_bad} of the {num_read} images read so far from '
                f'{self.folder} are unreadable ({num_bad / num_read:.1%}, '
                f'allowed is {self.max_bad_share:.1%}), among them {examples}; '
                'remove them or raise max_bad_share of the dataset. The last one: '
                f'{error}') from None


def _may_pass(error: Exception) -> bool:
    """Whether the way to a file failed, not its content.

    Decoders raise OSError too, but only the system sets its number.
    """
    return isinstance(error, URLError) or (
        isinstance(error, OSError) and error.errno is not None)
