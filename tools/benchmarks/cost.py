"""From a measured throughput to the cost of a config's schedule."""
from mmengine.config import Config

IMAGENET_IMAGES = 1281167

# GPU-days of the paper (Table 1 and Table 3a), on V100.
PAPER_V100_GPU_DAYS = {
    'mixedae_vitb_300e': 16.9,
    'mixedae_vitb_800e': 45.0,
    'mixedae_vitb_1600e': 90.1,
    'mixedae_full_light_vitb_300e': 30.8,
    'mixedae_full_vitb_300e': 62.3,
    'mae_vitb_300e': 16.4,
    'mae_vitb_800e': 43.7,
    'mae_vitb_1600e': 87.4,
}


def gpu_days(config: Config, images_per_s: float,
             num_images: int = IMAGENET_IMAGES) -> float:
    """Return the device-days of a config's schedule at a measured throughput.

    Args:
        config (Config): With ``train_cfg.max_epochs``.
        images_per_s (float): Clean images per second on one device.
        num_images (int): Size of the data set; ImageNet-1K's by default.
    """
    return (config.train_cfg.max_epochs * num_images / images_per_s /
            (24 * 3600))
