"""MixedAE written straight from the paper's equations, with loops.

Nothing here is shared with the package: it is what the package is tested
against. Slow, obvious, float64.
"""
import math

import torch


def mix_image(images, mask, patch):
    """Eq. 1 for one group: ``(n, C, H, W)`` images and a mask of ``L``."""
    mixed = torch.empty_like(images[0])
    columns = images.shape[-1] // patch
    for position, source in enumerate(mask.tolist()):
        y, x = divmod(position, columns)
        window = (slice(None), slice(y * patch, (y + 1) * patch),
                  slice(x * patch, (x + 1) * patch))
        mixed[window] = images[source][window]
    return mixed


def unmix(tokens, mask, source, mask_token):
    """Eq. 3 for one source of one mixed sample, ``(L, C)`` tokens."""
    return torch.stack([
        token if owner == source else mask_token
        for token, owner in zip(tokens, mask.tolist())
    ])


def cut(image, patch):
    """Patches of an image ``(C, H, W)`` as ``(L, P * P * C)``."""
    rows, columns = image.shape[1] // patch, image.shape[2] // patch
    return torch.stack([
        torch.stack([
            image[c, y * patch + i, x * patch + j] for i in range(patch)
            for j in range(patch) for c in range(image.shape[0])
        ]) for y in range(rows) for x in range(columns)
    ])


def norm_pixels(patches):
    """MAE's target: each patch by its own mean and standard deviation."""
    out = []
    for patch in patches:
        mean = patch.sum() / len(patch)
        variance = ((patch - mean)**2).sum() / (len(patch) - 1)
        out.append((patch - mean) / torch.sqrt(variance + 1e-6))
    return torch.stack(out)


def reconstruction_loss(decoded, images, masks, patch):
    """Eq. 4, mean over hidden patches.

    Args:
        decoded: ``decoded[s][i]`` is ``(L, P * P * C)``, the decoder's output
            for source ``i`` of mixed sample ``s``.
        images: ``images[s][i]`` is that source's clean image.
        masks: ``(S, L)``.
    """
    errors = []
    for s, mask in enumerate(masks.tolist()):
        for i in range(len(images[s])):
            target = norm_pixels(cut(images[s][i], patch))
            for position, owner in enumerate(mask):
                if owner != i:
                    difference = decoded[s][i][position] - target[position]
                    errors.append((difference**2).mean())
    return sum(errors) / len(errors)


def cosine(a, b):
    return (a * b).sum() / (a.norm() * b.norm())


def contrastive_loss(features, masks, temperature, positives='separate'):
    """Eq. 7: ``(S, L, D)`` features; mean over positives, anchors, samples."""
    losses = []
    for z, mask in zip(features, masks.tolist()):
        for anchor, source in enumerate(mask):
            others = [j for j in range(len(mask)) if j != anchor]
            same = [j for j in others if mask[j] == source]
            if not same:
                continue
            denominator = sum(
                torch.exp(cosine(z[anchor], z[j]) / temperature)
                for j in others)
            if positives == 'separate':
                cosines = [cosine(z[anchor], z[p]) for p in same]
            else:
                average = sum(z[p] for p in same + [anchor]) / (len(same) + 1)
                cosines = [cosine(z[anchor], average)]
            losses.append(
                sum(-torch.log(torch.exp(c / temperature) / denominator)
                    for c in cosines) / len(cosines))
    return sum(losses) / len(losses)


def homologous_attention(query, key, value, topk):
    """Eq. 6 for one head: ``(N, D)`` each; all keys tied at the K-th stay."""
    out = []
    for q in query:
        scores = torch.stack([(q * k).sum() / math.sqrt(len(q)) for k in key])
        threshold = sorted(scores.tolist(), reverse=True)[topk - 1]
        weights = [
            math.e**s if s >= threshold else s * 0 for s in scores
        ]
        total = sum(weights)
        out.append(sum(w / total * v for w, v in zip(weights, value)))
    return torch.stack(out)
