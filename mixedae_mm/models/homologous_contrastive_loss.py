"""The homologous contrastive loss (Eq. 7)."""
from math import inf

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

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
        temperature (float): :math:`\tau`, at least 0.001, below which
            gradients leave the range of numbers. Defaults to 0.25.
        positives (str): ``'separate'``, every positive on its own (the
            default), or ``'mean'``, one positive that is the average feature
            of the anchor and all its homologous patches (Table 3c).

    Raises:
        ConfigurationError: For a temperature out of range or an unknown kind
            of positives.
    """
    POSITIVES = ('separate', 'mean')

    def __init__(self,
                 temperature: float = 0.25,
                 positives: str = 'separate') -> None:
        super().__init__()
        check_number('temperature', temperature, lambda tau: 1e-3 <= tau < inf,
                     'be a number of at least 0.001')
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
            ConfigurationError: If no patch can have a positive.
        """
        num_patches = features.size(1)
        if num_patches <= num_sources:
            raise ConfigurationError(
                f'With {num_patches} patches from {num_sources} sources no '
                'patch has a homologous one to contrast with; use larger '
                'images, smaller patches or a larger mix_ratio.')
        # Autocast would take the matrix products back to half precision.
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(
                torch.promote_types(features.dtype, torch.float32))
            directions = F.normalize(features, dim=-1)
            logits = (directions / self.temperature) @ directions.mT
            # j != l: the anchor is not in its own denominator.
            logits.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
            log_denominator = logits.logsumexp(dim=-1)  # (S, L)

            membership = F.one_hot(mix_mask, num_sources).to(features.dtype)
            share = membership.sum(1, keepdim=True)  # (S, 1, n)
            num_positives = (membership * share).sum(-1) - 1  # (S, L)
            if self.positives == 'separate':
                # The mean of cosines is the cosine with the summed
                # directions, so no (L, L) matrix of positives is needed.
                source_sum = membership @ (membership.mT @ directions)
                similarity = (directions * (source_sum - directions)).sum(-1)
                similarity = similarity / num_positives.clamp(min=1)
            else:
                source_mean = membership @ (
                    membership.mT @ features / share.mT.clamp(min=1))
                similarity = F.cosine_similarity(
                    features, source_mean, dim=-1)
            loss = log_denominator - similarity / self.temperature
            has_positive = (num_positives > 0).to(loss.dtype)
            return (loss * has_positive).sum() / has_positive.sum()

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}, positives={self.positives}'
