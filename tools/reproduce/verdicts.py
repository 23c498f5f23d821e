"""Verdicts: what an experiment says about each claim of the paper."""
from math import sqrt
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from .claims import CLAIMS, NOT_RUN, OTHERS, Claim
from .presets import RANDOM
from .results import METRICS, text_of

REPRODUCED = 'reproduced at this size'
PARTLY = 'partly reproduced at this size'
NO_DIFFERENCE = 'not reproduced at this size: no difference beyond noise'
MIXED = 'not reproduced at this size: better by some numbers, worse by others'
OPPOSITE = 'not reproduced at this size: the opposite'
# Of a comparison that the paper does not make.
ANSWERS = {
    REPRODUCED: 'better at this size',
    PARTLY: 'better by some numbers at this size',
    NO_DIFFERENCE: 'no difference beyond noise at this size',
    MIXED: 'better by some numbers, worse by others, at this size',
    OPPOSITE: 'worse at this size',
}
NOT_REACHED = 'not reached at this size'


class Difference(NamedTuple):
    """How much better a variant is by one metric, and how much of it may be chance."""
    metric: str
    better: Dict[str, Any]  # mean, spread and values of the variant that should win
    worse: Dict[str, Any]
    gain: float  # positive if the claim's direction is right
    noise: float  # two standard errors


def differences(claim: Claim, summary: Dict[str, Any]) -> List[Difference]:
    """Compare the numbers of a claim; empty if a variant was not run."""
    variants = summary['variants']
    if claim.better not in variants or claim.worse not in variants:
        return []
    found = []
    for metric in claim.metrics:
        better, worse = (variants[name]['metrics'].get(metric)
                         for name in (claim.better, claim.worse))
        if better is not None and worse is not None:
            sign = -1 if METRICS[metric].lower_is_better else 1
            found.append(Difference(
                metric, better, worse, sign * (better['mean'] - worse['mean']),
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
    """Judge a claim by its differences.

    Reproduced means better beyond noise in most numbers, and worse beyond noise
    in none; partly reproduced means better in some. A claim of "not worse" is
    reproduced if it is worse beyond noise in none. What the paper does not claim
    is better, worse or neither.
    """
    if not found:
        return NOT_RUN
    wins = sum(d.gain > d.noise for d in found)
    if any(-d.gain > d.noise for d in found):
        result = MIXED if wins else OPPOSITE
    elif claim.or_equal or wins > len(found) / 2:
        result = REPRODUCED
    else:
        result = PARTLY if wins else NO_DIFFERENCE
    return result if claim.in_paper else ANSWERS[result]


def verdict_lines(summary: Dict[str, Any]) -> List[str]:
    """Return the claims and verdicts as lines for the terminal."""
    lines = []
    for row in rows(summary)[:len(CLAIMS)]:
        lines += [f'  {row.where + ":":<20}{row.text}', f'{"":<22}{row.verdict}',
                  *(f'{"":<24}{text}' for text in row.numbers)]
    return lines


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
        better, worse = (summary['variants'][name]['title'] if found else name
                         for name in (claim.better, claim.worse))
        numbers = [
            f'{METRICS[d.metric].title}: {better} {text_of(d.metric, d.better)}, '
            f'{worse} {text_of(d.metric, d.worse)} '
            f'(noise {d.noise:.{METRICS[d.metric].digits}f})' for d in found]
        tested.append(Row(claim.where, claim.text, verdict(claim, found), numbers or [
            f'`python tools/reproduce --preset {summary["preset"]} '
            f'--variants {worse} {better}`']))
    return tested + _levels(summary) + [
        Row(where, text, result, [how]) for where, text, result, how in OTHERS]


def _levels(summary: Dict[str, Any]) -> List[Row]:
    """Compare the accuracies with the levels that Fig. 6 shows."""
    found = []
    for name, text, is_reached in (
            ('both', 'With both, TopK accuracy is 70 to 80 % in all layers but the '
             'first two.', lambda layers: min(layers[2:]) >= 70),
            ('attention_only', 'With attention alone, it stays below 40 % in the '
             'last layer.', lambda layers: layers[-1] < 40)):
        if name not in summary['variants']:
            found.append(Row('Fig. 6', text, NOT_RUN, []))
            continue
        layers = summary['variants'][name]['topk']
        found.append(Row(
            'Fig. 6', text, REPRODUCED if is_reached(layers) else NOT_REACHED,
            [f'{summary["variants"][name]["title"]}, layer 1 to {len(layers)} '
             '[%]: ' + ' '.join(f'{value:.0f}' for value in layers)]))
    return found
