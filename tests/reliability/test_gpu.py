"""What only a GPU shows of a run: resuming, DistributedDataParallel, compiling.

For GPUs of compute capability 8.0 or newer, and PyTorch 2.6 or newer.
"""
import pytest

from mixedae_mm.utils.machine import has_recent_gpu, pytorch_is

from .lives import live
from .small_runs import paper, pretraining

pytestmark = [
    pytest.mark.gpu, pytest.mark.slow,
    pytest.mark.skipif(not (has_recent_gpu() and pytorch_is('2.6')),
                       reason='needs a GPU of compute capability 8.0 or newer, and '
                       'PyTorch 2.6 or newer')]


@pytest.mark.parametrize('launcher', ['none', 'pytorch'])
@pytest.mark.parametrize('of', [paper, pretraining])
def test_training_goes_on(tmp_path, of, launcher):
    """Compiled, in bfloat16, with the hooks of the configs; then resumed."""
    cfg = of(str(tmp_path / 'images'))
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.train_cfg = dict(by_epoch=False, max_iters=14)
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint = dict(
        type='SafeCheckpointHook', by_epoch=False, interval=7)
    # Within an accumulation window, where there are some.
    middle = str(tmp_path / 'run/iter_7.pth')
    for options in (('--compile', ), ('--compile', '--resume', middle)):
        life = live(cfg, str(tmp_path / 'run'), launcher=launcher, options=options)
        assert life.statuses == [0], life.said
    assert 'bfloat16' in life.said and 'The first step took' in life.said
    assert 'cannot be compiled' not in life.said
