"""Facts about a machine that tells little of itself."""
from pathlib import Path

import torch

from mixedae_mm.utils.machine import machine


def test_a_processor_that_may_not_be_read(monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError

    monkeypatch.setattr(Path, 'read_text', refuse)
    assert isinstance(machine(torch.device('cpu'))['processor'], str)
