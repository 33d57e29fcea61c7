"A store's promises, one by one: names, damage, old formats, baselines, index, disks that refuse, many writers, remote storage."
import errno
import json
import math
import os
import pickle
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest

from calibrax.core.errors import ConfigError, CorruptRunError, NoBaselineError, RecordError, RunNotFoundError, StoreError
from calibrax.core.models import Metric, MetricDef, Point, Run
from calibrax.storage import Store
from calibrax.storage import store as store_module
from calibrax.storage.files import LocalFiles, RemoteFiles
from calibrax.storage.index import RunIndex

LATENCY = MetricDef(name='latency', unit='ms', direction='lower')


def run(id, day=1, value=1.0, *, tags={'framework': 'flax'}, defs={'latency': LATENCY}, **more):
    return Run(id=id, timestamp=datetime(2026, 3, day, 12, tzinfo=UTC), metric_defs=defs, **more,
               points=[Point(name='p', scenario='s', tags=tags, metrics={'latency': Metric(value=value)})])

@pytest.fixture(params=['local', 'elsewhere', 'remote'])
def store(request, tmp_path, monkeypatch):
    "Every promise holds in a folder, where the system has no files without a name, and in object storage (that of fsspec in memory)"
    if request.param == 'elsewhere': monkeypatch.delattr(os, 'O_TMPFILE', raising=False)
    if request.param != 'remote': yield Store(tmp_path/'bench')
    else:
        memory = pytest.importorskip('fsspec').filesystem('memory')
        memory.store.clear(), memory.pseudo_dirs.clear()
        yield Store(f'memory://{tmp_path.name}/bench')

@pytest.fixture(params=['local', 'elsewhere'])
def local(request, tmp_path, monkeypatch):
    if request.param == 'elsewhere': monkeypatch.delattr(os, 'O_TMPFILE', raising=False)
    return Store(tmp_path/'bench')

def put(store, name, data): store._files.replace(name, data if isinstance(data, bytes) else data.encode())
def stored(run): return json.dumps({'schema_version': 1, **run.to_dict()})
def settle(): time.sleep(.25)     # longer than a tick of the file system, so that the index trusts what it saw


# --- saving and loading --------------------------------------------------------------------------------------------------

def test_what_is_saved_comes_back(store):
    first = run('a1', 1, math.nan, environment={'cpu': 'EPYC', 'x': math.inf}, metadata={'label': 'NaN'}, commit='c', branch='b')
    place = store.save(first)
    assert str(place).endswith('runs/20260301T120000.000000Z_a1.json')
    assert store.load('a1') == first and store.list_runs() == [first]

def test_microseconds_and_zones_in_file_names(store):
    zone = datetime(2026, 3, 1, 23, 30, 0, 123456).astimezone()
    store.save(Run(id='x', timestamp=zone, points=[]))
    assert store.load('x').timestamp == zone
    store.save(Run(id='early', timestamp=datetime(1, 1, 1, tzinfo=UTC), points=[]))
    assert [r.id for r in store.list_runs()] == ['x', 'early']

def test_opening_and_reading_create_nothing(tmp_path):
    store = Store(tmp_path/'nowhere')
    assert store.list_runs() == [] and store.get_baseline() is None and store.baselines() == [] and store.metric_names() == []
    assert store.config == {} and store.runs() == [] and store.baseline_history() == [] and store.extract_trend('a', 'b').points == ()
    assert store.fsck().healthy and store.damaged() == [] and 'nowhere: 0 runs' in repr(store)
    for call in (store.latest, lambda: store.load('x'), lambda: store.load('latest'), lambda: store.set_baseline('latest')):
        with pytest.raises(RunNotFoundError, match='No runs in store'): call()
    assert os.listdir(tmp_path) == []

def test_a_file_is_no_store(tmp_path):
    (tmp_path/'file').touch()
    with pytest.raises(StoreError, match='is a file'): Store(tmp_path/'file')

def test_paths_of_all_kinds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path), monkeypatch.setenv('HOME', str(tmp_path))
    store = Store('bench')
    assert store.save(run('a1')) == Path('bench/runs/20260301T120000.000000Z_a1.json') and store.path == Path('bench')
    for same in ('bench', tmp_path/'bench', f'{tmp_path}/bench/', f'file://{tmp_path}/bench', '~/bench'): assert Store(same).latest().id == 'a1'
    monkeypatch.chdir('/')
    assert store.latest().id == 'a1'        # the folder is the one where the store was opened
    assert pickle.loads(pickle.dumps(store)).latest().id == 'a1'

@pytest.mark.parametrize('id', ['', '.', '..', '../../evil', '/etc/passwd', 'a/b', 'a\\b', 'a\0b', 'a\nb', '.hidden', 'a:b', 'a*', 'a?', 'a"', 'a<', 'a>', 'a|',
                                'x'*129, 'é'*65, 'a\x85', 'latest'])
def test_ids_that_are_no_file_name_are_refused(store, id):
    with pytest.raises(StoreError) as e: store.save(run(id))
    assert e.value.hint and store._files.folders('') == []
    if id != 'latest':
        with pytest.raises(StoreError): store.load(id)

@pytest.mark.parametrize('id', ['x'*128, 'é'*64, 'a b', '100%', 'a..b', 'ünï', '日本', "o'brien", 'a_b_c', '20260301T120000.000000Z_x', '{x}', '~'])
def test_other_ids_are_fine(store, id):
    store.save(run(id))
    assert Store(store.path).load(id).id == id and [r.id for r in store.runs()] == [id] and store.fsck().healthy

def test_saving_again(store):
    first = run('a1')
    assert store.save(first) == store.save(first) == Store(store.path).save(first)
    for other in (run('a1', value=2.), run('a1', day=2), run('a1', day=2, value=2.)):
        for who in (store, Store(store.path)):
            with pytest.raises(StoreError, match='a1 exists already'): who.save(other)
    assert len(store.list_runs()) == 1

def test_an_id_is_known_whoever_saved_it(store):
    other = Store(store.path)
    for i in range(5):
        store.save(run(f'a{i}', 1)), other.save(run(f'b{i}', 2))
        with pytest.raises(StoreError): store.save(run(f'b{i}', 3))
        with pytest.raises(StoreError): other.save(run(f'a{i}', 3))
    assert len(store.list_runs()) == len(other.runs()) == 10

def test_an_id_in_a_file_with_another_name_is_known(store):
    put(store, 'runs/nightly.json', stored(run('a1')))
    assert store.save(run('a1')) == store._files.place('runs/nightly.json')
    with pytest.raises(StoreError, match='nightly.json'): store.save(run('a1', day=2))

def test_a_writer_with_an_old_view_overwrites_nothing(store):
    store.save(run('a1'))
    with patch.object(Store, '_known', return_value={}):
        with pytest.raises(StoreError, match='a1 exists already'): store.save(run('a1', value=2.))
        assert store.save(run('a1'))
    assert store.load('a1') == run('a1')

def test_finding_by_prefix(store):
    for id in ('4f2a01', '4f2b02', '77aa03'): store.save(run(id))
    assert store.load('7').id == '77aa03' and store.load('4f2a').id == '4f2a01'
    with pytest.raises(StoreError, match='ambiguous: 4f2a01, 4f2b02') as e: store.load('4f')
    assert not isinstance(e.value, RunNotFoundError)
    with pytest.raises(RunNotFoundError, match='4f2a02') as e: store.load('4f2a02')
    assert '4f2a01' in e.value.hint
    store.save(run('7', 2))
    assert store.load('7').id == '7'        # an exact id wins over a prefix

def test_order_and_branches(store):
    for id, day, branch in (('a', 3, 'main'), ('b', 1, 'main'), ('c', 2, 'x'), ('d', 3, None)): store.save(run(id, day, branch=branch))
    assert [r.id for r in store.list_runs()] == ['d', 'a', 'c', 'b'] == [r.id for r in store.runs()]
    assert [r.id for r in store.list_runs('main')] == ['a', 'b'] and store.latest('x').id == 'c' and [r.id for r in store.list_runs(limit=2)] == ['d', 'a']
    assert [r.id for r in store.runs(branch='main', limit=1)] == ['a']
    with pytest.raises(RunNotFoundError, match="branch 'y'"): store.latest('y')


# --- damage --------------------------------------------------------------------------------------------------------------

DAMAGE = {'empty': b'', 'zeros': bytes(300), 'list': b'[]', 'number': b'3', 'null': b'null', 'half': stored(run('b1'))[:200].encode(), 'no points': b'{"id": "b1", "timestamp": "2026-03-01"}',
          'not text': b'\xff\xfe\x00', 'newer': stored(run('b1')).replace('"schema_version": 1', '"schema_version": 2').encode(),
          'odd version': stored(run('b1')).replace('"schema_version": 1', '"schema_version": "one"').encode(), 'deep': b'['*100_000,
          'wrong type': stored(run('b1')).replace('"value": 1.0', '"value": "fast"').encode(), 'other id': stored(run('b2')).encode()}

@pytest.mark.parametrize('data', DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_run_is_named_and_left_out(store, caplog, data):
    store.save(run('a1'))
    name = '20260309T120000.000000Z_b1.json'
    put(store, f'runs/{name}', data)
    fresh = Store(store.path)
    for call in (lambda: [r.id for r in fresh.list_runs()], lambda: [fresh.latest().id], lambda: [r.id for r in fresh.runs()], lambda: [r.id for r in fresh.query()],
                 lambda: [p.run_id for p in fresh.extract_trend('latency', 'p').points], lambda: [fresh.load('latest').id]):
        assert call() == ['a1']
    assert [r.getMessage().count(name) for r in caplog.records] == [1]       # said once by one store
    with pytest.raises(CorruptRunError, match=name) as e: fresh.load('b1')
    assert e.value.hint
    assert [f.file for f in fresh.damaged()] == [f'runs/{name}'] == [f.file for f in fresh.fsck().findings]

def test_the_newer_format_says_upgrade(store):
    put(store, 'runs/b.json', DAMAGE['newer']), put(store, 'baselines/main.json', DAMAGE['newer'])
    for call in (lambda: store.load('b'), store.get_baseline):
        with pytest.raises(CorruptRunError, match='format 2') as e: call()
        assert 'upgrade' in e.value.hint

def test_nothing_readable_is_not_nothing(store):
    put(store, 'runs/b.json', b'{')
    with pytest.raises(CorruptRunError, match='none of the 1'): store.latest()

@pytest.mark.parametrize('data', DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_baseline_is_never_none(store, data):
    store.save(run('a1')), store.set_baseline('a1')
    put(store, 'baselines/main.json', data)
    if data == DAMAGE['other id']: assert store.get_baseline().id == 'b2'     # a copy of another run is one
    else:
        with pytest.raises(CorruptRunError, match='main.json'): store.get_baseline()
        with pytest.raises(CorruptRunError): store.prune(keep=1)
    assert store.set_baseline('a1').name == 'main' and store.get_baseline().id == 'a1'

def test_a_folder_in_place_of_a_file(local):
    local.save(run('a1'))
    (local.path/'runs'/'x.json').mkdir(), (local.path/'config.json').mkdir()
    assert len(local.list_runs()) == 1
    with pytest.raises(StoreError, match='directory'): local.config

@pytest.mark.skipif(os.geteuid() == 0, reason='the administrator may read everything')
def test_an_unreadable_file_is_left_out(local):
    local.save(run('a1')), os.chmod(local.save(run('a2', 2)), 0)
    assert [r.id for r in local.list_runs()] == ['a1']
    with pytest.raises(StoreError, match='permission denied'): local.load('a2')


# --- older stores --------------------------------------------------------------------------------------------------------

OLD = '''{"id": "old%d", "timestamp": "2025-01-0%dT12:00:00", "commit": "abc", "branch": "main", "environment": {}, "metadata": {"x": NaN},
"metric_defs": {"latency": {"unit": "s", "direction": "lower"}},
"points": [{"name": "p", "scenario": "s", "tags": {}, "metrics": {"latency": {"value": %s, "samples": [1.0, Infinity]}}}], "extra": 1}'''

def test_published_stores_are_read(store):
    for n, value in ((1, 'NaN'), (2, '2'), (3, '-Infinity')): put(store, f'runs/old{n}.json', OLD % (n, n, value))
    put(store, 'baselines/main.json', OLD % (1, 1, 'NaN'))
    assert [r.id for r in store.list_runs()] == ['old3', 'old2', 'old1'] and store.latest().timestamp == datetime(2025, 1, 3, 12, tzinfo=UTC)
    assert store.load('old2').metric_defs['latency'].name == 'latency' and math.isnan(store.get_baseline().points[0].metrics['latency'].value)
    trend = store.extract_trend('latency', 'p')
    assert trend.unit == 's' and [str(p.value) for p in trend.points] == ['nan', '2.0', '-inf']
    store.save(run('new'))
    assert store.latest().id == 'new' and store.delete('old1') == 'old1' and len(store.runs()) == 3 and store.fsck().healthy
    assert store.set_baseline('old2').previous_id == 'old1' and store.get_baseline() == store.load('old2')

def test_many_foreign_names_go_through_the_index(store):
    for i in range(store_module._FEW + 10): put(store, f'runs/any-{i}.json', stored(run(f'r{i:03d}', 1 + i % 28)))
    put(store, 'runs/broken.json', b'{')
    fresh = Store(store.path)
    assert fresh.latest().timestamp.day == 28 and fresh.load('r001').id == 'r001' and len(fresh.list_runs()) == store_module._FEW + 10
    with pytest.raises(CorruptRunError, match='broken.json'): fresh.load('broken')

def test_one_run_in_two_files(store):
    store.save(run('a1')), put(store, 'runs/a1.json', stored(run('a1')))
    assert store.load('a1') == run('a1') and len(store.list_runs()) == len(store.runs()) == len(store.extract_trend('latency', 'p').points) == 1
    put(store, 'runs/a1.json', stored(run('a1', value=2.)))
    fresh = Store(store.path)
    with pytest.raises(StoreError, match='lies in 2 files'): fresh.load('a1')
    with pytest.raises(StoreError): fresh.set_baseline('a1')
    assert len(fresh.list_runs()) == 1 and not fresh.fsck().healthy
    assert fresh.delete('a1') == 'a1' and fresh.list_runs() == []


# --- baselines, configuration, annotations, ingest -------------------------------------------------------------------------

def test_baselines(store):
    for day in (1, 2): store.save(run(f'a{day}', day))
    change = store.set_baseline('a1', reason='first')
    assert (change.run_id, change.previous_id, change.reason) == ('a1', None, 'first') and store.get_baseline() == store.load('a1')
    assert store._files.read('baselines/main.json') == store._files.read(f'runs/{store._find("a1")[0].name}')      # a copy
    store.set_baseline('latest', 'feature/x'), store.set_baseline('a2')
    assert store.baselines() == ['feature/x', 'main'] and store.get_baseline('feature/x').id == 'a2' and store.get_baseline('nothing') is None
    store.remove_baseline('feature/x')
    with pytest.raises(NoBaselineError, match='feature/x'): store.remove_baseline('feature/x')
    assert [(c.name, c.previous_id, c.run_id) for c in store.baseline_history()] == [('main', None, 'a1'), ('feature/x', None, 'a2'), ('main', 'a1', 'a2'), ('feature/x', 'a2', None)]
    assert [c.run_id for c in store.baseline_history('main')] == ['a1', 'a2']
    store.delete('a2')
    assert store.get_baseline().id == 'a2'      # a copy survives its run

@pytest.mark.parametrize('name', ['', '..', '../x', '.x', 'a\\b', 'a\nb', 'a:b', 'x'*129])
def test_baseline_names_stay_inside(store, name):
    store.save(run('a1'))
    for call in (lambda: store.set_baseline('a1', name), lambda: store.get_baseline(name), lambda: store.remove_baseline(name)):
        with pytest.raises(StoreError): call()
    assert store._files.folders('') == ['runs']

@pytest.mark.parametrize('name', ['main', 'feature/x', 'a/../../b', '100%', '%2F', 'release 1.0', 'ünï/日本', '/abs'])
def test_branches_name_baselines(store, name):
    store.save(run('a1')), store.set_baseline('a1', name)
    assert store.baselines() == [name] and store.get_baseline(name).id == 'a1' and store._files.folders('baselines') == [] and store.fsck().healthy

def test_concurrent_baselines_leave_one_and_a_log_of_both(local):
    for i in range(8): local.save(run(f'a{i}'))
    threads = [threading.Thread(target=lambda i=i: Store(local.path).set_baseline(f'a{i}')) for i in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    history = local.baseline_history()
    assert sorted(c.run_id for c in history) == [f'a{i}' for i in range(8)] and history[-1].run_id == local.get_baseline().id
    assert [c.previous_id for c in history] == [None, *(c.run_id for c in history[:-1])]

@pytest.mark.parametrize('text, place', [('{', 'line 1'), ('[]', 'expected a mapping'), ('{"metric_defs": 3}', 'metric_defs: expected a mapping'),
                                         ('{"metric_defs": {"lat": 3}}', 'metric_defs.lat: expected a mapping'), ('', 'empty'),
                                         ('{"metric_defs": {"lat": {"unit": "ms"}}}', 'metric_defs.lat.direction'), (b'\xff', 'UTF-8'),
                                         ('{"metric_defs": {"lat": {"direction": "up"}}}', "metric_defs.lat.direction: expected one of 'higher'")])
def test_wrong_configuration_is_named(store, text, place):
    put(store, 'config.json', text)
    assert Store(store.path).list_runs() == []
    for call in (lambda: store.metric_defs, lambda: store.config, lambda: store.write_config(a=1)):
        with pytest.raises(ConfigError, match=place) as e: call()
        assert 'config.json' in e.value.message
    assert not store.fsck().healthy

def test_configuration(store):
    put(store, 'config.json', '{"wandb_project": "p", "metric_defs": {"latency": {"unit": "ms", "direction": "lower", "group": "Latency"}}, "mine": [1, {"a": null}]}')
    assert store.metric_defs['latency'] == MetricDef(name='latency', unit='ms', direction='lower', group='Latency') and store.config['wandb_project'] == 'p'
    store.write_config(wandb_entity='e', metric_defs={**store.config['metric_defs'], 'loss': {'unit': '', 'direction': 'lower'}, 'acc': MetricDef(name='acc', unit='%', direction='higher')})
    assert set(store.metric_defs) == {'latency', 'loss', 'acc'} and store.config['mine'] == [1, {'a': None}] and store.config['wandb_entity'] == 'e'
    assert 'wandb_project' not in store.write_config(wandb_project=None) and 'NaN' not in store._files.read('config.json').decode()
    for wrong in ({'metric_defs': {'x': {'direction': 'sideways'}}}, {'metric_defs': []}, {'x': object()}):
        before = store._files.read('config.json')
        with pytest.raises(ConfigError): store.write_config(**wrong)
        assert store._files.read('config.json') == before

def test_annotations(store):
    store.save(run('a1'))
    store.annotate('latest', tags={'machine': 'old'}, note='fan'), store.annotate('a1', tags={'machine': 'new', 'x': 'y'})
    assert [a.note for a in store.annotations('a1')] == ['fan', ''] and store.runs()[0].tags == {'machine': 'new', 'x': 'y'}
    assert store.load('a1') == run('a1')
    put(store, 'annotations/a1/x.json', b'{')
    assert len(store.annotations('a')) == 2 and not store.fsck().healthy
    with pytest.raises(ConfigError): store.annotate('a1')
    with pytest.raises(RecordError): store.annotate('a1', tags={'a': 3})
    store.delete('a1'), store.save(run('a1'))
    assert store.annotations('a1') == []

def test_ingest(store, tmp_path):
    file = tmp_path/'results.json'
    file.write_text(OLD % (1, 1, '2'))
    assert store.ingest(file) == store.ingest(str(file)) == store.load('old1') and len(store.list_runs()) == 1
    file.write_text(OLD % (1, 2, '2'))
    with pytest.raises(StoreError, match='old1 exists already'): store.ingest(file)
    for text, place in (('{"id": "x"}', 'timestamp: expected a value'), ('[]', 'expected a mapping'), ('', 'empty'), (OLD % (3, 3, '"x"'), r"points\[0\].metrics.latency.value: expected a number, found 'x'")):
        file.write_text(text)
        with pytest.raises(RecordError, match=place) as e: store.ingest(file, format='run')
        assert str(file) in e.value.message
        with pytest.raises(RecordError, match=place if text != '[]' else 'a list of 0 is no format that is read') as e: store.ingest(file)
        assert str(file) in e.value.message
    for path in (tmp_path/'missing.json', tmp_path):
        with pytest.raises(StoreError, match='cannot read'): store.ingest(path, format='run')
    with pytest.raises(StoreError, match='cannot read'): store.ingest(tmp_path/'missing.json')
    (tmp_path/'empty').mkdir()
    with pytest.raises(RecordError, match='no files of results'): store.ingest(tmp_path/'empty')
    with pytest.raises(ConfigError, match='unknown format'): store.ingest(file, format='xml')
    assert len(store.list_runs()) == 1

def test_ingest_of_another_tool(store, tmp_path):
    file = tmp_path/'times.csv'
    file.write_text('point,metric,value,unit,direction\nstep,latency,12.5,ms,lower\n')
    run = store.ingest(file)
    assert run == store.ingest(file, format='csv') == store.load(run.id) and run.points[0].metrics['latency'].value == 12.5 and run.metric_defs['latency'].unit == 'ms'


# --- pruning and fsck ------------------------------------------------------------------------------------------------------

def test_prune_spares_the_newest_and_the_baselines(store):
    for day in range(1, 8): store.save(run(f'a{day}', day))
    store.set_baseline('a1'), store.set_baseline('a3', 'x')
    assert store.prune(keep=2, dry_run=True) == ['a2', 'a4', 'a5'] and len(store.runs()) == 7
    assert store.prune(keep=2) == ['a2', 'a4', 'a5'] and [r.id for r in store.runs()] == ['a7', 'a6', 'a3', 'a1'] and store.prune(keep=2) == []
    assert store.save(run('a2', 2)) and store.load('a2').id == 'a2'
    for keep in (0, -1, 1.5, None, True, '3'):
        with pytest.raises(ConfigError, match='keep'): store.prune(keep=keep)

def test_fsck_reports_everything_and_puts_it_away(local, monkeypatch):
    for day in (1, 2): local.save(run(f'a{day}', day))
    local.set_baseline('a1'), local.annotate('a1', note='x'), local.write_config(a=1)
    sound = local.fsck()
    assert sound.healthy and sound.files == 6 and 'all sound' in repr(sound) and 'sound' in sound._repr_html_()
    for name in ('runs/x.json', 'baselines/y.json', 'history/z.json', 'annotations/a1/w.json'): put(local, name, b'{')
    (local.path/'runs/.tmp-1').touch(), (local.path/'.tmp-2').touch(), put(local, 'runs/copy.json', stored(run('a2', 2)))
    settle(), local.runs()
    damaged = ['annotations/a1/w.json', 'baselines/y.json', 'history/z.json', 'runs/x.json']
    report = local.fsck()
    assert sorted(f.file for f in report.findings if f.trouble == 'damaged') == damaged and not report.healthy
    assert sorted(f.file for f in report.findings if f.trouble == 'leftover') == ['.tmp-2', 'runs/.tmp-1'] and [f.file for f in report.findings if f.trouble == 'duplicate'] == ['runs/copy.json']
    monkeypatch.setattr(store_module, '_STALE_SEC', -1)
    done = local.fsck(quarantine=True)
    assert {f.file: f.action for f in done.findings}['runs/x.json'] == 'moved to damaged/runs/x.json' and '<table' in done._repr_html_()
    (local.path/'runs/copy.json').unlink()
    assert local.fsck().healthy and local.fsck().findings == () and sorted(p.name for p in (local.path/'damaged').rglob('*.json')) == ['w.json', 'x.json', 'y.json', 'z.json']

def test_fsck_sees_what_the_index_cannot(local):
    "A file that rotted without changing its size or time"
    path = local.save(run('a1'))
    settle(), local.runs()
    at = os.stat(path)
    data = path.read_bytes().replace(b'"latency"', b'"late cy"', 1).replace(b'1.0', b'x.0')
    with open(path, 'r+b') as f: f.write(data)
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert not local.fsck().healthy


# --- the index -----------------------------------------------------------------------------------------------------------

def values(store, **how): return [p.value for p in store.extract_trend('latency', 'p', **how).points]

def test_trend(store):
    for day, value in ((3, 3.), (1, 1.), (2, math.nan), (4, -0.), (5, math.inf)): store.save(run(f'a{day}', day, value, commit=f'c{day}'))
    trend = store.extract_trend('latency', 'p', {'framework': 'flax'})
    assert [str(p.value) for p in trend.points] == ['1.0', 'nan', '3.0', '-0.0', 'inf'] and trend.unit == 'ms' and trend.points[0].commit == 'c1' and trend.tags == {'framework': 'flax'}
    assert [p.run_id for p in store.extract_trend('latency', 'p', n_runs=2).points] == ['a4', 'a5']
    assert store.extract_trend('latency', 'p', {'framework': 'x'}).points == store.extract_trend('nothing', 'p').points == ()
    for n in (0, -1, True, 1.5):
        with pytest.raises(ConfigError, match='n_runs'): store.extract_trend('latency', 'p', n_runs=n)

def test_the_unit_is_the_newest_that_is_defined(store):
    for day, unit in ((1, 's'), (2, 'ms')): store.save(run(f'a{day}', day, defs={'latency': MetricDef(name='latency', unit=unit, direction='lower')}))
    store.save(run('a3', 3, defs={})), store.save(run('a4', 4, defs={'latency_p50': LATENCY}))
    assert store.extract_trend('latency', 'p').unit == 'ms' and store.extract_trend('latency', 'p', n_runs=1).unit == 'ms'

def test_query(store):
    for day, tags in ((1, {'f': 'a', 'b': '1'}), (2, {'f': 'a'}), (3, {'f': 'b', 'b': '1'})): store.save(run(f'a{day}', day, tags=tags))
    store.save(Run(id='empty', points=[])), store.save(Run(id='bare', timestamp=datetime(2026, 4, 1, tzinfo=UTC), points=[Point(name='q', scenario='', tags={'f': 'a'})]))
    assert [r.id for r in store.query(f='a')] == ['bare', 'a2', 'a1'] and [r.id for r in store.query(f='a', b='1')] == ['a1'] and store.query(f='c') == []
    assert [r.id for r in store.query()] == ['bare', 'a3', 'a2', 'a1'] and store.point_names() == ['p', 'q'] and store.metric_names() == ['latency']

def test_the_index_follows_the_files(local):
    paths = [local.save(run(f'a{day}', day, float(day))) for day in (1, 2, 3)]
    assert values(local) == [1, 2, 3]
    settle(), local.runs()
    paths[0].unlink()
    other = Store(local.path)
    other.save(run('a4', 4, 4.))
    assert values(local) == values(other) == [2, 3, 4]
    paths[1].write_text(stored(run('a2', 2, 9.)))
    assert values(local) == [9, 3, 4]

def test_a_settled_store_is_not_read_again(local):
    for day in (1, 2): local.save(run(f'a{day}', day))
    settle(), local.runs()
    fresh = Store(local.path)
    with patch.object(LocalFiles, 'read', side_effect=AssertionError('read again')):
        assert len(fresh.runs()) == 2 and len(values(fresh)) == 2 and fresh.metric_names() == ['latency']

def test_changes_within_a_tick_are_seen(local):
    "Same size, same tick of the clock of the file system"
    path = local.save(run('a1', value=1.))
    for n in range(2, 40):
        path.write_text(stored(run('a1', value=float(n % 10))))
        assert values(local) == [n % 10]

def test_what_is_not_settled_is_read_again(local):
    "It may change once more within the tick of the clock, without a trace"
    local.save(run('a1'))
    def reads(settled):
        seen, read = [], LocalFiles.read
        with patch('calibrax.storage.files._settled', return_value=settled), patch.object(LocalFiles, 'read', lambda self, name: seen.append(name) or read(self, name)):
            assert len(Store(local.path).runs()) == 1
        return len(seen)
    assert [reads(False), reads(False), reads(True), reads(True)] == [1, 1, 1, 0]

def database(store): return RunIndex(store._files, store._run, store._tell).path

SPOILS = {'empty': lambda p: p.write_bytes(b''), 'garbage': lambda p: p.write_bytes(os.urandom(8192)), 'header only': lambda p: p.write_bytes(b'SQLite format 3\0' + bytes(4080)),
          'cut': lambda p: p.write_bytes(p.read_bytes()[:5000]), 'middle': lambda p: p.write_bytes(p.read_bytes()[:4096] + b'\xff'*8192 + p.read_bytes()[12288:]),
          'gone': lambda p: p.unlink(), 'folder': lambda p: (p.unlink(), p.mkdir())}

@pytest.mark.parametrize('spoil', SPOILS.values(), ids=SPOILS.keys())
def test_a_damaged_index_is_built_anew(local, spoil):
    for day in (1, 2, 3): local.save(run(f'a{day}', day, float(day)))
    assert values(local) == [1, 2, 3]
    spoil(database(local))
    assert values(local) == values(Store(local.path)) == [1, 2, 3] and len(local.runs()) == 3

def test_the_cache_is_where_it_should_be(local, monkeypatch, tmp_path):
    local.save(run('a1')), local.runs()
    assert not list(local.path.rglob('*.sqlite*'))
    monkeypatch.setenv('CALIBRAX_CACHE_DIR', str(tmp_path/'other'))
    assert len(local.runs()) == 1 and len(list((tmp_path/'other').glob('runs-*.sqlite'))) == 1
    monkeypatch.delenv('CALIBRAX_CACHE_DIR'), monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'xdg'))
    assert len(local.runs()) == 1 and (tmp_path/'xdg'/'calibrax').exists()

def test_without_a_cache_folder(local, monkeypatch, tmp_path):
    (tmp_path/'file').touch()
    monkeypatch.setenv('CALIBRAX_CACHE_DIR', str(tmp_path/'file'/'cache'))
    local.save(run('a1', value=1.))
    assert values(local) == [1] and len(local.runs()) == 1
    local.save(run('a2', 2, 2.))
    assert values(local) == [1, 2]

def test_a_partial_look(local):
    for day in range(1, 10): local.save(run(f'a{day}', day))
    put(local, 'runs/20260320T120000.000000Z_new.json', b'{'), put(local, 'runs/20250101T120000.000000Z_old.json', b'{')
    assert [f.file for f in local.damaged(at_most=3)] == ['runs/20260320T120000.000000Z_new.json']
    settle()
    assert len(local.damaged(at_most=3)) == 1 and len(local.damaged()) == 2 and len(local.runs()) == 9


# --- disks and systems that refuse -----------------------------------------------------------------------------------------

def everything(store): return sorted(str(p.relative_to(store.path)) for p in store.path.rglob('*') if p.is_file())

@pytest.mark.parametrize('step', ['os.fsync', 'os.link'])
@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_full_disk_leaves_the_store_as_it_was(local, step, code):
    local.save(run('a1')), local.set_baseline('a1')
    before = everything(local)
    calls = [lambda: local.save(run('a2', 2)), lambda: local.annotate('a1', note='x')]
    if step == 'os.fsync': calls += [lambda: local.set_baseline('a1', 'x'), lambda: local.write_config(a=1), lambda: local.set_baseline('a1')]
    with patch(step, side_effect=OSError(code, os.strerror(code))):
        with patch('os.replace', side_effect=OSError(code, os.strerror(code))):     # what a system without links falls back to
            for call in calls:
                with pytest.raises(StoreError, match='(?i)cannot write.*(space|error|quota|read-only|denied|exceeded)') as e: call()
                assert e.value.hint
    assert everything(local) == before
    assert local.save(run('a2', 2)) and local.load('a2').id == 'a2'

def test_a_file_that_may_not_grow(tmp_path):
    "A real limit of the system, met in the middle of a write"
    code = f'''
import resource
from calibrax.core.errors import StoreError
from calibrax.core.models import Run
from calibrax.storage import Store
store = Store({str(tmp_path/'bench')!r})
store.save(Run(id='small', points=[]))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try: store.save(Run(id='big', points=[], metadata={{'x': 'y'*10000}}))
except StoreError as e: print(e.message)
print([r.id for r in store.list_runs()])'''
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert 'cannot write' in said[0] and 'big.json' in said[0] and said[1] == "['small']"
    assert len(list((tmp_path/'bench'/'runs').iterdir())) == 1

@pytest.mark.skipif(os.geteuid() == 0, reason='the administrator may write everywhere')
def test_a_folder_without_permission(tmp_path):
    (tmp_path/'locked').mkdir(0o555)
    with pytest.raises(StoreError, match='(?i)permission denied') as e: Store(tmp_path/'locked'/'bench').save(run('a1'))
    assert e.value.hint

def test_a_file_in_the_way(tmp_path):
    (tmp_path/'bench').mkdir(), (tmp_path/'bench'/'runs').touch()
    store = Store(tmp_path/'bench')
    for call in (lambda: store.save(run('a1')), store.list_runs, store.runs, store.latest):
        with pytest.raises(StoreError, match='runs'): call()

def test_no_links_no_locks(local):
    "FAT, some network shares, folders of other people"
    other = Store(local.path)
    with patch('os.link', side_effect=OSError(errno.EPERM, 'no')), patch('fcntl.flock', side_effect=OSError(errno.ENOLCK, 'no')), patch('os.utime', side_effect=PermissionError(1, 'no')):
        for i in range(4): (local if i % 2 else other).save(run(f'a{i}', 1 + i))
        for who in (local, other):
            with pytest.raises(StoreError): who.save(run('a1', 9))
            assert who.save(run('a1', 2)) and len(who.list_runs()) == 4


# --- many at once ----------------------------------------------------------------------------------------------------------

def test_threads_share_a_store(local):
    def work(k):
        try:
            for i in range(10):
                local.save(run(f'{k}-{i}', 1 + k))
                assert local.load(f'{k}-{i}').id == f'{k}-{i}' and len(local.runs()) >= i and local.latest()
        except BaseException as e: faults.append(e)
    faults, threads = [], [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert not faults and len({r.id for r in local.list_runs()}) == 60 and local.fsck().healthy

def test_reading_while_saving(local):
    "No reader ever sees half of a file"
    def read():
        while not done.is_set():
            try: seen.append(len(Store(local.path).list_runs()))
            except BaseException as e: faults.append(e)
    done, seen, faults = threading.Event(), [], []
    with patch.object(store_module.log, 'warning', side_effect=lambda *a: faults.append(a)):
        readers = [threading.Thread(target=read) for _ in range(3)]
        for t in readers: t.start()
        for i in range(60): local.save(run(f'a{i}', 1, metadata={'text': 'x'*20_000})), local.set_baseline(f'a{i}')
        done.set()
        for t in readers: t.join()
    assert not faults and seen and all(n <= 60 for n in seen) and local.get_baseline().id == 'a59'


# --- remote ----------------------------------------------------------------------------------------------------------------

def test_no_fsspec_says_what_to_install():
    with patch.dict(sys.modules, {'fsspec': None, 'fsspec.core': None}), pytest.raises(StoreError) as e: Store('s3://bucket/bench')
    assert 'calibrax[remote] @ git+' in e.value.hint     # a bare name would bring another project's package

def test_fsspec_is_loaded_for_urls_only(tmp_path):
    code = f'''
import sys
from calibrax.core.models import Run
from calibrax.storage import Store
store = Store({str(tmp_path)!r})
store.save(Run(points=[])), store.set_baseline('latest'), store.latest(), store.get_baseline()
print([name for name in ('fsspec', 'sqlite3', 'jax', 'numpy', 'matplotlib', 'fastcore') if name in sys.modules])'''
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=60).stdout.strip() == '[]'

def test_a_remote_run_is_never_overwritten():
    pytest.importorskip('fsspec')
    store = Store('memory://exclusive/bench')
    store.save(run('a1'))
    with patch.object(RemoteFiles, 'entries', return_value=[]):     # a listing that lags behind
        with pytest.raises(StoreError, match='exists already'): Store('memory://exclusive/bench').save(run('a1', value=2.))
        assert Store('memory://exclusive/bench').save(run('a1'))
    assert store.load('a1') == run('a1')

def test_errors_of_the_network_are_store_errors():
    pytest.importorskip('fsspec')
    store = Store('memory://broken/bench')
    class Down:
        def __getattr__(self, name): raise RuntimeError('connection lost')
    store._files._storage = Down()
    for call in (store.list_runs, lambda: store.save(run('a1')), store.get_baseline, lambda: store.config, store.fsck, store.runs):
        with pytest.raises(StoreError, match='connection lost') as e: call()
        assert e.value.hint


# --- units of a trend ---

def in_unit(id, day, value, unit=None):
    defs = {'latency': MetricDef(name='latency', unit=unit, direction='lower')} if unit else {}
    return Run(id=id, timestamp=datetime(2026, 3, day, tzinfo=UTC), metric_defs=defs, points=(Point(name='p', scenario='s', metrics={'latency': Metric(value=value)}),))


def test_a_trend_is_in_one_unit(tmp_path, caplog):
    store = Store(tmp_path/'d')
    for run in (in_unit('a', 1, 12, 'ms'), in_unit('b', 2, 0.011, 's'), in_unit('c', 3, 11), in_unit('d', 4, 13, 'ms')): store.save(run)
    with caplog.at_level('WARNING', 'calibrax'): trend = store.extract_trend('latency', 'p')
    assert trend.unit == 'ms' and [p.value for p in trend.points] == [12, 11, 13]
    assert "1 of 4 runs measured latency in 's' instead of 'ms'" in caplog.text


def test_the_unit_of_a_trend_may_come_from_the_config(tmp_path):
    store = Store(tmp_path/'d')
    store.save(in_unit('a', 1, 12))
    store.write_config(metric_defs={'latency': {'unit': 'ms', 'direction': 'lower'}})
    assert store.extract_trend('latency', 'p').unit == 'ms'


def test_another_point_in_another_unit_changes_nothing(tmp_path):
    store = Store(tmp_path/'d')
    for run in (in_unit('a', 1, 12, 'ms'), in_unit('b', 2, 13)): store.save(run)
    store.save(Run(id='other', timestamp=datetime(2026, 3, 9, tzinfo=UTC), metric_defs={'latency': MetricDef(name='latency', unit='s', direction='lower')},
                   points=[Point(name='q', scenario='s', metrics={'latency': Metric(value=1)})]))
    trend = store.extract_trend('latency', 'p')
    assert trend.unit == 'ms' and [p.value for p in trend.points] == [12, 13]


# --- what other programs do to the folder ---

def test_quarantine_leaves_what_could_not_be_read_this_time(tmp_path, monkeypatch):
    store = Store(tmp_path/'d')
    for i in (1, 2): store.save(in_unit(f'r{i}', i, 12))
    real, calls = LocalFiles.read, []
    def flaky(self, name):
        calls.append(name)
        if len(calls) == 1: raise StoreError(f'cannot read {name}: input/output error', hint='look at the disk')
        return real(self, name)
    monkeypatch.setattr(LocalFiles, 'read', flaky)
    report = store.fsck(quarantine=True)
    assert [f.trouble for f in report.findings] == ['unreadable'] and not report.healthy
    assert [r.id for r in store.list_runs()] == ['r2', 'r1']


def test_quarantine_leaves_what_a_newer_calibrax_wrote(tmp_path):
    store = Store(tmp_path/'d')
    path = store.save(in_unit('r1', 1, 12))
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    assert [f.trouble for f in store.fsck(quarantine=True).findings] == ['newer'] and path.exists()


def test_a_file_of_another_name_is_read_again_when_it_changes(tmp_path):
    store = Store(tmp_path/'d')
    store.save(in_unit('base', 1, 12))
    mine, other = tmp_path/'d/runs/mine.json', tmp_path/'other'
    for i, how in enumerate(('write', 'replace', 'write', 'damage', 'write')):
        text = '{' if how == 'damage' else in_unit(f'new{i}', 5 + i, i).to_json()
        if how == 'replace': other.write_text(text), other.replace(mine)
        else: mine.write_text(text)
        assert store.latest().id == Store(tmp_path/'d').latest().id == ('base' if how == 'damage' else f'new{i}')


def test_a_run_copied_in_while_another_is_saved_is_found(tmp_path, monkeypatch):
    store, late = Store(tmp_path/'d'), in_unit('copied', 9, 1)
    store.save(in_unit('one', 1, 12))
    real = LocalFiles.create
    def copied_meanwhile(self, name, data):
        (tmp_path/'d/runs'/store_module._run_file(late)).write_text(late.to_json())
        return real(self, name, data)
    with monkeypatch.context() as m:
        m.setattr(LocalFiles, 'create', copied_meanwhile)
        store.save(in_unit('two', 2, 12))
    time.sleep(store_module._TRUSTED_SEC + .1)
    assert store.latest().id == 'copied' == store.load('copied').id
    with pytest.raises(StoreError): store.save(in_unit('copied', 3, 2))


def test_equal_times_have_one_order(tmp_path):
    store = Store(tmp_path/'d')
    for id in ('nightly', 'nightly-2', 'a'): store.save(in_unit(id, 1, 12))
    ids = [r.id for r in store.list_runs()]
    assert ids == [r.id for r in store.runs()] == [r.id for r in store.query()] == [p.run_id for p in store.extract_trend('latency', 'p').points][::-1]
    assert store.latest().id == ids[0]
    store.prune(1)
    assert [r.id for r in store.list_runs()] == ids[:1]


def test_a_sound_copy_serves_for_a_damaged_run(tmp_path):
    store = Store(tmp_path/'d')
    path, run = store.save(in_unit('a', 1, 12)), in_unit('a', 1, 12)
    (tmp_path/'d/runs/copy.json').write_text(run.to_json())
    path.write_text('{"id"')
    assert store.load('a') == run


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore:os.fork:RuntimeWarning')
def test_a_child_forked_during_a_save_does_not_keep_the_lock(tmp_path):
    files = LocalFiles(tmp_path/'d')
    with files.exclusive('runs') as alone:
        child = os.fork() if hasattr(os, 'fork') else 0
        if child == 0 and hasattr(os, 'fork'):
            time.sleep(3)
            os._exit(0)
    began = time.monotonic()
    with files.exclusive('runs') as again: assert alone and again
    assert time.monotonic() - began < 2
    if child: os.waitpid(child, 0)


@pytest.mark.parametrize('wrong', [
    lambda s: s.query(tag=1), lambda s: s.set_baseline('latest', '\ud800'), lambda s: s.get_baseline('\ud800'), lambda s: s.load('\ud800'),
    lambda s: s.ingest('\0'), lambda s: s.save('a run'), lambda s: Store('s3://')])
def test_wrong_arguments_are_named(tmp_path, wrong):
    store = Store(tmp_path/'d')
    store.save(in_unit('a', 1, 12))
    with pytest.raises((StoreError, ConfigError, RecordError)): wrong(store)


def test_a_memory_url_writes_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store('memory://')
    store.save(in_unit('root', 1, 12))
    assert store.load('root').id == 'root' and list(tmp_path.iterdir()) == []
    store.delete('root')
