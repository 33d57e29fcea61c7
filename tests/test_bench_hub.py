"""Datasets from the hub, against a server on this machine: fetched once, pinned, checked, found offline; every refusal says what to do."""
import hashlib, json, os, socket, subprocess, sys, warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('huggingface_hub', reason='huggingface_hub (extra `hub`) is not installed')

from calibrax.bench.datasets import BenchmarkDataset, Sample, verify_manifest, write_manifest
from calibrax.bench.hub import dataset_info, download_split, fetch_manifest, list_splits, offline_reason, resolve_revision
from calibrax.bench.tasks import TaskSpec, register_task
from calibrax.core.errors import ConfigError, DownloadError, ManifestError
from hub_server import Repository, hub_server

register_task(TaskSpec(task='toy_hub', display_name='Toy', primary_metric='rmse', direction='lower'))
OWN = ('CALIBRAX_OFFLINE', 'HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE', 'CALIBRAX_CACHE_DIR', 'http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'HF_TOKEN')


def sample(i, factor=1): return Sample(id=f's{i}', inputs={'x': np.full((9, 9), factor*i, np.float32)}, targets={'y': np.float64(i*i)}, scene=f'room{i//3}', phase='clean', difficulty='easy')

def split_files(folder, split, *, factor=1, per_shard=None, files=True, count=6):
    "What lies in a repository for one split"
    place = folder/f'{split}-{factor}-{per_shard}-{files}'
    path = write_manifest([sample(i, factor) for i in range(count)], place, task='toy_hub', name='rooms', split=split, per_shard=per_shard)
    manifest = json.loads(path.read_text())
    if not files: manifest['files'] = {}
    path.unlink()
    found = {p.relative_to(place).as_posix(): p.read_bytes() for p in place.rglob('*') if p.is_file()}
    return {**found, f'manifests/toy_hub/{split}.json': json.dumps(manifest).encode()}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    for name in OWN: monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', False)       # as it was when the library was loaded
    monkeypatch.setenv('HF_HOME', str(tmp_path/'hf'))
    repository = Repository('ada/rooms', {**split_files(tmp_path/'made', 'easy'), **split_files(tmp_path/'made', 'hard', per_shard=2), 'README.md': b'# Rooms', 'other/large.bin': b'0'*9999})
    with hub_server(repository, Repository('ada/gated', {'manifests/toy_hub/easy.json': b'{}'}), Repository('ada/empty', {'README.md': b''})) as server:
        server.repository, server.place = repository, {'cache_dir': tmp_path/'cache', 'endpoint': server.url}
        yield server

def asked(hub, kind=''):
    found = [f'{m} {p}' for m, p in hub.asked if kind in p]
    hub.asked.clear()
    return found

def refused(error, *words, action, hint=''):
    with pytest.raises(error) as e: action()
    for word in words: assert word in e.value.message, e.value.message
    assert e.value.hint and hint in e.value.hint, e.value.hint
    assert type(e.value).__module__ == 'calibrax.core.errors'
    return e.value

def blobs(hub): return sorted(hashlib.sha1(p.read_bytes()).hexdigest() for p in Path(hub.place['cache_dir']).glob('datasets--*/blobs/*') if p.is_file())


def test_download_and_find_again(hub):
    path = download_split('toy_hub', 'easy', repo='ada/rooms', **hub.place)
    first = asked(hub, 'resolve')
    assert len([a for a in first if a.startswith('GET')]) == 1 + 6 and not any('README' in a or 'large' in a or 'shards' in a for a in first)      # only what the split needs
    dataset = BenchmarkDataset.from_manifest(path, verify=True)
    assert len(dataset) == 6 and dataset.revision == hub.repository.names['main'] and dataset[4].input('x')[0, 0] == 4 and dataset[4].target('y') == 16
    assert download_split('toy_hub', 'easy', repo='ada/rooms', **hub.place) == path
    assert asked(hub) == ['GET /api/datasets/ada/rooms/revision/main']          # which commit is it now? and no data
    assert verify_manifest(path).ok


def test_shards(hub):
    path = download_split('toy_hub', 'hard', repo='ada/rooms', **hub.place)
    assert len(asked(hub, 'shards')) == 2*3 and [s.id for s in BenchmarkDataset.from_manifest(path)] == [f's{i}' for i in range(6)]


def test_a_limit_fetches_what_it_needs(hub):
    path = download_split('toy_hub', 'easy', repo='ada/rooms', limit=2, **hub.place)
    assert len([a for a in asked(hub, 'resolve') if a.startswith('GET')]) == 1 + 2
    assert BenchmarkDataset.from_manifest(path).take(2)[1].id == 's1'
    download_split('toy_hub', 'easy', repo='ada/rooms', **hub.place)
    assert len([a for a in asked(hub, 'resolve') if a.startswith('GET')]) == 4


def test_a_pinned_revision_stays(hub, tmp_path):
    old = hub.repository.names['main']
    path = download_split('toy_hub', 'easy', repo='ada/rooms', **hub.place)
    new = hub.repository.commit({**hub.repository.commits[old], **split_files(tmp_path/'made', 'easy', factor=10)})
    hub.repository.names['v1'] = old
    asked(hub)
    assert download_split('toy_hub', 'easy', repo='ada/rooms', revision=old, **hub.place) == path and not asked(hub)       # nobody is asked
    newer = BenchmarkDataset.from_manifest(download_split('toy_hub', 'easy', repo='ada/rooms', **hub.place))
    older = BenchmarkDataset.from_manifest(download_split('toy_hub', 'easy', repo='ada/rooms', revision='v1', **hub.place))
    assert (newer.revision, older.revision) == (new, old) and newer[2].input('x')[0, 0] == 20 and older[2].input('x')[0, 0] == 2 and newer.identity != older.identity


@pytest.mark.parametrize('variable', ['CALIBRAX_OFFLINE', 'HF_HUB_OFFLINE'])
def test_offline(hub, monkeypatch, variable):
    path = download_split('toy_hub', 'easy', repo='ada/rooms', **hub.place)
    asked(hub)
    monkeypatch.setenv(variable, '1')
    assert offline_reason() == variable
    assert download_split('toy_hub', 'easy', repo='ada/rooms', **hub.place) == path == Path(fetch_manifest('ada/rooms', 'toy_hub', 'easy', **hub.place))
    assert dataset_info(repo='ada/rooms', task='toy_hub', split='easy', **hub.place).bytes > 0 and list_splits('ada/rooms', **hub.place) == {'toy_hub': ['easy']}
    refused(DownloadError, 'manifests/toy_hub/hard.json', variable, hint=f'unset {variable}', action=lambda: download_split('toy_hub', 'hard', repo='ada/rooms', **hub.place))
    refused(DownloadError, "'v2'", variable, action=lambda: download_split('toy_hub', 'easy', repo='ada/rooms', revision='v2', **hub.place))
    refused(DownloadError, 'ada/other', variable, action=lambda: download_split('toy_hub', 'easy', repo='ada/other', **hub.place))
    next(Path(path).parents[2].rglob('*.npy')).unlink()
    refused(DownloadError, '.npy', variable, action=lambda: download_split('toy_hub', 'easy', repo='ada/rooms', **hub.place))
    assert not asked(hub)


def test_without_a_network(hub, monkeypatch):
    path = download_split('toy_hub', 'easy', repo='ada/rooms', **hub.place)
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        nowhere = {**hub.place, 'endpoint': f'http://127.0.0.1:{s.getsockname()[1]}'}
        assert download_split('toy_hub', 'easy', repo='ada/rooms', **nowhere) == path          # what main was last time, all of it in the cache
        refused(DownloadError, 'cannot be reached', hint='network', action=lambda: resolve_revision('ada/other', **nowhere))
        refused(DownloadError, 'hard.json', 'cannot be reached', hint='network', action=lambda: download_split('toy_hub', 'hard', repo='ada/rooms', **nowhere))
    assert len(BenchmarkDataset.from_manifest(download_split('toy_hub', 'hard', repo='ada/rooms', **hub.place))) == 6        # it is back


def test_no_such_thing(hub):
    def fetch(repo='ada/rooms', task='toy_hub', split='easy', **more): return lambda: download_split(task, split, repo=repo, **{**hub.place, **more})
    refused(DownloadError, 'no dataset ada/cubes', '404', hint='owner and name', action=fetch('ada/cubes'))
    refused(DownloadError, "no revision 'v9'", hint='branch', action=fetch(revision='v9'))
    refused(DownloadError, 'no revision', action=fetch(revision='0'*40))
    refused(DownloadError, "'medium'", hint='its splits are easy, hard', action=fetch(split='medium'))
    refused(DownloadError, "'depth'", hint='it has manifests for toy_hub', action=fetch(task='depth'))
    refused(DownloadError, 'no manifest', hint='no manifests at all', action=fetch('ada/empty'))
    refused(DownloadError, 'open only to those', hint='HF_TOKEN', action=fetch('ada/gated'))
    for name in ('a b', '', 'a/b/c', None, '../x', 3): refused(DownloadError, 'no name of a repository', action=fetch(name))
    for named in ({'split': '../x'}, {'task': 'a/b'}, {'split': ''}, {'task': None}, {'workers': 0}, {'limit': 0}, {'limit': True}): refused(ConfigError, next(iter(named)), action=fetch(**named))
    refused(ConfigError, action=lambda: dataset_info()), refused(ConfigError, action=lambda: dataset_info('x', repo='y')), refused(ConfigError, action=lambda: dataset_info(repo='ada/rooms'))


def test_a_file_that_is_not_what_the_manifest_says(hub):
    victim = next(p for p in hub.repository.commits[hub.repository.names['main']] if p.endswith('000003.npy'))
    files = hub.repository.commits[hub.repository.names['main']]
    good = files[victim]
    files[victim] = good[:-1] + b'?'        # of the same size
    error = refused(DownloadError, victim, 'SHA-256', hint='removed', action=lambda: download_split('toy_hub', 'easy', repo='ada/rooms', **hub.place))
    assert error.details['expected'] == hashlib.sha256(good).hexdigest() and error.details['found'] == hashlib.sha256(files[victim]).hexdigest()
    assert hashlib.sha1(files[victim]).hexdigest() not in blobs(hub) and not list(Path(hub.place['cache_dir']).rglob('000003.npy'))
    files[victim] = good + b'more'
    refused(DownloadError, victim, f'{len(good) + 4:,} bytes', action=lambda: download_split('toy_hub', 'easy', repo='ada/rooms', **hub.place))
    assert not list(Path(hub.place['cache_dir']).rglob('000003.npy'))
    files[victim] = good
    assert verify_manifest(download_split('toy_hub', 'easy', repo='ada/rooms', **hub.place)).ok


def test_a_file_that_the_repository_lacks(hub):
    files = hub.repository.commits[hub.repository.names['main']]
    del files[next(p for p in files if p.endswith('000003.npy'))]
    refused(DownloadError, '000003.npy', '404', hint='authors', action=lambda: download_split('toy_hub', 'easy', repo='ada/rooms', **hub.place))


def test_an_answer_that_is_cut_off_is_not_kept(hub):
    files = hub.repository.commits[hub.repository.names['main']]
    victim = next(p for p in files if p.endswith('000003.npy'))
    hub.replaced[victim] = files[victim][:100]
    refused(DownloadError, victim, action=lambda: download_split('toy_hub', 'easy', repo='ada/rooms', **hub.place))
    assert not list(Path(hub.place['cache_dir']).rglob('000003.npy'))


def test_a_server_that_is_out_of_order(hub, monkeypatch):
    hub.failing = 500
    refused(DownloadError, '500', hint='later', action=lambda: fetch_manifest('ada/rooms', 'toy_hub', 'easy', **hub.place))
    hub.failing = 401
    refused(DownloadError, action=lambda: fetch_manifest('ada/rooms', 'toy_hub', 'easy', **hub.place))


def test_manifests_that_are_wrong(hub):
    files = hub.repository.commits[hub.repository.names['main']]
    files['manifests/toy_hub/medium.json'] = files['manifests/toy_hub/easy.json']
    refused(ManifestError, "'easy'", action=lambda: fetch_manifest('ada/rooms', 'toy_hub', 'medium', **hub.place))
    files['manifests/toy_hub/bad.json'] = b'{"version": 1,'
    refused(ManifestError, 'bad.json', action=lambda: fetch_manifest('ada/rooms', 'toy_hub', 'bad', **hub.place))
    evil = json.loads(files['manifests/toy_hub/easy.json'])
    evil['samples'][0]['inputs']['x'] = '../../../../evil.npy'
    files['manifests/toy_hub/evil.json'] = json.dumps({**evil, 'split': 'evil'}).encode()
    refused(ManifestError, 'samples[0].inputs.x', 'leads out', action=lambda: download_split('toy_hub', 'evil', repo='ada/rooms', **hub.place))


def test_info_needs_no_data(hub):
    info = dataset_info(repo='ada/rooms', task='toy_hub', split='hard', **hub.place)
    assert (len(info.manifest.samples), info.scenes, info.revision, info.source) == (6, 2, hub.repository.names['main'], 'ada/rooms')
    assert info.bytes == sum(len(d) for p, d in hub.repository.commits[info.revision].items() if p.startswith('shards/')) and not asked(hub, 'shards')
    assert 'shards' in repr(info) and '<table>' in info._repr_html_() and ('samples', '6') in info.table().rows


def test_sizes_come_from_the_hub_where_the_manifest_has_none(hub, tmp_path):
    files = split_files(tmp_path/'made', 'plain', files=False)
    hub.repository.commit({**hub.repository.commits[hub.repository.names['main']], **files})
    info = dataset_info(repo='ada/rooms', task='toy_hub', split='plain', **hub.place)
    assert info.bytes == sum(len(d) for p, d in files.items() if p.endswith('.npy')) and not any('.npy' in a for a in asked(hub))
    assert len(BenchmarkDataset.from_manifest(download_split('toy_hub', 'plain', repo='ada/rooms', **hub.place))) == 6


def test_the_cache_is_calibrax_own(hub, tmp_path, monkeypatch):
    monkeypatch.setenv('CALIBRAX_CACHE_DIR', str(tmp_path/'own'))
    path = download_split('toy_hub', 'easy', repo='ada/rooms', endpoint=hub.url)
    assert path.is_relative_to(tmp_path/'own'/'hub')


def test_a_cache_that_cannot_be_written(hub, tmp_path):
    (tmp_path/'file').write_text('x')
    refused(DownloadError, action=lambda: download_split('toy_hub', 'easy', repo='ada/rooms', endpoint=hub.url, cache_dir=tmp_path/'file'))


def test_nothing_is_printed_and_bars_are_as_before(hub, capfd):
    from huggingface_hub.utils import are_progress_bars_disabled
    before = are_progress_bars_disabled()
    download_split('toy_hub', 'easy', repo='ada/rooms', progress=False, **hub.place)
    assert capfd.readouterr().err == '' and are_progress_bars_disabled() == before
    download_split('toy_hub', 'hard', repo='ada/rooms', progress=True, **hub.place)
    assert 'ada/rooms hard' in capfd.readouterr().err


def test_without_the_library(tmp_path):
    code = f'''import sys
sys.modules["huggingface_hub"] = None
from calibrax.bench.hub import download_split
from calibrax.core.errors import DownloadError
try: download_split("t", "s", repo="ada/rooms", cache_dir={str(tmp_path)!r})
except DownloadError as e: print(e.hint)'''
    assert 'calibrax[hub]' in subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout


def test_several_threads_at_once_leave_warnings_as_they_were(hub):
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool: found = list(pool.map(lambda split: download_split('toy_hub', split, repo='ada/rooms', **hub.place), ['easy', 'hard']*2))
    assert warnings.filters == before and all(verify_manifest(p).ok for p in found) and found[:2] == found[2:]


def test_several_processes_at_once(hub):
    code = f'''from calibrax.bench.hub import download_split
print(download_split("toy_hub", "easy", repo="ada/rooms", cache_dir={str(hub.place["cache_dir"])!r}, endpoint={hub.url!r}))'''
    running = [subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True, env={**os.environ}) for _ in range(3)]
    found = {p.communicate(timeout=60)[0].strip() for p in running}
    assert len(found) == 1 and verify_manifest(found.pop()).ok
