"""Write the report of the transfer demo."""
from pathlib import Path
from typing import Dict, List, Mapping, Sequence

from mmengine.config import Config

from mixedae_mm.analysis.page import write_page
from .fine_tunings import TASKS, FineTuning, results_table
from .pictures import draw_predictions

TEMPLATE = Path(__file__).with_name('templates') / 'report.html'
CAVEAT = (
    'A ViT of 1.2 million parameters, minutes of pre-training on crops of a '
    'few photographs, some hundred steps of fine-tuning, one seed: this shows '
    'that the same weights work in all three toolboxes, and whether '
    'pre-training helps. Guessing has a top-1 of 25, background everywhere an '
    'mIoU of 15. "By heart" is the precision on the dozen scenes that the detector '
    'was trained on: that it can learn, not what it would find elsewhere. It cannot '
    'rank MixedAE and MAE: with one seed, a difference between them may be chance.')


def write_transfer_report(out: Path, runs: Sequence[FineTuning],
                          results: Dict[str, Dict[str, float]],
                          setting: Mapping[str, int],
                          times: Mapping[str, str]) -> None:
    """Write the page, which needs no other file.

    Of all fine-tunings, finished; ``results`` are start -> column -> percent,
    ``setting`` steps and batch size of both pre-trainings, ``times`` how long each part
    took, and the machine.
    """
    of_task = {name: [run for run in runs if run.task.name == name] for name in TASKS}
    write_page(
        out, TEMPLATE, setting=setting, results=results_table(results), caveat=CAVEAT,
        lengths=[_length(found[0]) for found in of_task.values() if found],
        times=times, pictures={name: draw_predictions(found)
                               for name, found in of_task.items() if found})


def _length(run: FineTuning) -> List[str]:
    config = Config.fromfile(run.training.saved_config)
    unit = 'steps' if 'max_iters' in config.train_cfg else 'epochs'
    length = config.train_cfg.get('max_iters') or config.train_cfg.get('max_epochs')
    return [run.task.name, run.task.data, f'{length} {unit}',
            str(config.train_dataloader.batch_size)]
