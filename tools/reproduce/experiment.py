"""An experiment: its data, its runs and their measurements."""
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmengine.config import Config
from torch import nn

from demo import make_object_folder, make_photograph_folder, make_scene_folder
from mixedae_mm.analysis.loading import untrained_model
from mixedae_mm.analysis.run_log import Curve, read_run
from mixedae_mm.utils.checks import check_number
from mixedae_mm.utils.config_names import mim_folder
from transfer.fine_tunings import CLASSES
from . import measuring
from .fingerprints import weights_fingerprint
from .presets import ALL, RANDOM, VARIANTS, Preset, Variant
from .scheduling import INTERRUPTED, train_all
from .training_run import START, TrainingRun, schedule_options

CONFIGS = mim_folder() / 'configs/reproduce'
FINETUNE = mim_folder() / 'configs/demo/transfer/finetune_vit-tiny_objects.py'
ACCURACY = 'accuracy/top1'


class Outcome(NamedTuple):
    """The result of one seed of a variant."""
    variant: str
    seed: int  # of weights, order, crops and masks
    # From measuring.measure, plus ``finetune`` where that was done.
    values: Dict[str, Any]
    curves: Dict[str, Curve]  # what the training logged


class Experiment:
    """The data, runs and results of one preset in one work folder.

    Args:
        preset (Preset): The size.
        folder (Path): Work folder; everything is below it.
        images (Path, optional): Images of the user's own in ImageNet's
            layout, ``train/<class>`` and ``val/<class>``, to pre-train on and
            to classify, instead of the generated objects. Object awareness
            and fine-tuning still use generated images, which have exact masks.
        seeds, steps, learning_rate (optional): Instead of the preset's; a learning
            rate is then that of all variants.
        variants (Sequence[str], optional): Do only these pre-trainings.

    Raises:
        ConfigurationError: For a learning rate outside (0, 1), or images in another
            layout, with other classes in ``val`` or that cannot be read.
    """

    def __init__(self, preset: Preset, folder: Path,
                 images: Optional[Path] = None, seeds: Optional[int] = None,
                 steps: Optional[int] = None,
                 learning_rate: Optional[float] = None,
                 variants: Optional[Sequence[str]] = None) -> None:
        if learning_rate is not None:
            check_number('The learning rate', learning_rate,
                         lambda rate: 0 < rate < 1, 'lie in (0, 1)')
        self.preset = preset._replace(
            seeds=seeds or preset.seeds, steps=steps or preset.steps,
            learning_rates=(learning_rate, ) if learning_rate else
            preset.learning_rates,
            # A variant that is named is run at least once.
            fewer={name: max(1, number) if name in (variants or ()) else number
                   for name, number in preset.fewer.items()})
        self.variants = variants or [variant.name for variant in ALL]
        self.folder = folder.resolve()
        self.data = self.folder / 'data'
        self.images = images and images.resolve()

    def check_images(self) -> None:
        """Refuse images of the user's that cannot be measured, before the training."""
        if self.images is not None:
            measuring.check_own_images(self.images)

    def make_data(self) -> None:
        """Generate the images that are not there yet."""
        preset = self.preset
        make_object_folder(str(self.data / 'objects'), *preset.objects, size=72)
        # In grey: colours alone would tell the photographs apart.
        make_photograph_folder(
            str(self.data / 'photographs'), *preset.photographs, size=72, grey=True)
        make_object_folder(
            str(self.data / 'labelled'), preset.labelled, preset.objects[1],
            size=72, classes=CLASSES)
        # An object covers every pixel equally often: were they in the centre, a map
        # of the centre would be better than any attention.
        make_scene_folder(
            str(self.data / 'scenes'), 1, preset.scenes, size=96, max_objects=2,
            radii=(0.2, 0.35), inside=-1)

    # ------------------------------------------------------------------ runs

    def pretraining(self, variant: Variant, seed: int) -> TrainingRun:
        """Set up the pre-training of a variant, with the rate chosen for it."""
        return self._training(
            f'{variant.name} seed {seed}', f'{variant.name}_seed{seed}', variant, seed,
            self.learning_rate(variant), self.preset.steps)

    def trials(self, variant: Variant) -> Dict[float, TrainingRun]:
        """Set up the short pre-trainings that choose the learning rate."""
        rates = self.preset.learning_rates
        return {} if len(rates) == 1 else {
            rate: self._training(
                f'{variant.name} at {rate:g}', f'{variant.name}_lr{rate:g}', variant,
                0, rate, self.preset.trial_steps)
            for rate in rates}

    def trial_losses(self, variant: Variant) -> Dict[float, float]:
        """Return the held-out losses of the trials; empty until all are finished."""
        trials = self.trials(variant)
        if not all(run.is_finished for run in trials.values()):
            return {}
        return {
            rate: measuring.held_out_loss(run.saved_config, run.checkpoint,
                                          self.measured_images().mixing)
            for rate, run in trials.items()}

    def learning_rate(self, variant: Variant) -> float:
        """Return the rate with the lowest held-out loss; the first until then."""
        losses = self.trial_losses(variant)
        return min(losses, key=losses.get) if losses else self.preset.learning_rates[0]

    def _training(self, name: str, folder: str, variant: Variant, seed: int,
                  learning_rate: float, steps: int) -> TrainingRun:
        return TrainingRun(
            name, self.folder / 'runs' / folder, CONFIGS / variant.file,
            self.preset.options(variant, seed, learning_rate, steps),
            (self.images or self.data / 'objects') / 'train', f'iter_{steps}.pth',
            steps)

    def finetuning(self, variant: str, seed: int,
                   start: Optional[TrainingRun]) -> TrainingRun:
        """Set up the fine-tuning of a pre-training; None starts from random weights."""
        epochs, encoder = self.preset.finetune_epochs, self.preset.encoder
        batch = min(32, self.preset.labelled)
        options = {
            **schedule_options(epochs, max(1, epochs // 8), 'epochs'),
            'train_dataloader.batch_size': batch,
            'train_cfg.val_interval': epochs,
            'default_hooks.checkpoint.interval': epochs,
            'randomness.seed': seed,
            **({'model.backbone.init_cfg': None} if start is None else
               {START: str(start.checkpoint)}),
            **{f'model.backbone.arch.{key}': value for key, value in encoder.items()}}
        if encoder:
            options['model.head.in_channels'] = encoder['embed_dims']
        return TrainingRun(
            f'fine-tuning of {variant} seed {seed}',
            self.folder / 'runs' / f'{variant}_seed{seed}_finetuned',
            FINETUNE, options, self.data / 'labelled', f'epoch_{epochs}.pth',
            epochs * (self.preset.labelled // batch), needs=start, metrics=(ACCURACY, ))

    def wanted(self) -> List[Tuple[Variant, int]]:
        """List what to pre-train: first all variants with seed 0, then with seed 1."""
        preset = self.preset
        return [(variant, seed) for seed in range(preset.seeds) for variant in ALL
                if variant.name in self.variants and seed < preset.seeds_of(variant)]

    def pretrainings(self) -> List[Tuple[Variant, int, TrainingRun]]:
        """List all pre-trainings."""
        return [(variant, seed, self.pretraining(variant, seed))
                for variant, seed in self.wanted()]

    def finetunings(self) -> Dict[Tuple[str, int], TrainingRun]:
        """Fine-tunings of the variants, and of random weights, by name and seed."""
        starts = {(variant.name, seed): run for variant, seed, run in
                  self.pretrainings() if variant in VARIANTS}
        starts.update({(RANDOM, seed): None for seed in range(self.preset.seeds)})
        return {key: self.finetuning(*key, run) for key, run in starts.items()}

    def train(self, workers: int, threads: int, report: Callable[[str], None],
              keep_open=(), finetune: bool = True,
              deadline: Optional[float] = None) -> None:
        """Do all trainings that are not finished, by :func:`train_all`."""
        trials = [run for variant, seed in self.wanted() if seed == 0
                  for run in self.trials(variant).values()]
        if trials:
            later = len(self.wanted()) * self.preset.steps
            train_all(trials, workers, threads, report, keep_open, later, deadline)
        runs = [run for _, _, run in self.pretrainings()]
        if finetune:
            runs += self.finetunings().values()
        train_all(runs, workers, threads, report, keep_open, deadline=deadline)

    def unfinished(self) -> List[str]:
        """List the names of runs that are missing in the results."""
        missing = [run.name for _, _, run in self.pretrainings() if not run.is_finished]
        tuned = self.finetunings().values()
        if not any(run.is_finished for run in tuned):
            return [*missing, 'all fine-tunings']
        return missing + [run.name for run in tuned if not run.is_finished]

    # ---------------------------------------------------------- measurements

    def outcomes(self, report: Callable[[str], None],
                 deadline: Optional[float] = None) -> List[Outcome]:
        """Measure all finished runs; a run that was measured before is not again.

        Raises:
            SystemExit: If the deadline passes; finished measurements are kept.
        """
        tuned = self.finetunings()
        runs = [(variant.name, seed, run) for variant, seed, run in self.pretrainings()
                if run.is_finished]
        runs += [(RANDOM, seed, None) for seed in range(self.preset.seeds)]
        outcomes = []
        for name, seed, run in runs:
            if deadline is not None and time.time() > deadline:
                report('The time is up: the same command goes on from here.')
                raise SystemExit(INTERRUPTED)
            if run is None:
                report(f'measuring random weights seed {seed}')
                record = self.folder / 'runs' / f'{name}_seed{seed}.json'
                identity = dict(
                    model=self.untrained_config().to_dict()['model'], seed=seed)
                model_of = partial(self.untrained_model, seed)
            else:
                report(f'measuring {run.name}')
                record = run.folder / 'measurements.json'
                identity = dict(training=run.check_setting(),
                                weights=weights_fingerprint(run.checkpoint))
                model_of = partial(measuring.model_of_run, run)
            values = measuring.measured(
                record, identity, model_of, self.measured_images())
            fine = tuned.get((name, seed))
            if fine is not None and fine.is_finished:
                values['finetune'] = float(read_run(fine.folder)[ACCURACY][1][-1])
            outcomes.append(Outcome(
                name, seed, values, {} if run is None else read_run(run.folder)))
        return outcomes

    def untrained_model(self, seed: int) -> nn.Module:
        """Build MixedAE with random weights."""
        return untrained_model(self.untrained_config(), seed=seed)

    def untrained_config(self) -> Config:
        """Read the config of MixedAE with the encoder of the preset."""
        cfg = Config.fromfile(CONFIGS / 'both.py')
        cfg.model.backbone.arch.update(self.preset.encoder)
        return cfg

    def measured_images(self) -> measuring.Images:
        own = {} if self.images is None else dict(images=self.images)
        scenes = self.data / 'scenes/coco'
        return measuring.Images(
            labelled=dict(
                own, objects=self.data / 'labelled',
                photographs=self.data / 'photographs'),
            mixing=(self.images or self.data / 'objects') / 'val',
            annotations=scenes / 'annotations/instances_val2017.json',
            masked=scenes / 'val2017')
