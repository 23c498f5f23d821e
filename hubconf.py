"""Entry points of ``torch.hub``, from a checkout.

>>> encoder = torch.hub.load('.', 'mixedae', source='local', checkpoint='epoch_300.pth')
"""
dependencies = ['torch', 'mmengine', 'mmpretrain']


def mixedae(checkpoint: str, **options):
    """The encoder of a checkpoint, see :func:`mixedae_mm.load`.

    Args:
        checkpoint (str): File, folder or address.
        **options: Of ``mixedae_mm.load``.
    """
    import mixedae_mm
    return mixedae_mm.load(checkpoint, **options)
