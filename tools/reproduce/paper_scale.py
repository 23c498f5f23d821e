"""The same comparison at the paper's size: commands, and what they cost."""
from pathlib import Path
from typing import List, Optional

from mmengine.config import Config

from benchmarks.cost import PAPER_V100_GPU_DAYS, gpu_days
from mixedae_mm.utils.config_names import mim_folder

CONFIGS = mim_folder() / 'configs'
RUNS = {
    'mae_vitb_300e': 'MAE',
    'naive_mixing_vitb_300e': 'naive mixing',
    'ablations/3f_attention_only': 'attention only',
    'ablations/3f_contrastive_only': 'contrastive only',
    'ablations/3f_both': 'both, at the rate of the ablations',
    'mixedae_vitb_300e': 'MixedAE',
    'mixedae_full_vitb_300e': 'MixedAE, full mode',
    'ablations/3a_ratio_05': 'r = 0.5',
    'ablations/3d_topk_0125': 'K = 0.125 L',
    'ablations/3d_topk_05': 'K = 0.5 L',
}
# Of the ablations, as the paper gives them (Table 3a).
ABLATION_DAYS = {'ablations/3a_ratio_05': 21.0}
ABLATION_DEFAULT_DAYS = 16.9


def commands(images_per_s: Optional[float] = None, gpus: int = 8) -> List[str]:
    """Lines to print; with the paper's costs on V100, or at clean images per second."""
    lines = [
        '# Pre-training on ImageNet-1K, 300 epochs each. GPU-days ' +
        ('on V100, as the paper gives them.' if images_per_s is None else
         f'at {images_per_s:g} images per second and GPU.'),
        'export DATA_ROOT=/path/to/imagenet',
    ]
    total = 0.0
    for name, title in RUNS.items():
        days = PAPER_V100_GPU_DAYS.get(
            name, ABLATION_DAYS.get(name, ABLATION_DEFAULT_DAYS))
        if images_per_s is not None:
            days = gpu_days(Config.fromfile(CONFIGS / f'{name}.py'), images_per_s)
        total += days
        lines.append(f'tools/dist_train.sh configs/{name}.py {gpus}'
                     f'    # {title}: {days:.1f} GPU-days')
    stem = Path(list(RUNS)[5]).stem
    checkpoint = f'work_dirs/{stem}/epoch_300.pth'
    lines += [
        f'# {total:.0f} GPU-days in all. Then, for each checkpoint:',
        f'export PRETRAINED={checkpoint}',
        'tools/dist_train.sh configs/classification/finetune_vitb_100e_in1k.py '
        f'{gpus}    # Table 1, 3f',
        f'python tools/analysis_tools/knn_and_probe.py configs/{stem}.py $PRETRAINED '
        '$DATA_ROOT    # k-NN, linear probe',
        f'python tools/analysis_tools/sampling_accuracy.py configs/{stem}.py '
        '$PRETRAINED $DATA_ROOT/val    # Fig. 6a',
        f'python tools/analysis_tools/object_awareness.py configs/{stem}.py '
        '$PRETRAINED data/VOCdevkit/VOC2012 --split val    # Fig. 5',
    ]
    return lines
