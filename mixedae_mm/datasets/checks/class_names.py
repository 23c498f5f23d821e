"""Labels are numbers: each must stand for the same class everywhere."""
from itertools import product
from typing import Mapping, Optional, Sequence, Tuple

from torch.utils.data import Dataset

from ...utils.errors import ConfigurationError
from ...utils.messages import listed, refuse_or_warn
from .walking import declared_names, leaves, place_of, sample_infos

# How many labels of an annotation file are checked.
NUM_LABELS = 10_000


def folder_names(dataset: Dataset) -> Optional[Sequence[str]]:
    """The folders that labels 0, 1, ... come from, where they come from folders.

    mmpretrain numbers them in alphabetical order, whatever ``classes`` say.
    """
    numbers = getattr(dataset, 'folder_to_idx', None)
    return sorted(numbers, key=numbers.get) if numbers else None


def check_same_classes(first: Dataset, second: Dataset, first_name: str,
                       second_name: str) -> None:
    """Refuse two data sets in which one label stands for different classes.

    Folders are compared with folders and declared names with declared names.
    """
    for one, other in product(leaves(first), leaves(second)):
        for names_of in (folder_names, declared_names):
            names, other_names = names_of(one), names_of(other)
            if names and other_names and list(names) != list(other_names):
                raise ConfigurationError(_disagreement(
                    names, other_names, f'{first_name} ({place_of(one)})',
                    f'{second_name} ({place_of(other)})'))
        zero = [getattr(part, 'reduce_zero_label', None) for part in (one, other)]
        if None not in zero and zero[0] != zero[1]:
            raise ConfigurationError(
                f'reduce_zero_label is {zero[0]} in {first_name}, but {zero[1]} in '
                f'{second_name}: all labels would differ by one; set both alike.')


def check_folder_names(dataset: Dataset, name: str) -> None:
    """Refuse class names in another order than the folders they name."""
    for part in leaves(dataset):
        folders = folder_names(part) or ()
        moved = _moved(folders, declared_names(part) or ())
        if moved:
            raise ConfigurationError(
                f'{name}: the folder {moved[0]} of {place_of(part)} has label '
                f'{moved[1]}, since folders are numbered in alphabetical order, but '
                f'classes names it as label {moved[2]}; give classes in the order '
                f'{listed(folders, 20)}, or leave them out.')


def check_positions(trained: Optional[Sequence[str]], dataset: Dataset,
                    name: str) -> None:
    """Refuse a class that had another label when the model was trained.

    Of the classes that a checkpoint names, only the positions of those that the data
    set knows are compared, because releases spell the names of public data sets
    differently; but some must be the same.
    """
    names = declared_names(dataset)
    if not trained or not names:
        return
    place = f'{name} ({place_of(next(leaves(dataset)))})'
    if not set(map(str.lower, trained)) & set(map(str.lower, names)):
        raise ConfigurationError(
            f'The checkpoint was trained on the classes {listed(trained, 20)}, but '
            f'{place} has the classes {listed(names, 20)}, none of which is among '
            'them: give the data set the same classes, in the same order.')
    moved = _moved(trained, names)
    if moved:
        raise ConfigurationError(
            f"The class '{moved[0]}' has label {moved[2]} in {place}, but label "
            f'{moved[1]} in the checkpoint, which names the classes it was trained '
            'on: give the data set the same classes, in the same order.')


def check_num_classes(dataset: Dataset, heads: Mapping[str, int],
                      name: str) -> None:
    """Refuse heads with fewer classes than the data, and warn of more.

    With more, labels stay right, and the head's last classes are never trained.
    """
    classes = declared_names(dataset)
    # Heads for things and for stuff divide the classes among them.
    if classes is None or 'thing_classes' in getattr(dataset, 'metainfo', {}):
        return
    for head, num_classes in heads.items():
        if num_classes != len(classes):
            refuse_or_warn(
                f'The {type(dataset).__name__} of {name} has {len(classes)} classes, '
                f'but the model predicts {num_classes} ({head}.num_classes).',
                num_classes < len(classes))


def check_label_range(dataset: Dataset, heads: Mapping[str, int],
                      name: str) -> None:
    """Refuse labels in an annotation file that a head does not predict."""
    if not heads:
        return
    head = min(heads, key=heads.__getitem__)
    for part in leaves(dataset):
        if folder_names(part):
            continue
        for info in sample_infos(part, NUM_LABELS):
            labels = info.get('gt_label')
            for label in labels if isinstance(labels, (list, tuple)) else [labels]:
                if isinstance(label, int) and not 0 <= label < heads[head]:
                    raise ConfigurationError(
                        f'{info.get("img_path", name)} has the label {label} in '
                        f'{place_of(part)} ({name}), but {head} has {heads[head]} '
                        f'classes, 0 to {heads[head] - 1}.')


def _disagreement(names: Sequence[str], other_names: Sequence[str], place: str,
                  other_place: str) -> str:
    """The first label of two meanings, and the names that only one of them has."""
    label = next((index for index, pair in enumerate(zip(names, other_names))
                  if pair[0] != pair[1]), min(len(names), len(other_names)))
    says, other_says = (f"'{part[label]}'" if label < len(part) else 'no class'
                        for part in (names, other_names))
    only = listed([name for name in names if name not in other_names], 20)
    only_other = listed([name for name in other_names if name not in names], 20)
    return (f'Label {label} is {says} in {place}, but {other_says} in {other_place}; '
            'both must have the same classes in the same order (an empty folder keeps '
            'the place of a missing class). Only in the first: '
            f'{only or "none"}; only in the second: {only_other or "none"}.')


def _moved(names: Sequence[str], others: Sequence[str]
           ) -> Optional[Tuple[str, int, int]]:
    """A name that both have at different places, with the two places."""
    positions = {name: index for index, name in enumerate(names)}
    return next(((name, positions[name], index)
                 for index, name in enumerate(others)
                 if positions.get(name, index) != index), None)
