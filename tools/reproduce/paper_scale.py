"""The same comparison at the paper's size: commands, and what they cost."""
from pathlib import Path
from typing import Optional

from mmengine.config import Config

from benchmarks.cost import PAPER_V100_GPU_DAYS, gpu_days
from mixedae_mm.analysis.page import render
from mixedae_mm.utils.config_names import mim_folder

TEMPLATE = Path(__file__).with_name('templates') / 'paper.sh.jinja'
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


def commands(images_per_s: Optional[float] = None) -> str:
    """What to run; with the paper's costs on V100, or at clean images per second."""
    runs = {
        name: (title, PAPER_V100_GPU_DAYS.get(name, ABLATION_DAYS.get(
            name, ABLATION_DEFAULT_DAYS)) if images_per_s is None else
            gpu_days(Config.fromfile(CONFIGS / f'{name}.py'), images_per_s))
        for name, title in RUNS.items()}
    return render(TEMPLATE, runs=runs, images_per_s=images_per_s,
                  total=sum(days for _, days in runs.values()))
