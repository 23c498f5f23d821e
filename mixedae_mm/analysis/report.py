"""One self-contained HTML page about a pre-training run."""
import filecmp
import random
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

from mmengine.config import Config

from ..datasets import EXTENSIONS, index_folder
from ..datasets.channels import extensions_of
from ..utils.checkpoint_files import find_resumable_checkpoint, out_dir_of
from ..utils.errors import ConfigurationError
from ..utils.machine import machine
from .figures import (draw_accuracy_over_training, draw_accuracy_per_layer,
                      draw_curves, draw_maps)
from .folder_measures import (folder_attention_maps, folder_mixing_panels,
                              folder_topk_accuracy)
from .loading import channels_of, find_images, image_size_of, load_model, spread
from .page import TEMPLATES, write_page
from .panels import draw_mixing_panel, shown_channels
from .probe_batch import sources_of
from .run_log import Curve, layer_accuracies, read_run, training_seconds

NUM_PANELS = 2  # groups of images shown mixed and reconstructed
NUM_MAPS = 16  # images shown with attention
TITLES = dict(loss_recon='reconstruction loss', loss_homocon='contrastive loss',
              lr='learning rate')
PathLike = Union[str, Path]


def write_run_report(work_dir: PathLike, image_folder: Optional[PathLike],
                     out: PathLike, times: Optional[Mapping[str, float]] = None,
                     seed: int = 0,
                     channels: Optional[Sequence[int]] = None) -> Dict[str, str]:
    """Write the report of a MixedAE pre-training run; gives the headline.

    Args:
        work_dir (str | Path): Of a run with ``TopKAccuracyHook``. Config,
            latest checkpoint and logs are found there.
        image_folder (str | Path, optional): Images to show, preferably ones that
            were not trained on; without it, training images. The page says which.
        out (str | Path): The page, ``*.html``. It needs no other file.
        times (Mapping[str, float], optional): Seconds that other steps took,
            to be listed beside the training.
        seed (int): Of the images and masks chosen.
        channels (sequence[int], optional): As in :func:`.panels.shown_channels`.

    Raises:
        ConfigurationError: If the run has no log or checkpoint, the folder no
            images, or the images no such channel.
    """
    config, checkpoint = run_files(work_dir)
    curves = read_run(work_dir)
    accuracies = layer_accuracies(curves)
    if 'loss_recon' not in curves or not accuracies:
        raise ConfigurationError(
            f'The log of {work_dir} lacks loss_recon or topk_accuracy: the '
            'report is about a MixedAE run with TopKAccuracyHook.')
    cfg = Config.fromfile(config)
    if image_folder is None:
        image_folder = training_folder(cfg)
        if not image_folder:
            raise ConfigurationError(
                f'The training images of {work_dir} are not here: name a folder of '
                'images to show.')
    model = load_model(config, checkpoint)
    paths = find_images(image_folder, channels=channels_of(model))
    num_trained, origin = origin_of(
        paths, training_folder(cfg), extensions_of(channels_of(model)))
    num_sources = sources_of(model)
    chance = 100 / num_sources
    headline = headline_of(curves, chance)
    # In random order: neighbours in a folder are often of one class.
    some = random.Random(seed).sample(paths, min(512, len(paths)))
    by_layer = {
        'before training': [v[0] for _, v in accuracies.values()],
        'after, training images': [v[-1] for _, v in accuracies.values()],
        f'after, {"new" if num_trained == 0 else "these"} images': (
            100 * folder_topk_accuracy(model, some, seed=seed)[0]).tolist()
    }
    seconds = {'training': training_seconds(curves), **(times or {})}
    write_page(
        out, TEMPLATES / 'report.html', name=Path(config).stem, model=model,
        cfg=cfg, headline=headline, origin=origin,
        panels=[draw_mixing_panel(panel) for panel in folder_mixing_panels(
            model, spread(paths, NUM_PANELS * num_sources), seed, channels)],
        shown=shown_channels(
            model.image_shape[0], model.data_preprocessor, channels),
        attention=draw_maps(list(folder_attention_maps(
            dict(attention=model), spread(paths, NUM_MAPS),
            image_size_of(model.backbone), channels))),
        losses=draw_curves({
            title: {'training': curves[name]}
            for name, title in TITLES.items() if name in curves}),
        accuracy_over_training=draw_accuracy_over_training(accuracies, chance),
        accuracy_per_layer=draw_accuracy_per_layer(by_layer, chance),
        accuracies=(['layer', *accuracies],
                    [[name, *(f'{value:.1f}' for value in values)]
                     for name, values in by_layer.items()]),
        millions=sum(p.numel() for p in model.backbone.parameters()) / 1e6,
        iterations=int(curves['loss_recon'][0][-1]),
        optimiser=_optimiser(cfg),
        times=[[what, format_seconds(taken)] for what, taken in seconds.items()],
        machine=machine(next(model.parameters()).device))
    return headline


def _optimiser(cfg: Config) -> str:
    """Its type, learning rate and batch; what the config leaves out has a default."""
    optimizer = cfg.optim_wrapper.optimizer
    words = [str(optimizer.type)]
    if 'lr' in optimizer:
        words.append(f'learning rate {optimizer.lr:.3g}')
    if 'batch_size' in cfg.train_dataloader:
        words.append(f'{cfg.train_dataloader.batch_size} images per step and process')
    return ', '.join(words)


def training_folder(cfg: Config) -> str:
    """Folder of the images that a run is trained on, '' if it is not here."""
    dataset = cfg.train_dataloader.dataset
    prefix = dataset.get('data_prefix') or ''
    if isinstance(prefix, dict):
        prefix = prefix.get('img_path') or ''
    folder = Path(dataset.get('data_root') or '', prefix)
    return str(folder) if folder != Path() and folder.is_dir() else ''


def origin_of(paths: Sequence[str], folder: str,
              extensions: Sequence[str] = EXTENSIONS) -> Tuple[Optional[int], str]:
    """How many images are among a run's own, by name and content, and a sentence.

    The number is None if the run's ``folder`` is '': its images are not here.
    """
    if not folder:
        return None, ('Whether the run was trained on these images is not known, '
                      'because its own are not here.')
    index = index_folder(folder, extensions)
    own: Dict[str, List[Path]] = {Path(path).name: [] for path in paths}
    for name in index.paths():
        if Path(name).name in own:
            own[Path(name).name].append(Path(folder, name))
    number = sum(any(filecmp.cmp(path, other, shallow=False)
                     for other in own[Path(path).name]) for path in paths)
    if number:
        return number, (f'The run was trained on {number} of these {len(paths)} '
                        'images.')
    return 0, (f'None of these images is among the {len(index.ends)} that the run was '
               'trained on, by name and content.')


def run_files(work_dir: PathLike) -> Tuple[Path, Path]:
    """Config and newest whole checkpoint of a run, or a ConfigurationError."""
    work_dir = Path(work_dir).expanduser()
    configs = sorted(work_dir.glob('*.py'), key=lambda p: p.stat().st_mtime)
    if not configs:
        raise ConfigurationError(
            f'{work_dir} has no config (*.py): it is not the work folder of a run.')
    checkpoint = find_resumable_checkpoint(
        str(work_dir), out_dir_of(Config.fromfile(configs[-1])))
    if checkpoint is None:
        raise ConfigurationError(f'The run in {work_dir} has no checkpoint yet.')
    return configs[-1], Path(checkpoint)


def headline_of(curves: Mapping[str, Curve], chance: float) -> Dict[str, str]:
    """What the curves of :func:`.run_log.read_run` come to, label -> text.

    ``chance`` is that of TopK sampling accuracy, in percent.
    """
    final = [values[-1] for _, values in layer_accuracies(curves).values()]
    above = sum(value > 50 for value in final)
    summary = {}
    for name in ('loss_recon', 'loss_homocon'):
        if name in curves:
            _, values = curves[name]
            summary[TITLES[name]] = f'{values[0]:.3f} → {values[-1]:.3f}'
    summary[f'TopK accuracy, mean of layers (chance {chance:.3g} %)'] = (
        f'{sum(final) / len(final):.1f} %')
    summary['layers with TopK accuracy above 50 %'] = f'{above} of {len(final)}'
    summary['training time'] = format_seconds(training_seconds(curves))
    if 'images_per_second' in curves:
        rate = float(curves['images_per_second'][1].mean())
        summary['images per second'] = f'{rate:.3g}'
    return summary


def format_seconds(seconds: float) -> str:
    """``59 s``, ``3 min 07 s``, ``2 h 05 min``."""
    seconds = round(seconds)
    if seconds < 60:
        return f'{seconds} s'
    if seconds < 3600:
        return f'{seconds // 60} min {seconds % 60:02d} s'
    return f'{seconds // 3600} h {seconds % 3600 // 60:02d} min'
