"""What happens to runs that are done harm."""
import pytest

from reliability import fault_harness as fault_test
from reliability.fault_harness import FAULTS, NotTried, Outcome, Runs

# What must have happened to each, beside the messages that it names itself.
HAPPENED = dict(
    full_disk=['exit status 0', 'bit for bit'],
    truncated_checkpoint=['exit status -9; resumed: 0', 'bit for bit'],
    sigterm=['exit status 75; resumed: 0', 'bit for bit'],
    sigusr1=['exit status 75; resumed: 0', 'bit for bit'],
    dead_worker=['exit status 1; resumed: 0', 'bit for bit'],
    nan_loss=['exit status 1'],
    corrupt_images=['(1 %): exit status 2', 'max_bad_share=0.1: exit status 0'],
    awkward_images=[
        'exit status 0', 'an animation: used, 40 x 40', '1 x 1 pixel: used, 1 x 1',
        '20000 x 3 pixels: used, 20000 x 3', 'CMYK: used', 'called .jpg: used',
        'a text that is called .jpg: skipped', 'no bytes: skipped',
        'half a JPEG: skipped', 'half a PNG: skipped', 'in a small file: skipped'])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """One for all, so that they share the unharmed run."""
    return tmp_path_factory.mktemp('faults')


@pytest.mark.slow
@pytest.mark.parametrize('name', FAULTS)
def test_fault(folder, name):
    (folder / name).mkdir()
    try:
        outcome = FAULTS[name](Runs(str(folder / name)))
    except NotTried as reason:
        pytest.skip(str(reason))
    happened = '\n'.join(outcome.happened)
    for text in HAPPENED[name]:
        assert text in happened, outcome.said
    assert not outcome.missing, outcome.said


def test_silence_is_a_failure(capsys, monkeypatch):
    def silent(runs):
        """Nothing is said."""
        return Outcome(['it ended'], '11/24 13:00:00 - mmengine - WARNING - a\n',
                       ['a', 'b'])

    monkeypatch.setattr(fault_test, 'FAULTS', dict(silent=silent))
    assert fault_test.main([]) == 1
    said = capsys.readouterr().out
    assert '| WARNING - a\n' in said and 'nothing was said of "b"' in said
