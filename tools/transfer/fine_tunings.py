"""Fine-tunings of three tasks from three starting points, at the demo's size.

The trainings are ordinary runs of ``tools/train.py`` with the configs in
``configs/demo/transfer``.
"""
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from mmengine.config import Config

from mixedae_mm.analysis.run_log import read_run
from mixedae_mm.utils.config_names import mim_folder
from reproduce.training_run import START, TrainingRun, schedule_options

CONFIGS = mim_folder() / 'configs/demo/transfer'
RANDOM = 'random initialisation'
MAE = 'MAE'
MIXEDAE = 'MixedAE'
UNSEEN = 'unseen-scenes'  # detection in them: for a GPU
# Two outlines with two textures: few enough to be learnt in minutes.
CLASSES = ('brick_disc', 'gravel_disc', 'brick_star', 'gravel_star')


class Task(NamedTuple):
    """A task that the backbone is fine-tuned for."""
    name: str  # for people and folders
    config: str  # file in configs/demo/transfer
    data: str  # folder below the demo's data
    # Column -> name in the log, and factor that makes it percent.
    metrics: Dict[str, Tuple[str, float]]
    cost: float  # of a step, relative to a step of the classifier


TASKS = {task.name: task for task in (
    Task('classification', 'finetune_vit-tiny_objects.py', 'objects',
         {'top-1': ('accuracy/top1', 1)}, 1.0),
    Task('segmentation', 'upernet_vit-tiny_scenes.py', 'scenes/ade',
         {'mIoU': ('mIoU', 1)}, 1.3),
    # A detector takes longer to learn than the demo may take on a CPU. So there it
    # is tested on the dozen scenes that it was trained on.
    Task('detection', 'cascade-mask-rcnn_vit-tiny_by-heart.py', 'dozen/coco',
         {'box AP by heart': ('coco/bbox_mAP', 100),
          'mask AP by heart': ('coco/segm_mAP', 100)}, 1.0),
    Task(UNSEEN, 'cascade-mask-rcnn_vit-tiny_scenes.py', 'scenes/coco',
         {'box AP': ('coco/bbox_mAP', 100), 'mask AP': ('coco/segm_mAP', 100)}, 4.0),
)}


class FineTuning(NamedTuple):
    """A task from a starting point."""
    task: Task
    start: str  # name of the starting point
    training: TrainingRun

    def results(self) -> Dict[str, float]:
        """Return the metrics of the finished training in percent, by column."""
        curves = read_run(self.training.folder)
        return {column: factor * curves[name][1][-1]
                for column, (name, factor) in self.task.metrics.items()}


def fine_tuning(task: Task, start: str, checkpoint: Optional[Path], data: Path,
                num_images: int, work_dir: Path, options: Mapping[str, Any],
                needs: Optional[TrainingRun] = None) -> FineTuning:
    """Set up a fine-tuning on ``num_images`` images of the demo.

    It starts from a checkpoint, which the run ``needs`` makes, or with None from random
    weights; ``options`` are more ``--cfg-options``.
    """
    file = CONFIGS / task.config
    options = {**({'model.backbone.init_cfg': None} if checkpoint is None else
                  {START: str(checkpoint)}), **options}
    config = Config.fromfile(file)
    config.merge_from_dict(options)
    steps = config.train_cfg.get('max_iters')
    last_checkpoint = f'iter_{steps}.pth'
    if steps is None:
        epochs = config.train_cfg.max_epochs
        steps = epochs * -(-num_images // config.train_dataloader.batch_size)
        last_checkpoint = f'epoch_{epochs}.pth'
    return FineTuning(task, start, TrainingRun(
        f'{task.name} from {start}', work_dir / f'{task.name}_{start.split()[0]}',
        file, options, data / task.data, last_checkpoint, steps, task.cost, needs,
        tuple(name for name, _ in task.metrics.values())))


def mae_pretraining(folder: Path, images: Path, steps: int,
                    batch_size: int) -> TrainingRun:
    """Set up MAE's pre-training, on the images and as long as the demo's."""
    return TrainingRun(
        'MAE pre-training', folder, CONFIGS / 'mae_vit-tiny_demo.py',
        {**schedule_options(steps), 'train_dataloader.batch_size': batch_size},
        images, f'iter_{steps}.pth', steps, cost=0.4)


def results_table(results: Dict[str, Dict[str, float]]) -> List[List[str]]:
    """Header, and per starting point a line of the columns that all have.

    ``results`` are start -> column -> percent.
    """
    columns = [column for task in TASKS.values() for column in task.metrics
               if all(column in values for values in results.values())]
    return [['starting point', *columns]] + [
        [start, *(f'{values[column]:.1f}' for column in columns)]
        for start, values in results.items()]
