"""The paper's claims, and what an experiment says about each."""
from math import sqrt
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .presets import RANDOM
from .results import METRICS, text_of

REPRODUCED = 'reproduced at this size'
PARTLY = 'partly reproduced at this size'
NO_DIFFERENCE = 'not reproduced at this size: no difference beyond noise'
MIXED = 'not reproduced at this size: better by some numbers, worse by others'
OPPOSITE = 'not reproduced at this size: the opposite'
NOT_TESTABLE = 'not testable at this size'
NOT_RUN = 'not run'

TRANSFER = tuple(name for name, metric in METRICS.items() if metric.is_transfer)
OBJECTS = ('object_ap', 'object_iou')


class Claim(NamedTuple):
    """A statement of the paper, as a comparison of two variants.

    Attributes:
        where (str): In the paper.
        text (str): What it says.
        better (str): The variant that should be better,
        worse (str): than this one,
        metrics (tuple[str]): by these.
        or_equal (bool): Whether it only says "not worse".
    """
    where: str
    text: str
    better: str
    worse: str
    metrics: Tuple[str, ...]
    or_equal: bool = False


CLAIMS = (
    Claim('Eq. 5', 'Naive mixing makes reconstruction easier than masking: its '
          'loss is lower than MAE\'s.', 'naive_mixing', 'mae', ('loss_recon', )),
    Claim('Eq. 5', 'The same where the sources of a mix know about each other '
          '(four crops of one image), so that Eq. 5 is strict.',
          'naive_mixing_views', 'mae_views', ('loss_views', )),
    Claim('Fig. 6', 'The contrastive loss makes TopK pick patches of the own '
          'image, against homologous attention alone.', 'both',
          'attention_only', ('topk_late', 'topk_last')),
    Claim('Sec. 3.2', 'Segment embeddings help to recognise patches of one '
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
    Claim('Table 1', 'Full mode transfers better than compose mode (the paper '
          'gives it 3.7 times the computation, this experiment the same).',
          'full', 'both', TRANSFER),
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

# What no small experiment can say anything about, or this one does not run.
OTHERS = (
    ('Table 1, 2', 'Accuracies on ImageNet, ADE20K, COCO and eleven small sets.',
     NOT_TESTABLE, '`tools/reproduce.py --preset paper` prints the commands'),
    ('Table 1', 'About 3 % more pre-training cost than MAE on GPUs.',
     NOT_TESTABLE, '`tools/benchmark.py` measures it on your GPU'),
    ('Table 3b, 3c, 3e', 'Input of the contrastive loss, its positives, number '
     'of global layers: differences of 0.1 to 0.2 points.', NOT_TESTABLE,
     'below the noise of any run of minutes; `configs/ablations/3*.py`'),
    ('Sec. 4.5', 'The contrastive loss without reconstruction fails.', NOT_RUN,
     '`configs/ablations/contrastive_without_reconstruction.py`'),
)


class Difference(NamedTuple):
    """How much better by one metric, and how much of it may be chance.

    Attributes:
        metric (str): Name.
        better (dict): Mean, spread and values of the variant that should win.
        worse (dict): The same of the other one.
        gain (float): Positive if the claim's direction is right.
        noise (float): Two standard errors.
    """
    metric: str
    better: Dict[str, Any]
    worse: Dict[str, Any]
    gain: float
    noise: float


def differences(claim: Claim, summary: Dict[str, Any]) -> List[Difference]:
    """What there is to a claim; empty if a variant was not run."""
    variants = summary['variants']
    if claim.better not in variants or claim.worse not in variants:
        return []
    found = []
    for metric in claim.metrics:
        better, worse = (variants[name]['metrics'].get(metric)
                         for name in (claim.better, claim.worse))
        if better is None or worse is None:
            continue
        gain = better['mean'] - worse['mean']
        if METRICS[metric].lower_is_better:
            gain = -gain
        found.append(Difference(
            metric, better, worse, gain,
            _noise(better, worse, _seed_variance(metric, summary),
                   summary['num_test'].get(metric))))
    return found


def _noise(a: Dict[str, Any], b: Dict[str, Any], seed_variance: Optional[float],
           num_test: Optional[int]) -> float:
    """Two standard errors of the difference of two means.

    Accuracies have at least the binomial error of the test images. Where no
    variant has several seeds, other numbers are taken to vary by 5 %.
    """
    if seed_variance is None:
        seed_variance = 0 if num_test else (0.05 * a['mean'] / 2)**2 / 2
    variance = seed_variance * (1 / len(a['values']) + 1 / len(b['values']))
    if num_test:
        variance = max(variance, sum(
            entry['mean'] * (100 - entry['mean']) / num_test for entry in (a, b)))
    return 2 * sqrt(variance)


def _seed_variance(metric: str, summary: Dict[str, Any]) -> Optional[float]:
    """Variance over seeds, pooled over all variants that have several.

    Random weights are left out: they vary more than what was trained.
    """
    squares, freedom = 0.0, 0
    for name, variant in summary['variants'].items():
        entry = variant['metrics'].get(metric)
        if entry is not None and entry['std'] is not None and name != RANDOM:
            squares += entry['std']**2 * (len(entry['values']) - 1)
            freedom += len(entry['values']) - 1
    return squares / freedom if freedom else None


def verdict(claim: Claim, found: Sequence[Difference]) -> str:
    """Reproduced: better beyond noise by most numbers, worse so by none.

    Partly: by some numbers. A claim that says "not worse" takes no number
    that is worse beyond noise.
    """
    if not found:
        return NOT_RUN
    wins = sum(d.gain > d.noise for d in found)
    losses = sum(-d.gain > d.noise for d in found)
    if losses:
        return MIXED if wins else OPPOSITE
    if claim.or_equal or wins > len(found) / 2:
        return REPRODUCED
    return PARTLY if wins else NO_DIFFERENCE


def table(summary: Dict[str, Any]) -> List[str]:
    """Lines for the terminal."""
    lines = []
    for row in rows(summary)[:len(CLAIMS)]:
        lines += [f'  {row.where + ":":<20}{row.text}', f'{"":<22}{row.verdict}',
                  *(f'{"":<24}{text}' for text in row.numbers)]
    return lines


def numbers(difference: Difference, claim: Claim,
            summary: Dict[str, Any]) -> str:
    """One comparison in words."""
    metric = difference.metric
    digits = METRICS[metric].digits
    titles = [summary['variants'][name]['title']
              for name in (claim.better, claim.worse)]
    return (f'{METRICS[metric].title}: {titles[0]} '
            f'{text_of(metric, difference.better)}, {titles[1]} '
            f'{text_of(metric, difference.worse)} '
            f'(noise {difference.noise:.{digits}f})')


class Row(NamedTuple):
    """What the report and the documentation show of a claim."""
    where: str
    text: str
    verdict: str
    numbers: List[str]


def rows(summary: Dict[str, Any]) -> List[Row]:
    """All claims, those that cannot be tested here at the end."""
    tested = []
    for claim in CLAIMS:
        found = differences(claim, summary)
        tested.append(
            Row(claim.where, claim.text, verdict(claim, found),
                [numbers(d, claim, summary) for d in found]))
    return tested + [
        Row(where, text, result, [how]) for where, text, result, how in OTHERS
    ]
