"""Checkpoint files are read as data, wherever they are."""
import os
import pickle
from argparse import Namespace
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from mmengine import dist, fileio
from mmengine.logging import MessageHub

from mixedae_mm.models import checkpoint_pickle, checkpoint_reading
from mixedae_mm.models.checkpoint_reading import read_checkpoint, read_weights
from mixedae_mm.utils.errors import ConfigurationError


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target, )


def by_restricted_pickle(file):
    """The way of PyTorch before 2.6, which newer ones can go too."""
    return torch.load(
        file,
        map_location='cpu',
        pickle_module=checkpoint_pickle.DataOnlyPickle,
        weights_only=False)


@pytest.fixture(params=['weights_only', 'restricted_pickle'])
def either_way(request, monkeypatch):
    if request.param == 'restricted_pickle':
        monkeypatch.setattr(checkpoint_reading, 'unpickle',
                            by_restricted_pickle)


@pytest.mark.parametrize('zipped', [True, False])
def test_code_in_a_checkpoint_is_not_run(tmp_path, either_way, zipped):
    target, path = tmp_path / 'executed', tmp_path / 'malicious.pth'
    torch.save(
        dict(state_dict={'a': torch.ones(1)}, meta=Malicious(target)),
        path,
        _use_new_zipfile_serialization=zipped)
    with pytest.raises(
            ConfigurationError,
            match=f'{path} was not loaded because that would run code'):
        read_checkpoint(str(path))
    assert not target.exists()


def test_getattr_of_log_buffers_is_a_stand_in(tmp_path, either_way):
    """mmengine's files name getattr; nothing is ever looked up with it."""

    class Chain:

        def __reduce__(self):
            return getattr, (pickle, 'Pickler')

    path = tmp_path / 'chain.pth'
    with pytest.raises(Exception):  # pickle itself cannot name a module
        torch.save(dict(a=Chain()), path)

    class Lookup:

        def __reduce__(self):
            return getattr, (torch.Size, 'numel')

    torch.save(dict(a=Lookup(), b=torch.ones(1)), path)
    read = read_checkpoint(str(path))
    assert isinstance(read['a'], checkpoint_pickle.Skipped)


def test_plain_data_is_read_either_way(tmp_path, either_way):
    """Whatever a schedule, an optimizer or a log may keep beside the weights."""
    path = tmp_path / 'plain.pth'
    plain = dict(
        weight=torch.nn.Parameter(torch.ones(2)), half=torch.ones(2).half(),
        milestones=Counter([9, 11]), dtype=torch.bfloat16, size=torch.Size([2]),
        device=torch.device('cpu'), ranks={0, 1}, phase=1j,
        nested=[(None, True, 1.5, 'a')], ordered=OrderedDict(a=1))
    torch.save(plain, path)
    read = read_checkpoint(str(path))
    for name in ('weight', 'half'):
        torch.testing.assert_close(read.pop(name), plain.pop(name), rtol=0, atol=0)
    assert read == plain


def test_a_runners_checkpoint_is_read_either_way(tmp_path, either_way):
    hub = MessageHub.get_instance('checkpoint_reading')
    hub.update_scalar('train/loss', 0.5)
    hub.update_scalar('train/lr', np.float32(1e-3))
    hub.update_info('table', np.arange(3.))
    path = str(tmp_path / 'run.pth')
    torch.save(
        dict(meta=dict(iter=10), state_dict=dict(a=torch.ones(2)),
             message_hub=hub.state_dict()), path)
    assert torch.equal(read_weights(path)['a'], torch.ones(2))
    assert read_checkpoint(path)['meta']['iter'] == 10


def of_a_script(path, **weights):
    """What Meta's training scripts save: weights, optimizer and arguments."""
    torch.save(
        dict(weights, optimizer=dict(state={}), epoch=3, scaler=dict(scale=1.),
             args=Namespace(model='mae_vit_base_patch16', lr=1e-3)), path)
    return str(path)


@pytest.mark.parametrize('key', ['state_dict', 'model', 'teacher', 'module'])
@pytest.mark.parametrize('wrapper', ['', 'module.', '_orig_mod.', 'module._orig_mod.'])
def test_weights_are_found_where_scripts_keep_them(tmp_path, either_way, key, wrapper):
    weights = {f'{wrapper}a': torch.ones(2), f'{wrapper}b': torch.zeros(1)}
    path = of_a_script(tmp_path / 'script.pth', **{key: weights})
    read = read_weights(path)
    assert read.keys() == {'a', 'b'} and torch.equal(read['a'], torch.ones(2))


@pytest.mark.parametrize('key', ['state_dict', 'model', None])
def test_the_advice_of_a_refusal_is_true(tmp_path, either_way, monkeypatch, key):
    """The command that it recommends makes a file that can be read."""
    monkeypatch.chdir(tmp_path)
    weights = dict(a=torch.ones(2))
    torch.save(dict(weights if key is None else {key: weights}, args=Path('a')),
               'script.pth')
    with pytest.raises(ConfigurationError) as error:
        read_checkpoint('script.pth')
    advice = str(error.value)
    assert 'pathlib' in advice
    command = advice[advice.index('torch.save('):].rstrip('.')
    exec(command, dict(torch=torch))
    if key is not None:
        assert torch.equal(read_weights('weights.pth')['a'], torch.ones(2))


@pytest.fixture
def web(tmp_path, monkeypatch):
    """Addresses and their content, without a network; and what was fetched."""
    content, fetched = {}, []

    def download(address, destination, **_):
        fetched.append(address)
        if address not in content:
            raise URLError('no route to host')
        Path(destination).write_bytes(content[address])

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    return content, fetched


def test_addresses_that_end_alike_are_two_files(web):
    safetensors = pytest.importorskip('safetensors.torch')
    content, fetched = web
    start = 'https://huggingface.co/'
    for i, name in enumerate(('one', 'two')):
        content[f'{start}{name}/resolve/main/model.safetensors?download=true'] = (
            safetensors.save(dict(a=torch.full((1, ), float(i)))))
    for _ in range(2):
        for i, address in enumerate(content):
            assert read_checkpoint(address)['a'] == i
    assert fetched == list(content)  # each once


def test_several_processes_fetch_an_address_once(web, tmp_path):
    content, fetched = web
    torch.save(dict(a=torch.ones(1)), tmp_path / 'a.pth')
    content['https://host/a.pth'] = (tmp_path / 'a.pth').read_bytes()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read_checkpoint, ['https://host/a.pth'] * 4))
    assert len(fetched) == 1 and all(read['a'] == 1 for read in found)


def test_a_failed_download_leaves_nobody_waiting(web, monkeypatch):
    """Each process says it by itself; a barrier would hold the others for good."""
    monkeypatch.setattr(dist, 'barrier', lambda *_: pytest.fail('waits'))
    for rank in ('0', '1'):
        monkeypatch.setenv('LOCAL_RANK', rank)
        with pytest.raises(ConfigurationError, match='gone.pth.*no route to host'):
            read_checkpoint('https://host/gone.pth')


def test_other_storage_is_read_through_mmengine(tmp_path, monkeypatch):
    torch.save(dict(a=torch.ones(1)), tmp_path / 'a.pth')
    content = (tmp_path / 'a.pth').read_bytes()
    monkeypatch.setattr(
        fileio, 'get', lambda path: {'s3://bucket/a.pth': content}[path])
    assert read_checkpoint('s3://bucket/a.pth')['a'] == 1
    with pytest.raises(ConfigurationError, match='s3://bucket/b.pth'):
        read_checkpoint('s3://bucket/b.pth')


def test_a_folder_is_not_a_checkpoint(tmp_path):
    with pytest.raises(ConfigurationError, match='is a folder'):
        read_checkpoint(str(tmp_path))
