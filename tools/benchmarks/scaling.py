"""On paper: how a pre-training run scales from one GPU to hundreds.

Nothing here is measured. Every number follows from the sizes of the config and
the assumptions of :class:`Cluster` by the formulas below, so that a measured
throughput or another network can be put in.
"""
from typing import List, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from .cost import IMAGENET_IMAGES

GRADIENT_BYTES = 4  # DDP sums float32 gradients, also under mixed precision
WEIGHT_BYTES = 2  # what FSDP gathers: weights cast for mixed precision
# AdamW in float32: weight, gradient, two moments.
STATE_BYTES = 16


class Cluster(NamedTuple):
    """Assumptions about the machines.

    Attributes:
        images_per_s (float): Clean images a second that one GPU trains alone.
        gpus_per_node (int): GPUs of a machine.
        node_gbit (float): Network of a machine, Gbit/s, each direction.
        gpu_gbyte (float): Links between the GPUs of a machine, GB/s a GPU,
            each direction.
        share (float): Of the nominal rates that collectives reach.
        latency_us (float): Of one message between machines.
        overlap (float): Share of the backward pass that hides exchanges.
        jitter (float): Time lost to waiting for the slowest process, as share
            of the step, when the number of GPUs doubles.
        image_kb (float): Average size of an image file.
        core_images_per_s (float): Images a second that one CPU core decodes.
    """
    images_per_s: float = 1000.
    gpus_per_node: int = 8
    node_gbit: float = 200.
    gpu_gbyte: float = 250.
    share: float = 0.7
    latency_us: float = 10.
    overlap: float = 0.8
    jitter: float = 0.002
    image_kb: float = 110.
    core_images_per_s: float = 1000.


def trained_numbers(cfg: Config) -> int:
    """Trained parameters of a config's model."""
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    with torch.device('meta'):  # shapes without the memory
        model = MODELS.build(cfg.model)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def ring_seconds(message: float, gpus: int, cluster: Cluster,
                 passes: float) -> float:
    """Time to exchange a message among all GPUs, in two levels of rings.

    Inside a machine every GPU sends ``passes * (k - 1) / k`` of the message.
    Between machines each of the ``k`` GPUs owns a k-th part, which goes around
    the machines: together ``passes * (m - 1) / m`` of the message leave a
    machine.

    Args:
        message (float): Bytes.
        gpus (int): How many.
        cluster (Cluster): Assumptions.
        passes (float): 2 for an all-reduce, 1 for a gather or a scatter.
    """
    inside = min(gpus, cluster.gpus_per_node)
    machines = max(gpus // cluster.gpus_per_node, 1)
    seconds = passes * message * (inside - 1) / inside / (
        cluster.gpu_gbyte * 1e9 * cluster.share)
    seconds += passes * message * (machines - 1) / machines / (
        cluster.node_gbit / 8 * 1e9 * cluster.share)
    return seconds + passes * (machines - 1) * cluster.latency_us * 1e-6


def whole_groups(cfg: Config, gpus: int) -> bool:
    """Whether the recipe's batch gives every GPU whole groups of images."""
    mixing = cfg.model.get('data_preprocessor') or {}
    group = round(1 / mixing.get('mix_ratio', 1))
    return cfg.auto_scale_lr.base_batch_size % (gpus * group) == 0


def scaling(cfg: Config, cluster: Cluster, gpu_counts: List[int]) -> List[dict]:
    """A row for each number of GPUs, at the batch of the config's recipe.

    - *step*: the batch's share at ``images_per_s``.
    - *sent*: DDP exchanges 4 bytes a trained parameter in an all-reduce; each
      GPU sends ``2 (g - 1) / g`` times that. FSDP gathers 2 bytes a parameter
      twice (forward, backward) and scatters 4 once.
    - *exposed*: what of the exchange the backward pass (two thirds of a step)
      does not hide.
    - *efficiency*: step / (step + exposed + jitter · log2(g) · step).

    Returns:
        list[dict]: ``gpus``, ``images_a_gpu``, ``step_ms``, ``sent_mb``,
        ``exchange_ms``, ``efficiency_percent``, ``images_per_s``, ``days`` (of
        the whole schedule on ImageNet), ``storage_gb_s``, ``cores_a_gpu``,
        ``state_gb`` (weights, gradients and AdamW a GPU).
    """
    numbers = trained_numbers(cfg)
    sharded = cfg.get('runner_type') == 'FlexibleRunner'
    batch = cfg.auto_scale_lr.base_batch_size
    rows = []
    for gpus in gpu_counts:
        images = batch / gpus
        step = images / cluster.images_per_s
        parts = [(GRADIENT_BYTES, 2)]
        if sharded:
            parts = [(WEIGHT_BYTES, 2), (GRADIENT_BYTES, 1)]
        sent = sum(size * passes * numbers * (gpus - 1) / gpus
                   for size, passes in parts)
        exchange = sum(ring_seconds(size * numbers, gpus, cluster, passes)
                       for size, passes in parts)
        exposed = max(0., exchange - cluster.overlap * step * 2 / 3)
        doublings = (gpus - 1).bit_length()
        real = step * (1 + cluster.jitter * doublings) + exposed
        rate = batch / real
        rows.append(dict(
            gpus=gpus,
            images_a_gpu=images,
            step_ms=1e3 * step,
            sent_mb=sent / 1e6,
            exchange_ms=1e3 * exchange,
            efficiency_percent=100 * step / real,
            images_per_s=rate,
            days=cfg.train_cfg.max_epochs * IMAGENET_IMAGES / rate / 86400,
            storage_gb_s=rate * cluster.image_kb / 1e6,
            cores_a_gpu=rate / gpus / cluster.core_images_per_s,
            state_gb=STATE_BYTES * numbers / (gpus if sharded else 1) / 1e9))
    return rows
