"""One self-contained HTML page about a pre-training run."""
import datetime
import html
import random
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

from mmengine.config import Config
from torch import nn

from ..utils.machine import machine
from ..utils.errors import ConfigurationError
from .figures import (draw_accuracy_over_training, draw_accuracy_per_layer,
                      draw_attention, draw_curves)
from .folder_measures import (folder_attention_maps, folder_mixing_panels,
                              folder_topk_accuracy)
from .loading import find_images, image_size_of, load_model
from .page import figure_element, section, table_element, write_page
from .panels import draw_mixing_panel
from .run_log import Curve, layer_accuracies, read_run, training_seconds


def write_report(work_dir: Union[str, Path],
                 image_folder: Union[str, Path],
                 out: Union[str, Path],
                 times: Optional[Mapping[str, float]] = None,
                 num_panels: int = 2,
                 seed: int = 0) -> Dict[str, str]:
    """Write the report of a MixedAE pre-training run.

    Args:
        work_dir (str | Path): Of a run with ``TopKAccuracyHook``. Config,
            latest checkpoint and logs are found there.
        image_folder (str | Path): Images for the pictures, best ones that
            were not trained on.
        out (str | Path): The page, ``*.html``. It needs no other file.
        times (Mapping[str, float], optional): Seconds that other steps took,
            to be listed beside the training.
        num_panels (int): Groups of images to show mixed and reconstructed.
        seed (int): Of the images and masks chosen.

    Returns:
        dict[str, str]: The headline, label -> text.

    Raises:
        ConfigurationError: If the run has no log or checkpoint, or the folder
            no images.
    """
    config, checkpoint = run_files(work_dir)
    curves = read_run(work_dir)
    accuracies = layer_accuracies(curves)
    if 'loss_recon' not in curves or not accuracies:
        raise ConfigurationError(
            f'The log of {work_dir} lacks loss_recon or topk_accuracy: the '
            'report is about a MixedAE run with TopKAccuracyHook.')
    model = load_model(config, checkpoint)
    pictures = _Pictures(model, find_images(image_folder), num_panels, seed)
    chance = 100 / model.data_preprocessor.num_sources
    headline = summarise(curves, chance)
    by_layer = {
        'before training': [v[0] for _, v in accuracies.values()],
        'after, training images': [v[-1] for _, v in accuracies.values()],
        'after, new images': pictures.accuracy
    }

    cfg = Config.fromfile(config)
    page = [
        f'<h1>{html.escape(Path(config).stem)}</h1>',
        f'<p class="lead">Mixed Autoencoder pre-training, '
        f'{datetime.date.today():%d %B %Y}. {_setting(cfg, model)}</p>',
        _headline(headline),
        section(
            'Mixing and reconstruction',
            'The encoder sees the mixed sample only: every patch comes from '
            'one of the images, as the mask says. For each image, the decoder '
            'gets the tokens of its own patches (unmixed input) and predicts '
            'the others. Visible patches are pasted into the reconstruction; '
            'predicted ones carry mean and contrast of the true patch, since '
            'the target is normalised patch by patch. None of these images '
            'was trained on.',
            *[figure_element(panel, 150) for panel in pictures.panels]),
        section(
            'Losses',
            'Reconstruction (Eq. 4): mean squared error on the hidden '
            'patches. Contrastive (Eq. 7): how well patches of one image are '
            'told from the others in the mix, times its weight.',
            figure_element(_draw_losses(curves))),
        section(
            'Which patches does attention choose?',
            'TopK sampling accuracy (Fig. 6): of the patches that a patch '
            'attends to under homologous attention, the share that comes from '
            'its own image. The first layer attends globally; its value is '
            'what TopK would pick. New images: not trained on, not augmented.',
            '<div class="side-by-side">',
            figure_element(
                draw_accuracy_over_training(accuracies, chance),
                caption='During training, on training images with fixed '
                'masks (Fig. 6b)'),
            figure_element(
                draw_accuracy_per_layer(by_layer, chance),
                caption='At the end, layer by layer (Fig. 6a)'), '</div>',
            table_element(['layer', *map(str, accuracies)],
                          [[name, *(f'{value:.1f}' for value in values)]
                           for name, values in by_layer.items()])),
        section(
            'Where does CLS look?',
            'Attention of the last layer\'s CLS token to the patches, mean '
            'over heads (Fig. 5), on whole images that were not trained on. '
            'Bright is high; every map spans its own range.',
            figure_element(pictures.attention)),
        section('Setup', '', _setup(cfg, model, curves, times or {}),
                 '<details><summary>The whole config</summary>'
                 f'<pre>{html.escape(cfg.pretty_text)}</pre></details>'),
    ]
    write_page(out, Path(config).stem, page)
    return headline


def run_files(work_dir: Union[str, Path]) -> Tuple[Path, Path]:
    """Config and latest checkpoint of a run.

    Raises:
        ConfigurationError: If the work folder lacks one of them.
    """
    work_dir = Path(work_dir)
    configs = sorted(work_dir.glob('*.py'), key=lambda p: p.stat().st_mtime)
    if not configs:
        raise ConfigurationError(
            f'{work_dir} has no config (*.py): it is no work folder of a run.')
    pointer = work_dir / 'last_checkpoint'
    if not pointer.is_file():
        raise ConfigurationError(f'The run in {work_dir} has no checkpoint yet.')
    # By its name: the folder may have been moved since.
    return configs[-1], work_dir / Path(pointer.read_text().strip()).name


def summarise(curves: Mapping[str, Curve], chance: float) -> Dict[str, str]:
    """The headline of a run, label -> text.

    Args:
        curves (Mapping[str, Curve]): From :func:`.run_log.read_run`.
        chance (float): Of TopK sampling accuracy, in percent.

    Returns:
        dict[str, str]: In the order to be shown.
    """

    def change(name: str) -> str:
        return f'{curves[name][1][0]:.3f} → {curves[name][1][-1]:.3f}'

    final = [values[-1] for _, values in layer_accuracies(curves).values()]
    above = sum(value > 50 for value in final)
    seconds = training_seconds(curves)
    summary = {'reconstruction loss': change('loss_recon')}
    if 'loss_homocon' in curves:
        summary['contrastive loss'] = change('loss_homocon')
    summary[f'TopK accuracy, mean of layers (chance {chance:.3g} %)'] = (
        f'{sum(final) / len(final):.1f} %')
    summary['layers with TopK accuracy above 50 %'] = f'{above} of {len(final)}'
    summary['training time'] = format_seconds(seconds)
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


class _Pictures:
    """Everything in the report that takes images."""

    def __init__(self, model: nn.Module, paths: Sequence[str],
                 num_panels: int, seed: int) -> None:
        size = image_size_of(model.backbone)
        num_sources = model.data_preprocessor.num_sources
        self.panels = [
            draw_mixing_panel(panel) for panel in folder_mixing_panels(
                model, _spread(paths, num_panels * num_sources), seed)
        ]
        # In random order: neighbours in a folder are often of one class.
        some = random.Random(seed).sample(paths, min(512, len(paths)))
        accuracy = folder_topk_accuracy(model, some, seed=seed)
        self.accuracy = (100 * accuracy).tolist()
        entries = list(
            folder_attention_maps(
                dict(attention=model), _spread(paths, 16), size))
        self.attention = draw_attention(
            [entry.image for entry in entries],
            {'attention': [entry.maps['attention'] for entry in entries]})


def _spread(paths: Sequence[str], count: int) -> List[str]:
    """So many of the paths, evenly spread."""
    count = min(count, len(paths))
    return [paths[i * len(paths) // count] for i in range(count)]


def _draw_losses(curves: Mapping[str, Curve]):
    titles = dict(
        loss_recon='reconstruction loss',
        loss_homocon='contrastive loss',
        lr='learning rate')
    return draw_curves({
        title: {
            'training': curves[name]
        }
        for name, title in titles.items() if name in curves
    })


def _setting(cfg: Config, model: nn.Module) -> str:
    backbone, preprocessor = model.backbone, model.data_preprocessor
    rows, columns = backbone.patch_resolution
    millions = sum(p.numel() for p in backbone.parameters()) / 1e6
    return (f'ViT of {len(backbone.layers)} layers and width '
            f'{backbone.embed_dims} ({millions:.3g} million parameters), '
            f'{rows} × {columns} patches of {preprocessor.patch_size} pixels, '
            f'{preprocessor.num_sources} images in a mix '
            f'({preprocessor.mode} mode).')


def _setup(cfg: Config, model: nn.Module, curves: Mapping[str, Curve],
           times: Mapping[str, float]) -> str:
    optimizer = cfg.optim_wrapper.optimizer
    steps = int(curves['loss_recon'][0][-1])
    rows = [
        ['mixing', f'ratio {model.data_preprocessor.mix_ratio:.3g}, '
         f'{model.data_preprocessor.mode} mode'],
        ['encoder', _setting(cfg, model).split(',')[0]],
        ['decoder', '{decoder_depth} layers of width {decoder_embed_dim}'.
         format(**cfg.model.neck) if cfg.model.get('neck') else 'none'],
        ['optimiser', f'{optimizer.type}, learning rate {optimizer.lr:.3g}, '
         f'{cfg.train_dataloader.batch_size} images a step and process'],
        ['iterations', f'{steps}'],
        ['training', format_seconds(training_seconds(curves))],
        *[[what, format_seconds(seconds)] for what, seconds in times.items()],
        *[[name, str(value)] for name, value in machine(
            next(model.parameters()).device).items()],
    ]
    return table_element(None, rows, numbers=False)


def _headline(summary: Mapping[str, str]) -> str:
    cells = ''.join(f'<div><b>{html.escape(text)}</b>'
                    f'<span>{html.escape(label)}</span></div>'
                    for label, text in summary.items())
    return f'<div class="headline">{cells}</div>'
