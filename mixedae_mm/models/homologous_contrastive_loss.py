"""The homologous contrastive loss (Eq. 7)."""
from math import inf

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..mixing import is_shown
from ..utils.checks import check_choice, check_number
from ..utils.errors import ConfigurationError


@MODELS.register_module()
class HomologousContrastiveLoss(nn.Module):
    r"""Pull patches of one source together, inside one mixed sample (Eq. 7).

    For an anchor :math:`l` with positives :math:`P(l)`, all other patches of
    its source,

    .. math::
        \ell_l = -\frac{1}{|P(l)|} \sum_{p \in P(l)} \log
        \frac{\exp(\cos(z_l, z_p) / \tau)}
             {\sum_{j \neq l} \exp(\cos(z_l, z_j) / \tau)}

    averaged over anchors and samples. The paper writes a sum over positives
    and anchors; the averages are those of supervised contrastive learning,
    which it follows. Logits are float32 under mixed precision.

    Args:
        temperature (float): :math:`\tau`, at least 0.001, because gradients
            overflow below that. Defaults to 0.25.
        positives (str): ``'separate'``, every positive on its own (the
            default), or ``'mean'``, one positive that is the average feature
            of the anchor and all its homologous patches (Table 3c).

    Raises:
        ConfigurationError: For a temperature out of range or other positives.
    """
    POSITIVES = ('separate', 'mean')

    def __init__(self,
                 temperature: float = 0.25,
                 positives: str = 'separate') -> None:
        super().__init__()
        check_number('temperature', temperature, lambda tau: 1e-3 <= tau < inf,
                     'be finite and at least 0.001')
        check_choice('positives', positives, self.POSITIVES)
        self.temperature = temperature
        self.positives = positives

    def forward(self, features: Tensor, mix_mask: Tensor,
                num_sources: int) -> Tensor:
        """Loss over the patches of every mixed sample.

        Args:
            features (Tensor): ``(S, L, D)``, projected patch tokens.
            mix_mask (Tensor): ``(S, L)`` int64, source of each patch.
            num_sources (int): ``n``, less than ``L``.

        Returns:
            Tensor: Scalar.

        Raises:
            ConfigurationError: If there are not more patches than sources, so that
                a patch can be the only one of its source.
        """
        num_patches = features.size(1)
        if num_patches <= num_sources:
            raise ConfigurationError(
                f'{num_patches} patches from {num_sources} sources are too few for '
                'the contrastive loss: each is the only one of its source; use larger '
                'images, smaller patches or a larger mix_ratio.')
        # Autocast would take the matrix products back to half precision.
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(
                torch.promote_types(features.dtype, torch.float32))
            directions = F.normalize(features, dim=-1)
            logits = (directions / self.temperature) @ directions.mT  # (S, L, L)
            # j != l: the anchor is not in its own denominator.
            logits.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
            log_denominator = logits.logsumexp(dim=-1)  # (S, L)

            one_hot = is_shown(mix_mask, num_sources).to(features.dtype)  # (S, L, n)
            counts = one_hot.sum(1, keepdim=True)  # (S, 1, n), patches per source
            num_positives = (one_hot * counts).sum(-1) - 1  # (S, L)
            if self.positives == 'separate':
                # The cosines with all positives add up to one product with the sum
                # of their directions; this needs no (L, L) matrix of positives.
                source_sums = one_hot @ (one_hot.mT @ directions)  # (S, L, D)
                positive_sums = source_sums - directions
                mean_positive_cosine = (
                    (directions * positive_sums).sum(-1)
                    / num_positives.clamp(min=1))  # (S, L)
            else:
                source_means = one_hot @ (
                    one_hot.mT @ features / counts.mT.clamp(min=1))  # (S, L, D)
                mean_positive_cosine = F.cosine_similarity(
                    features, source_means, dim=-1)  # (S, L)
            # Eq. 7: -mean_p log(exp(c_p / tau) / sum_j exp(c_j / tau))
            #      = log(sum_j exp(c_j / tau)) - mean_p(c_p) / tau.
            loss = log_denominator - mean_positive_cosine / self.temperature
            has_positive = (num_positives > 0).to(loss.dtype)
            return (loss * has_positive).sum() / has_positive.sum()

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}, positives={self.positives}'
