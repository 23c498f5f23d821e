"""The variants that are compared, and the sizes of the experiment."""
from typing import Dict, Mapping, NamedTuple, Tuple

from .training_run import schedule_options

RANDOM = 'random'  # the encoder without any pre-training


class Variant(NamedTuple):
    """A pre-training that is compared with the others."""
    name: str  # for options, folders and results
    title: str  # for people
    # What the images per step are divided by. From four images full mode makes four
    # mixed samples, where compose mode makes one: a quarter of the images is about the
    # same work.
    batch_divisor: int = 1
    config: str = ''  # in configs/reproduce; by default the name

    @property
    def file(self) -> str:
        """Name of its config file."""
        return f'{self.config or self.name}.py'


VARIANTS = (
    Variant('mae', 'MAE'),
    Variant('naive_mixing', 'naive mixing'),
    Variant('attention_only', 'attention only'),
    Variant('both', 'MixedAE (both)'),
    Variant('contrastive_only', 'contrastive only'),
    Variant('segment_embedding', '+ segment embedding'),
    Variant('full', 'MixedAE, full mode, equal work', batch_divisor=4),
    Variant('full_images', 'MixedAE, full mode, equal images', config='full'),
)
# Table 3a and 3d: rows that the variants above do not have.
SWEEPS = (
    Variant('naive_mixing_r05', 'naive mixing, r = 0.5'),
    Variant('topk_0125', 'K = 0.125 L'),
    Variant('topk_05', 'K = 0.5 L'),
)
# Eq. 5 is an equality for sources that have nothing in common, such as independent
# images; here a group is four similar crops of one image.
VIEWS = (
    Variant('mae_views', 'MAE, four crops per image'),
    Variant('naive_mixing_views', 'naive mixing of four crops'),
)
ALL = VARIANTS + VIEWS + SWEEPS
VARIANT_OF = {variant.name: variant for variant in ALL}
TITLES = {
    **{variant.name: variant.title for variant in ALL},
    RANDOM: 'no pre-training'
}


class Preset(NamedTuple):
    """A size of the experiment."""
    name: str
    steps: int  # pre-training iterations of each run
    batch_size: int  # clean images per step
    # Peaks of the schedule. Of several, each variant takes the one with the lowest loss
    # on held-out images after a pre-training of ``trial_steps``.
    learning_rates: Tuple[float, ...]
    trial_steps: int
    seeds: int  # runs per variant
    fewer: Mapping[str, int]  # variants with fewer runs
    objects: Tuple[int, int]  # generated images, for training and for testing
    photographs: Tuple[int, int]  # crops, to train classifiers and for testing
    labelled: int  # images of objects, for the classifiers and the fine-tuning
    scenes: int  # images of several objects, for the attention
    finetune_epochs: int
    encoder: Dict[str, int]  # ``arch`` of the ViT; empty for the demo's

    def seeds_of(self, variant: Variant) -> int:
        """Runs of a variant."""
        return min(self.seeds, self.fewer.get(variant.name, self.seeds))

    def options(self, variant: Variant, seed: int, learning_rate: float, steps: int
                ) -> Dict[str, object]:
        """What a run changes in its config, as ``--cfg-options``."""
        options: Dict[str, object] = {
            **schedule_options(steps),
            'train_dataloader.batch_size': self.batch_size // variant.batch_divisor,
            'default_hooks.checkpoint.interval': max(1, steps // 6),
            'default_hooks.checkpoint.max_keep_ckpts': 1,
            'optim_wrapper.optimizer.lr': learning_rate,
            'randomness.seed': seed,
            **{f'model.backbone.arch.{key}': value
               for key, value in self.encoder.items()},
        }
        if self.encoder and variant.name.startswith('mae'):  # the others are told
            options['model.neck.embed_dim'] = self.encoder['embed_dims']
        return options


ONCE = {variant.name: 1 for variant in VIEWS + SWEEPS}
# Too little time is left for them; --variants names what is run all the same.
ON_REQUEST = {name: 0 for name in ('contrastive_only', 'segment_embedding', *ONCE)}

PRESETS = {
    preset.name: preset
    for preset in (
        # The record in docs/claims_tiny.json was measured with this learning rate.
        # It is twice that of the demo's config, because there are fewer steps. Full
        # mode on all images takes four times as long, so it runs on request only.
        Preset('tiny', steps=800, batch_size=64, learning_rates=(2e-3, ),
               trial_steps=0, seeds=2, fewer={**ONCE, 'full_images': 0},
               objects=(3000, 800), photographs=(960, 800), labelled=640,
               scenes=400, finetune_epochs=12, encoder={}),
        # Its time is estimated in docs/claims.md.
        Preset('small', steps=1800, batch_size=128, learning_rates=(5e-4, 1e-3, 2e-3),
               trial_steps=300, seeds=2, fewer=ON_REQUEST,
               objects=(12000, 2000), photographs=(1600, 1600), labelled=800,
               scenes=1000, finetune_epochs=8,
               encoder=dict(embed_dims=192, num_layers=8, num_heads=3,
                            feedforward_channels=768)),
        # To try the whole command in a minute or two.
        Preset('smoke', steps=12, batch_size=16, learning_rates=(1e-3, 2e-3),
               trial_steps=4, seeds=1, fewer=ON_REQUEST, objects=(64, 40),
               photographs=(64, 32), labelled=64, scenes=8, finetune_epochs=2,
               encoder={}),
    )
}
