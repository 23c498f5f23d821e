"""Classifiers on frozen features: k-NN and linear probe."""
import warnings
from typing import Dict, NamedTuple, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..utils.checks import check_number
from ..utils.errors import ConfigurationError
from ..utils.messages import listed, warn
from ..utils.optional import require
from .frozen_features import LabelledFeatures

# Inverse strengths of the linear probe's L2 penalty that validation chooses from.
PROBE_STRENGTHS = (0.001, 0.01, 0.1, 1.0)
PROBE_ITERATIONS = 1000
QUERIES_AT_A_TIME = 1024
HELD_OUT = 0.25  # share of the training images that chooses read-out and penalty


class ReadoutAccuracy(NamedTuple):
    """Accuracy on new images, of the read-out that did best in validation."""
    accuracy: float  # on the test images, in [0, 1]
    readout: str  # as layer_06/mean
    validation: Dict[str, float]  # of every read-out, on held-out training images


def standardise(bank: Tensor, queries: Tensor) -> Tuple[Tensor, Tensor]:
    """Both with zero mean and unit variance in every dimension of the bank.

    What BatchNorm does in MAE's linear probing. Without it cosines of MAE's
    features are all near 1, because all share one large component.
    """
    mean, std = bank.mean(0), bank.std(0).clamp_min(1e-6)
    return (bank - mean) / std, (queries - mean) / std


def knn_predict(bank: Tensor, labels: Tensor, queries: Tensor, k: int = 20,
                temperature: float = 0.07) -> Tensor:
    """Weighted k-nearest-neighbour classification (Wu et al., 2018).

    The ``k`` images of the bank with the highest cosine similarity ``s`` vote
    with weight ``exp(s / temperature)``.

    Args:
        bank (Tensor): ``(N, C)`` floating point.
        labels (Tensor): ``(N, )`` int64, in ``[0, classes)``.
        queries (Tensor): ``(M, C)``.
        k (int): At most ``N``.
        temperature (float): Above 0.

    Returns:
        Tensor: ``(M, )`` int64, the class with most votes, the smaller one
        in a tie.
    """
    check_number('k', k, lambda k: 1 <= k <= len(bank), 'be from 1 to the number of '
                 f'labelled images, {len(bank)}')
    check_number('temperature', temperature, lambda t: t > 0, 'be above 0')
    bank = F.normalize(bank, dim=1)
    num_classes = int(labels.max()) + 1
    predictions = []
    for part in queries.split(QUERIES_AT_A_TIME):
        similarity, nearest = (F.normalize(part, dim=1) @ bank.T).topk(k)
        # Relative to the nearest: no overflow, and the same vote.
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        votes = weights.new_zeros(len(part), num_classes)
        votes.scatter_add_(1, labels[nearest], weights)
        predictions.append(votes.argmax(1))
    return torch.cat(predictions)


def knn_accuracy(train: LabelledFeatures, test: LabelledFeatures, readout: str,
                 k: int = 20, temperature: float = 0.07) -> float:
    """Accuracy in [0, 1] of k-NN on standardised features of one read-out."""
    bank, queries = standardise(train.features[readout], test.features[readout])
    predicted = knn_predict(bank, train.labels, queries, k, temperature)
    return float((predicted == test.labels).double().mean())


def best_knn(train: LabelledFeatures, test: LabelledFeatures, k: int = 20,
             temperature: float = 0.07) -> ReadoutAccuracy:
    """k-NN on the read-out that validation chooses.

    Raises:
        ConfigurationError: If more neighbours are asked for than training images are
            left to choose by.
    """
    fit, held_out = split(train)
    check_number('k', k, lambda k: 1 <= k <= len(fit.labels), (
        f'be from 1 to {len(fit.labels)}: of {len(train.labels)} training images '
        f'{len(held_out.labels)} are held out to choose a read-out'))
    validation = {readout: knn_accuracy(fit, held_out, readout, k, temperature)
                  for readout in train.features}
    readout = max(validation, key=validation.__getitem__)
    return ReadoutAccuracy(
        knn_accuracy(train, test, readout, k, temperature), readout, validation)


def probe_accuracy(train: LabelledFeatures, test: LabelledFeatures,
                   readout: str, strength: float) -> Tuple[float, bool]:
    """Accuracy of scikit-learn's logistic regression, and whether it converged.

    ``strength`` is the inverse of the L2 penalty, above 0.

    Raises:
        ConfigurationError: If scikit-learn is not installed, or the training
            images are all of one class.
    """
    require('sklearn', 'scikit-learn', 'The linear probe')
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits
    if len(train.labels.unique()) < 2:
        raise ConfigurationError(
            'A linear probe tells at least two classes apart, but the '
            f'{len(train.labels)} images to fit it are of one.')
    bank, queries = standardise(train.features[readout], test.features[readout])
    probe = LogisticRegression(C=strength, max_iter=PROBE_ITERATIONS)
    # Its matrices are small: a second thread only waits for the first.
    with threadpool_limits(1, user_api='blas'), warnings.catch_warnings():
        warnings.simplefilter('ignore', ConvergenceWarning)  # one line at the end
        probe.fit(bank.numpy(), train.labels.numpy())
    accuracy = float(probe.score(queries.numpy(), test.labels.numpy()))
    return accuracy, max(probe.n_iter_) < PROBE_ITERATIONS


def best_probe(train: LabelledFeatures, test: LabelledFeatures,
               strengths: Sequence[float] = PROBE_STRENGTHS) -> ReadoutAccuracy:
    """Linear probe on the read-out and with the penalty of best validation.

    Logs one line if some fits did not converge, and whether the final one did.
    """
    fit, held_out = split(train)
    fits = {(readout, strength): probe_accuracy(fit, held_out, readout, strength)
            for readout in train.features for strength in strengths}
    # Accuracy decides, of equals the first one.
    chosen, strength = max(fits, key=lambda setting: fits[setting][0])
    accuracy, converged = probe_accuracy(train, test, chosen, strength)
    unfinished = [f'{readout} at strength {strength:g}'
                  for (readout, strength), (_, done) in fits.items() if not done]
    if unfinished or not converged:
        warn(f'Linear probe: {len(unfinished)} of {len(fits)} fits to choose by did '
             f'not converge in {PROBE_ITERATIONS} iterations'
             + (f' ({listed(unfinished, 3)})' if unfinished else '')
             + f'; the final one did{"" if converged else " not either"}.')
    return ReadoutAccuracy(accuracy, chosen, {
        readout: max(fits[readout, strength][0] for strength in strengths)
        for readout in train.features})


def split(data: LabelledFeatures, seed: int = 0
          ) -> Tuple[LabelledFeatures, LabelledFeatures]:
    """Two parts of labelled features at random: to fit, and to choose by.

    Raises:
        ConfigurationError: If there are so few images that none is held out.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(data.labels), generator=generator)
    cut = round(HELD_OUT * len(order))
    if cut < 1:
        raise ConfigurationError(
            f'A quarter of the training images is held out to choose a read-out, which '
            f'takes at least 3 images, but there are {len(order)}.')
    fit, held_out = (
        LabelledFeatures({name: values[part] for name, values in data.features.items()},
                         data.labels[part])
        for part in (order[cut:], order[:cut]))
    return fit, held_out
