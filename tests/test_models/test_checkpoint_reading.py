"""Checkpoint files are read as data, wherever they are."""
import pickle
from argparse import Namespace
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import dist, fileio
from mmengine.logging import MessageHub
from strangers import Malicious
from web import Server, served

from mixedae_mm.models import checkpoint_pickle, checkpoint_reading
from mixedae_mm.models.checkpoint_reading import read_checkpoint, read_weights
from mixedae_mm.utils.checkpoint_files import StandIn
from mixedae_mm.utils.errors import ConfigurationError


def by_restricted_pickle(file):
    """The way of PyTorch before 2.6, which newer ones can go too."""
    return torch.load(file, map_location='cpu', weights_only=False,
                      pickle_module=checkpoint_pickle.DataOnlyPickle)


@pytest.fixture(params=['weights_only', 'restricted_pickle'])
def either_way(request, monkeypatch):
    if request.param == 'restricted_pickle':
        monkeypatch.setattr(checkpoint_reading, 'unpickle', by_restricted_pickle)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


FORMS = {
    'zip': lambda saved, path: torch.save(saved, path),
    'old format': lambda saved, path: torch.save(
        saved, path, _use_new_zipfile_serialization=False),
    'bare pickle': lambda saved, path: path.write_bytes(pickle.dumps(saved)),
    'inside a list': lambda saved, path: torch.save([saved], path),
}


@pytest.mark.parametrize('name', ['malicious.pth', 'malicious.safetensors'])
@pytest.mark.parametrize('form', FORMS)
def test_code_in_a_checkpoint_is_not_run(folder, either_way, form, name):
    FORMS[form](dict(state_dict={'a': torch.ones(1)}, meta=Malicious()), folder / name)
    with pytest.raises(ConfigurationError, match=f'{name} (was not loaded because that '
                       'would run code|is not a readable)'):
        read_checkpoint(name)
    assert not Path('executed').exists()


def test_getattr_of_log_buffers_is_a_stand_in(either_way):
    """mmengine's files name getattr; nothing is ever looked up with it."""

    class Lookup:

        def __reduce__(self):
            return getattr, (torch.Size, 'numel')

    torch.save(dict(a=Lookup(), b=torch.ones(1)), 'a.pth')
    assert isinstance(read_checkpoint('a.pth')['a'], StandIn)


def test_plain_data_is_read_either_way(either_way):
    """Whatever a schedule, an optimizer or a log may keep beside the weights."""
    plain = dict(
        weight=torch.nn.Parameter(torch.ones(2)), half=torch.ones(2).half(),
        milestones=Counter([9, 11]), dtype=torch.bfloat16, size=torch.Size([2]),
        device=torch.device('cpu'), ranks={0, 1}, phase=1j,
        nested=[(None, True, 1.5, 'a')], ordered=OrderedDict(a=1))
    torch.save(plain, 'plain.pth')
    read = read_checkpoint('plain.pth')
    for name in ('weight', 'half'):
        torch.testing.assert_close(read.pop(name), plain.pop(name), rtol=0, atol=0)
    assert read == plain


def test_a_runners_checkpoint_is_read_either_way(either_way):
    hub = MessageHub.get_instance('checkpoint_reading')
    hub.update_scalar('train/loss', 0.5)
    hub.update_scalar('train/lr', np.float32(1e-3))
    hub.update_info('table', np.arange(3.))
    torch.save(
        dict(meta=dict(iter=10), state_dict=dict(a=torch.ones(2)),
             message_hub=hub.state_dict()), 'run.pth')
    assert torch.equal(read_weights('run.pth')['a'], torch.ones(2))
    assert read_checkpoint('run.pth')['meta']['iter'] == 10


@pytest.mark.parametrize('key', ['state_dict', 'model', 'teacher', 'module'])
@pytest.mark.parametrize('wrapper', ['', 'module.', '_orig_mod.', 'module._orig_mod.'])
def test_weights_are_found_where_scripts_keep_them(either_way, key, wrapper):
    """Beside what Meta's training scripts save: optimizer and arguments."""
    weights = {f'{wrapper}a': torch.ones(2), f'{wrapper}b': torch.zeros(1)}
    torch.save({key: weights, 'optimizer': dict(state={}), 'epoch': 3,
                'scaler': dict(scale=1.), 'args': Namespace(lr=1e-3)}, 'script.pth')
    read = read_weights('script.pth')
    assert read.keys() == {'a', 'b'} and torch.equal(read['a'], torch.ones(2))


@pytest.mark.parametrize('key', ['state_dict', 'model', 'teacher'])
def test_the_advice_of_a_refusal_is_true(either_way, key):
    """The command that it recommends makes a file that can be read."""
    torch.save({key: dict(a=torch.ones(2)), 'args': Path('a')}, 'script.pth')
    with pytest.raises(ConfigurationError, match='pathlib') as error:
        read_checkpoint('script.pth')
    advice = str(error.value)
    exec(advice[advice.index('from mixedae_mm'):].rstrip('.'), dict(torch=torch))
    assert torch.equal(read_weights('weights.pth')['a'], torch.ones(2))


def test_files_that_are_no_checkpoint(folder):
    torch.save(dict(a=torch.ones(300)), 'whole.pth')
    whole, bad = (folder / 'whole.pth').read_bytes(), folder / 'bad.pth'
    for content in (b'', b'hello', whole[:1000], whole[:-100]):
        bad.write_bytes(content)
        with pytest.raises(ConfigurationError, match='bad.pth is not a readable'):
            read_checkpoint('bad.pth')
    bad.unlink()
    for saved, message in ((None, 'bad.pth does not exist'),
                           (torch.ones(2), 'holds a Tensor'),
                           (dict(meta={}), 'holds no weights'),
                           (dict(a=torch.tensor([1, torch.nan]), b=torch.ones(1)),
                            r'NaN or infinite values in 1 of 2 tensors \(a first')):
        if saved is not None:
            torch.save(saved, bad)
        with pytest.raises(ConfigurationError, match=message):
            read_weights('bad.pth')
    with pytest.raises(ConfigurationError, match='is a folder'):
        read_checkpoint('.')
    with pytest.raises(ConfigurationError, match='needs the path of a file'):
        read_checkpoint('')


@pytest.fixture
def web(folder, monkeypatch):
    """The address of a server on this machine."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(folder / 'hub'))
    with served() as address:
        yield address


def safetensors_of(value):
    library = pytest.importorskip('safetensors.torch')
    return library.save(dict(a=torch.full((100, ), float(value))))


def test_addresses_that_end_alike_are_two_files(web):
    paths = [f'/{name}/resolve/main/model.safetensors' for name in 'ab']
    for i, path in enumerate(paths):
        Server.content[path] = safetensors_of(i)
    for _ in range(2):
        for i, path in enumerate(paths):
            assert read_checkpoint(f'{web}{path}?download=true')['a'][0] == i
    assert Server.asked == [f'{path}?download=true' for path in paths]  # each once


def test_several_processes_fetch_an_address_once(web):
    Server.content['/a.safetensors'] = safetensors_of(1)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read_checkpoint, [f'{web}/a.safetensors'] * 4))
    assert len(Server.asked) == 1 and all(read['a'][0] == 1 for read in found)


@pytest.mark.parametrize('safe', [True, False])
def test_half_a_download_is_not_kept(web, folder, safe):
    path = '/a.safetensors' if safe else '/a.pth'
    if safe:
        Server.content[path] = safetensors_of(1)
    else:
        torch.save(dict(a=torch.ones(100)), 'a.pth')
        Server.content[path] = (folder / 'a.pth').read_bytes()
    Server.torn.add(path)
    with pytest.raises(ConfigurationError, match=f'{web}{path} is not.*was removed'):
        read_checkpoint(web + path)
    assert read_checkpoint(web + path)['a'][0] == 1


def test_a_failed_download_leaves_nobody_waiting(web, monkeypatch):
    """Each process says it by itself; a barrier would hold the others for good."""
    monkeypatch.setattr(dist, 'barrier', lambda *_: pytest.fail('waits'))
    for rank in ('0', '1'):
        monkeypatch.setenv('LOCAL_RANK', rank)
        with pytest.raises(ConfigurationError, match='gone.pth could not be .*404'):
            read_checkpoint(f'{web}/gone.pth')


def test_other_storage_is_read_through_mmengine(folder, monkeypatch):
    torch.save(dict(a=torch.ones(1)), 'a.pth')
    content = (folder / 'a.pth').read_bytes()
    monkeypatch.setattr(
        fileio, 'get', lambda path: {'s3://bucket/a.pth': content}[path])
    assert read_checkpoint('s3://bucket/a.pth')['a'] == 1
    with pytest.raises(ConfigurationError, match='s3://bucket/b.pth'):
        read_checkpoint('s3://bucket/b.pth')
