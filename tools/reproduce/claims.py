"""The paper's claims, as comparisons of variants."""
from typing import NamedTuple, Tuple

from .results import METRICS

NOT_TESTABLE = 'not testable at this size'
NOT_RUN = 'not run'

TRANSFER = tuple(name for name, metric in METRICS.items() if metric.kind == 'transfer')
OBJECTS = ('object_ap', 'object_iou')


class Claim(NamedTuple):
    """A statement of the paper, as a comparison of two variants."""
    where: str  # in the paper
    text: str
    better: str  # the variant that should be better
    worse: str  # than this one
    metrics: Tuple[str, ...]  # what is compared
    or_equal: bool = False  # the statement is only that it is not worse
    in_paper: bool = True  # otherwise it is a question of ours


CLAIMS = (
    Claim('Eq. 5', 'Naive mixing makes reconstruction easier than masking: its '
          'loss is lower than MAE\'s.', 'naive_mixing', 'mae', ('loss_recon', )),
    Claim('Eq. 5', 'The same for sources that have much in common (four similar '
          'crops of one image), for which Eq. 5 is strict.',
          'naive_mixing_views', 'mae_views', ('loss_views', )),
    Claim('Fig. 6', 'With the contrastive loss, TopK keeps patches of the query\'s '
          'own image more often than with homologous attention alone.', 'both',
          'attention_only', ('topk_late', 'topk_last')),
    Claim('Sec. 3.2', 'Segment embeddings help to recognise patches of the same '
          'image.', 'segment_embedding', 'naive_mixing',
          ('topk_late', 'topk_last')),
    Claim('Table 3f, Table 1', 'Naive mixing transfers worse than MAE.', 'mae',
          'naive_mixing', TRANSFER),
    Claim('Table 3f', 'Homologous attention alone improves on naive mixing '
          '(classification).', 'attention_only', 'naive_mixing', TRANSFER),
    Claim('Table 3f', 'The contrastive loss alone improves on naive mixing.',
          'contrastive_only', 'naive_mixing', TRANSFER),
    Claim('Table 3f', 'Both together improve on naive mixing.', 'both',
          'naive_mixing', TRANSFER),
    Claim('Table 1', 'MixedAE transfers better than MAE.', 'both', 'mae',
          TRANSFER),
    Claim('Table 1', 'Full mode transfers better than compose mode at equal images, '
          'so at about four times the work (3.7 in the paper).', 'full_images',
          'both', TRANSFER),
    Claim('not in the paper', 'Full mode against compose mode at equal work, so with '
          'a quarter of the images.', 'full', 'both', TRANSFER, in_paper=False),
    Claim('Fig. 5', 'MixedAE\'s attention covers objects better than MAE\'s.',
          'both', 'mae', OBJECTS),
    Claim('Table 3a', 'r = 0.25 transfers better than r = 0.5 (mixing only).',
          'naive_mixing', 'naive_mixing_r05', TRANSFER),
    Claim('Table 3d', 'K = 0.25 L is at least as good as 0.125 L.', 'both',
          'topk_0125', TRANSFER, or_equal=True),
    Claim('Table 3d', 'K = 0.25 L is at least as good as 0.5 L.', 'both',
          'topk_05', TRANSFER, or_equal=True),
    Claim('Table 3d', 'K = 0.25 L is better than no sampling.', 'both',
          'contrastive_only', TRANSFER),
)

# What a small experiment cannot test, or this one does not run.
OTHERS = (
    ('Table 1, 2', 'Accuracies on ImageNet, ADE20K, COCO and eleven small sets.',
     NOT_TESTABLE, '`python tools/reproduce --preset paper` prints the commands'),
    ('Table 1', 'Pre-training costs about 3 % more than MAE on GPUs.',
     NOT_TESTABLE, '`python tools/benchmarks step` measures it on your GPU'),
    ('Table 3b, 3c, 3e', 'Input of the contrastive loss, its positives, number '
     'of global layers: differences of 0.1 to 0.2 points.', NOT_TESTABLE,
     'smaller than the noise of so short a run; `configs/ablations/3*.py`'),
    ('Sec. 4.5', 'The contrastive loss without reconstruction fails.', NOT_RUN,
     '`configs/ablations/contrastive_without_reconstruction.py`'),
)
