"""Files of other tools: read without loss, told apart by content, refused with a clear message, and written so that the tools take them.

The real files are in tests/data/interop; its README says where each comes from. What a run keeps is compared with the raw file by a
walk of its own, which shares no code with the readers."""
import copy, gzip, json, math, os, re, shutil, statistics, struct, subprocess, sys, time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from calibrax.core.errors import CalibraxError, ConfigError, ExportError, RecordError, StoreError
from calibrax.core.models import Metric, MetricDef, Point, Run
from calibrax.exporters.base import ExportSettings, get_exporter
from calibrax.exporters.interop.asv import AsvExporter, export_asv, parameter_of, read_asv_folder, tag_of
from calibrax.exporters.interop.assembly import Draft, RunList, direction_of
from calibrax.exporters.interop.documents import LARGEST, restore_document
from calibrax.exporters.interop.formats import FORMATS, detect_format, ingest_results, list_formats, read_results
from calibrax.exporters.interop.github_action import GithubActionExporter, github_action_lists
from calibrax.exporters.interop.pytest_benchmark import PytestBenchmarkExporter, pytest_benchmark_document
from calibrax.storage.store import Store

DATA = Path(__file__).parent/'data'/'interop'
ASV = sorted((DATA/'asv'/'lab-1').glob('*-virtualenv*.json'))
FILES = {'pytest-benchmark.json': 'pytest-benchmark', 'google-benchmark.json': 'google-benchmark', 'pyperf.json': 'pyperf', 'pyperf.json.gz': 'pyperf',
         'hyperfine.json': 'hyperfine', 'github-action-benchmark.json': 'github-action-benchmark', 'github-action-data.js': 'github-action-benchmark',
         'bencher.json': 'bencher', 'long.csv': 'csv', 'wide.csv': 'csv', f'asv/lab-1/{ASV[0].name}': 'asv'}
each_file = pytest.mark.parametrize('name', FILES)

def content(name):
    data = (DATA/name).read_bytes()
    data = gzip.decompress(data) if name.endswith('.gz') else data
    return json.loads(data.removeprefix(b'window.BENCHMARK_DATA = '))

def bits(value): return struct.pack('<d', value)

def values(run, metric): return {p.label: p.metrics[metric] for p in run.points if metric in p.metrics}


# --- nothing is lost -----------------------------------------------------------------------------------------------------

def assert_kept(raw, kept, run, at='$'):
    "Every leaf of the raw file is in the kept document, or where a note in it says"
    if isinstance(kept, dict) and set(kept) == {'$samples'}:
        where = kept['$samples']
        samples = run.points[where['point']].metrics[where['metric']].samples[where['from']:where['to']]
        assert [bits(v) for v in raw] == [bits(v) for v in samples], at
    elif isinstance(kept, dict) and set(kept) == {'$environment'}: assert_kept(raw, run.environment[kept['$environment']], run, at)
    elif isinstance(raw, dict):
        assert isinstance(kept, dict) and list(raw) == list(kept), at
        for key in raw: assert_kept(raw[key], kept[key], run, f'{at}.{key}')
    elif isinstance(raw, list):
        assert isinstance(kept, list) and len(raw) == len(kept), at
        for i, (a, b) in enumerate(zip(raw, kept)): assert_kept(a, b, run, f'{at}[{i}]')
    elif isinstance(raw, float): assert type(kept) is float and bits(raw) == bits(kept), at
    else: assert type(raw) is type(kept) and raw == kept, at

@pytest.mark.parametrize('name', [n for n in FILES if not n.endswith(('.csv', '.js'))])
def test_every_field_is_kept(name, tmp_path):
    run, raw = read_results(DATA/name), content(name)
    assert_kept(raw, run.metadata['document'], run)
    stored = Store(tmp_path).save(run) and Store(tmp_path).load(run.id)      # and still after a trip through a store
    assert stored == run
    assert_kept(raw, stored.metadata['document'], stored)
    assert json.dumps(restore_document(stored)) == json.dumps(raw)

def test_every_entry_of_a_history_is_kept():
    runs, raw = read_results(DATA/'github-action-data.js'), content('github-action-data.js')
    entries = [(suite, entry) for suite, found in raw['entries'].items() for entry in found]
    assert len(runs) == len(entries) == 3
    for suite, entry in entries:
        run, = [r for r in runs if r.metadata['document']['entry'] == entry]
        assert_kept({'suite': suite, 'repoUrl': raw['repoUrl'], 'entry': entry}, run.metadata['document'], run)
        assert (run.commit, run.timestamp) == (entry['commit']['id'], datetime.fromtimestamp(entry['date']/1000, UTC))
        assert [(p.name, p.scenario) for p in run.points] == [(b['name'], suite) for b in entry['benches']]
        for point, bench in zip(run.points, entry['benches']):
            (metric, found), = point.metrics.items()
            assert bits(found.value) == bits(bench['value']) and run.metric_defs[metric].unit == bench['unit']
            assert run.metric_defs[metric].direction == ('higher' if entry['tool'] == 'pytest' else 'lower')
    assert [(m.lower, m.upper) for m in runs[0].points[0].metrics.values()] == [(37174 - 7527, 37174 + 7527)]


# --- what becomes of what, by hand -----------------------------------------------------------------------------------------

def test_asv():
    runs = read_results(DATA/'asv')
    assert isinstance(runs, RunList) and [r.commit[:8] for r in runs] == ['5a8e0d61', '05b12d98']       # by the commits' time
    raw, run = json.loads(ASV[0].read_text()), runs[1]
    assert raw['commit_hash'] == run.commit and run.timestamp == datetime.fromtimestamp(raw['date']/1000, UTC)
    machine, definitions = json.loads((DATA/'asv'/'lab-1'/'machine.json').read_text()), json.loads((DATA/'asv'/'benchmarks.json').read_text())
    assert run.environment['params'] == raw['params'] and run.metadata['machine'] == machine
    assert {k: run.environment[k] for k in ('cpu', 'architecture', 'os', 'python', 'machine')} == \
        {'cpu': machine['cpu'], 'architecture': machine['arch'], 'os': machine['os'], 'python': '3.11', 'machine': 'lab-1'}
    assert run.environment['requirements'] == raw['requirements'] and run.environment['env_vars'] == raw['env_vars']
    columns, seen = raw['result_columns'], 0
    for name, row in raw['results'].items():
        cells, definition = dict(zip(columns, row)), definitions[name]
        assert run.metadata['definitions'][name] == definition
        metric = definition['type'] if definition['unit'] in ('seconds', 'bytes', 'unit') else f'{definition["type"]} ({definition["unit"]})'
        assert run.metric_defs[metric].unit == definition['unit']
        for i, combination in enumerate(product(*cells['params'])):
            tags = {n: v.strip("'") for n, v in zip(definition['param_names'], combination)}
            point, = [p for p in run.points if p.name == name and p.tags == tags]
            result, seen = (cells['result'] or [None]*100)[i], seen + 1
            if result is None: assert math.isnan(point.metrics[metric].value) and any(f['point'] == point.label for f in run.metadata['failed'])
            elif math.isnan(result): assert metric not in point.metrics and any(f['point'] == point.label for f in run.metadata['skipped'])
            else:
                found = point.metrics[metric]
                assert bits(found.value) == bits(result)
                samples = cells['samples'][i] if 'samples' in cells and cells['samples'] else None
                assert found.samples == (None if samples is None else tuple(samples))
                assert (found.lower, found.upper) == ((cells['stats_ci_99_a'][i], cells['stats_ci_99_b'][i]) if samples else (None, None))
    assert seen == len(run.points) == 14
    assert (len(run.metadata['failed']), len(run.metadata['skipped'])) == (2, 2)
    assert {m: str(d.direction) for m, d in run.metric_defs.items()} == {'time': 'lower', 'memory': 'lower', 'peakmemory': 'lower', 'track (swaps)': 'info',
                                                                         'track (elem/s)': 'higher', 'track': 'info'}

def test_asv_without_its_neighbours_and_one_by_one():
    from_file, from_bytes = read_results(ASV[0]), read_results(ASV[0].read_bytes())
    assert from_file == read_results(DATA/'asv')[1] == read_results(DATA/'asv'/'lab-1')[1]
    assert from_bytes.metric_defs['time'].unit == 'seconds' and 'track' in from_bytes.metric_defs and 'definitions' not in from_bytes.metadata
    assert from_bytes.id != from_file.id            # other units, hence other content

def test_pytest_benchmark():
    run, raw = read_results(DATA/'pytest-benchmark.json'), content('pytest-benchmark.json')
    assert (run.commit, run.branch, run.metadata['dirty']) == (raw['commit_info']['id'], 'main', False)
    assert run.timestamp == datetime.fromisoformat(raw['datetime']) and run.environment['machine_info'] == raw['machine_info']
    assert (run.environment['cpu'], run.environment['host'], run.environment['python']) == ('AMD EPYC', 'lab-1', '3.11.7')
    assert (run.metric_defs['time'].unit, run.metric_defs['time'].direction) == ('s', 'lower')
    for point, b in zip(run.points, raw['benchmarks'], strict=True):
        assert bits(point.metrics['time'].value) == bits(b['stats']['median']) and list(point.metrics['time'].samples) == b['stats']['data']
        assert b['fullname'].startswith(f'{point.scenario}::{point.name}')
        group = {'group': b['group']} if b['group'] else {}
        if b['param'] == 'thing': assert point.tags == {'param': 'thing', **group}         # not an address in memory
        else: assert point.tags == {k: str(v) for k, v in (b['params'] or {}).items()} | group

def test_google_benchmark():
    run, raw = read_results(DATA/'google-benchmark.json'), content('google-benchmark.json')
    assert run.environment['context'] == raw['context'] and run.environment['cores_logical'] == 2 and run.points[0].scenario == 'sorting'
    assert run.timestamp == datetime.fromisoformat(raw['context']['date'])
    rows = {}
    for row in raw['benchmarks']:
        if row['run_type'] == 'iteration' and not row.get('error_occurred'): rows.setdefault(row['run_name'], []).append(row)
    tags = {'BM_sort/n:64': ('BM_sort', {'n': '64'}), 'BM_sort/n:512': ('BM_sort', {'n': '512'}), 'BM_sort/n:1024': ('BM_sort', {'n': '1024'}),
            'BM_copy/4096/1/repeats:3/real_time': ('BM_copy/real_time', {'arg0': '4096', 'arg1': '1', 'repeats': '3'}), 'BM_threads/threads:2': ('BM_threads', {'threads': '2'})}
    assert set(rows) == set(tags)
    for name, found in rows.items():
        point, = [p for p in run.points if (p.name, p.tags) == tags[name]]
        unit = found[0]['time_unit']
        for field in ('real_time', 'cpu_time', 'items_per_second', 'bytes_per_second', 'swaps', 'rate'):
            if field not in found[0]: continue
            metric = f'{field} (us)' if unit == 'us' and field.endswith('_time') else field
            assert point.metrics[metric].samples == tuple(r[field] for r in found)
            if field.endswith('_time'): assert (run.metric_defs[metric].unit, run.metric_defs[metric].direction) == (unit, 'lower')
            if len(found) == 1: assert point.metrics[metric].value == found[0][field]
    median = next(r for r in raw['benchmarks'] if r.get('aggregate_name') == 'median')
    assert run.points[4].metrics['real_time (us)'].value == median['real_time']
    assert {m: (run.metric_defs[m].unit, str(run.metric_defs[m].direction)) for m in ('items_per_second', 'bytes_per_second', 'swaps')} == \
        {'items_per_second': ('items/s', 'higher'), 'bytes_per_second': ('B/s', 'higher'), 'swaps': ('', 'info')}
    fit, = [p for p in run.points if 'complexity' in p.tags]
    big_o, rms = (next(r for r in raw['benchmarks'] if r.get('aggregate_name') == n) for n in ('BigO', 'RMS'))
    assert (fit.tags, fit.metrics['real_coefficient'].value, fit.metrics['rms'].value) == ({'complexity': 'NlgN'}, big_o['real_coefficient'], rms['rms'])
    assert math.isnan(run.points[-1].metrics['real_time'].value) and run.metadata['failed'][0] == {'point': 'BM_error', 'metric': 'real_time', 'message': 'no such device'}

def test_pyperf_plain_and_compressed():
    run, raw = read_results(DATA/'pyperf.json'), content('pyperf.json')
    assert read_results(DATA/'pyperf.json.gz') == run
    for point, b in zip(run.points, raw['benchmarks'], strict=True):
        (metric, found), = point.metrics.items()
        expected = [v for r in b['runs'] for v in r.get('values', ())]
        assert point.name == b['metadata']['name'] and list(found.samples) == expected and found.value == statistics.median(expected)
        assert (metric, run.metric_defs[metric].unit) == {'second': ('time', 'second'), 'byte': ('memory', 'byte')}[b['metadata']['unit']]
        assert run.metric_defs[metric].direction == 'lower'
    assert run.environment['pyperf'] == raw['metadata'] and run.environment['cpu'] == 'AMD EPYC' and run.environment['host'] == 'lab-1'
    first = min(r['metadata']['date'] for b in raw['benchmarks'] for r in b['runs'])
    assert run.timestamp == datetime.fromisoformat(first).replace(tzinfo=UTC)

def test_hyperfine():
    run, raw = read_results(DATA/'hyperfine.json'), content('hyperfine.json')
    for point, r in zip(run.points, raw['results'], strict=True):
        assert (point.name, point.tags) == (r['command'], r['parameters'])
        assert point.metrics['time'].samples == tuple(r['times']) and point.metrics['time'].value == r['median']
        assert (point.metrics['user'].value, point.metrics['system'].value) == (r['user'], r['system'])
    assert [f['exit_codes'] for f in run.metadata['failed']] == [[1, 1, 1, 1]]*2
    assert {m: (d.unit, str(d.direction)) for m, d in run.metric_defs.items()} == {'time': ('s', 'lower'), 'user': ('s', 'info'), 'system': ('s', 'info')}
    written = datetime.fromtimestamp((DATA/'hyperfine.json').stat().st_mtime_ns//1000/1e6, UTC)
    assert abs((run.timestamp - written).total_seconds()) < 1e-3 and run.metadata['time_of'] == 'file'      # it records no time of its own

def test_bencher_and_lists():
    run, raw = read_results(DATA/'bencher.json'), content('bencher.json')
    for benchmark, measures in raw.items():
        point, = [p for p in run.points if p.name == benchmark]
        assert {m: v.to_dict() for m, v in point.metrics.items()} == {m: {k.removesuffix('_value'): x for k, x in v.items()} for m, v in measures.items()}
    assert {m: (d.unit, str(d.direction)) for m, d in run.metric_defs.items()} == {'latency': ('ns', 'lower'), 'throughput': ('ops/s', 'higher'), 'build-time': ('s', 'lower'), 'file-size': ('B', 'lower')}
    benches = content('github-action-benchmark.json')
    run = read_results(DATA/'github-action-benchmark.json')
    assert [(p.name, *(m.value for m in p.metrics.values())) for p in run.points] == [(b['name'], b['value']) for b in benches]
    assert {d.unit for d in run.metric_defs.values()} == {b['unit'] for b in benches}
    assert run.points[1].metrics['value (ns/iter)'].upper == 1250340.5 + 1250340.5*1.25/100
    bigger = read_results(DATA/'github-action-benchmark.json', format='customBiggerIsBetter')
    assert {str(d.direction) for d in bigger.metric_defs.values()} == {'higher'} and bigger.id != run.id

def test_tables():
    runs = read_results(DATA/'long.csv')
    assert [(r.commit, r.branch, r.timestamp.day, r.metadata['run_id']) for r in runs] == [('5a8e0d61', 'main', 1, 'r1'), ('05b12d98', 'main', 2, 'r2')]
    assert values(runs[0], 'latency_p50') == {'CV-1/small [framework=Grain]': Metric(value=11.5, lower=11.25, upper=11.75, samples=[11.5, 11.25, 11.75])}
    assert runs[0].metric_defs['throughput'] == MetricDef(name='throughput', unit='elem/s', direction='higher')
    assert values(runs[0], 'parameters') == {'a, "quoted" point': Metric(value=124e6)}
    wide = read_results(DATA/'wide.csv')
    assert wide.points[1].to_dict() == {'name': 'Grain', 'scenario': 'csv', 'tags': {'Batch size': '32'}, 'metrics': {
        'Latency': {'value': 11.6, 'samples': [11.5, 11.7]}, 'Throughput': {'value': 20070.0, 'samples': [20071.0, 20069.0]}, 'Loss': {'value': 0.32, 'samples': [0.32, 0.32]}}}
    assert {m: (d.unit, str(d.direction)) for m, d in wide.metric_defs.items()} == {'Latency': ('ms', 'lower'), 'Throughput': ('elem/s', 'higher'), 'Loss': ('', 'info')}

@pytest.mark.parametrize(('text', 'value'), [('point,value,metric\na,"1,234",t\n', 1234.0), ('point,value,metric\na,"-12,500.5",t\n', -12500.5), ('point,t\na,"1,234,567"\n', 1234567.0),
                                             ('point;value;metric\na;1,234;t\n', 1.234), ('point\tt\na\t12,5\n', 12.5)])
def test_a_comma_in_a_number(text, value):
    "Between thousands where commas separate columns, decimal elsewhere"
    assert values(read_results(text.encode(), timestamp='2026-03-02'), 't') == {'a': Metric(value=value)}

@pytest.mark.parametrize('number', ['1,5', '0,123', '1,23,456', '1234,567'])
def test_a_comma_that_could_be_either_is_refused(number):
    with pytest.raises(RecordError, match=f"t: expected a number, found '{number}'"): read_results(f'point,metric,value\na,t,"{number}"\n'.encode())

def test_bounds_that_are_no_numbers_are_refused():
    for text in ('point,metric,value,lower\na,t,1.5,abc\n', 'point,t,t lower,t unit\na,1.5,abc,ms\n'):
        with pytest.raises(RecordError, match="t lower: expected a number, found 'abc'"): read_results(text.encode())
    for text in ('point,metric,value,lower,upper\na,t,1.5,,2\n', 'point,t,t lower,t upper\na,1.5,,2\n'):
        assert values(read_results(text.encode(), timestamp='2026-03-02'), 't') == {'a': Metric(value=1.5, upper=2.0)}


# --- the same run each time ------------------------------------------------------------------------------------------------

@each_file
def test_reading_twice_is_the_same(name, tmp_path):
    first, second = read_results(DATA/name), read_results(DATA/name)
    assert first == second
    store = Store(tmp_path)
    ingest_results(store, DATA/name), ingest_results(store, DATA/name)
    assert len(store.list_runs()) == (len(first) if isinstance(first, list) else 1)

def test_layout_of_the_file_does_not_matter(tmp_path):
    raw = content('hyperfine.json')
    a = read_results(json.dumps(raw, indent=3).encode(), timestamp='2026-03-02')
    b = read_results(gzip.compress(json.dumps({k: raw[k] for k in reversed(raw)}).encode()), timestamp='2026-03-02')
    assert a.id == b.id and a == b
    raw['results'][0]['times'][0] = math.nextafter(raw['results'][0]['times'][0], 1)
    assert read_results(json.dumps(raw).encode(), timestamp='2026-03-02').id != a.id

def test_a_copy_of_a_file_without_a_time_is_the_same_measurement(tmp_path):
    store, copied = Store(tmp_path/'store'), tmp_path/'copy.json'
    shutil.copy(DATA/'hyperfine.json', copied)
    os.utime(copied, (0, 1e9))
    first, = ingest_results(store, DATA/'hyperfine.json')
    again, = ingest_results(store, copied)
    assert again == first and len(store.list_runs()) == 1

def test_new_code_of_a_benchmark_makes_no_second_run_of_old_commits(tmp_path):
    results, store = tmp_path/'results', Store(tmp_path/'store')
    shutil.copytree(DATA/'asv', results)
    before = ingest_results(store, results)
    definitions = json.loads((results/'benchmarks.json').read_text())
    definitions['sorting.time_builtin'] |= {'code': 'def time_builtin(): pass', 'version': 'new'}
    definitions['sorting.time_more'] = {**definitions['sorting.time_builtin'], 'name': 'sorting.time_more'}
    (results/'benchmarks.json').write_text(json.dumps(definitions))
    assert ingest_results(store, results) == before and len(store.list_runs()) == 2
    definitions['sorting.track_throughput']['unit'] = 'ms'            # another unit is another meaning
    (results/'benchmarks.json').write_text(json.dumps(definitions))
    assert {r.id for r in ingest_results(store, results)}.isdisjoint(r.id for r in before)

def test_a_history_that_grows_adds_its_new_entries_only(tmp_path):
    store, raw = Store(tmp_path), content('github-action-data.js')
    ingest_results(store, json.dumps(raw).encode())
    entry = copy.deepcopy(raw['entries']['Rust Benchmark'][1])
    entry['commit']['id'], entry['date'] = 'c0ffee', entry['date'] + 86400000
    raw['entries']['Rust Benchmark'].append(entry)
    raw['lastUpdate'] += 86400000
    ingest_results(store, json.dumps(raw).encode())
    assert len(store.list_runs()) == 4

def test_what_the_caller_says(tmp_path):
    run = read_results(DATA/'hyperfine.json', commit='4f2a9c1', branch='main', timestamp=datetime(2026, 3, 2, tzinfo=UTC))
    assert (run.commit, run.branch, run.timestamp, 'time_of' in run.metadata) == ('4f2a9c1', 'main', datetime(2026, 3, 2, tzinfo=UTC), False)
    assert run.id != read_results(DATA/'hyperfine.json', commit='05b12d9').id
    file = read_results(DATA/'pytest-benchmark.json', commit='4f2a9c1', branch='other', timestamp='2020-01-01')      # the file knows
    assert file == read_results(DATA/'pytest-benchmark.json')
    defs = {'track (swaps)': MetricDef(name='track (swaps)', unit='', direction='lower', group='Work', priority='primary')}
    found = read_results(DATA/'asv', metric_defs=defs)[0].metric_defs['track (swaps)']
    assert found == MetricDef(name='track (swaps)', unit='swaps', direction='lower', group='Work', priority='primary')
    store = Store(tmp_path)
    store.write_config(metric_defs={'sections': {'direction': 'lower', 'unit': ''}})
    ingested, = ingest_results(store, b'{"my_binary": {"sections": {"value": 7}}}', timestamp='2026-03-02')
    assert ingested.metric_defs['sections'].direction == 'lower'

@pytest.mark.parametrize(('unit', 'direction'), [('s', 'lower'), ('seconds', 'lower'), ('\u00b5s', 'lower'), ('ns/op', 'lower'), ('B', 'lower'), ('KiB', 'lower'), ('MB', 'lower'), ('bytes', 'lower'),
    ('allocs/op', 'lower'), ('J', 'lower'), ('items/s', 'higher'), ('iter/sec', 'higher'), ('GB/s', 'higher'), ('elem / second', 'higher'), ('ops/sec', 'higher'), ('fps', 'higher'),
    ('TFLOPS', 'higher'), ('MB per second', 'higher'), ('%', 'info'), ('', 'info'), ('GFLOPs', 'info'), ('ops', 'info'), ('score', 'info'), ('points', 'info')])
def test_direction_of_a_unit(unit, direction): assert direction_of(unit) == direction


# --- told apart by content -------------------------------------------------------------------------------------------------

@each_file
@pytest.mark.parametrize('called', ['results.txt', 'pyperf.json', 'data.csv', 'machine.json.gz', 'no_suffix'])
def test_formats_are_told_by_content(name, called, tmp_path):
    file = tmp_path/called
    shutil.copy(DATA/name, file)
    assert detect_format(file) == FILES[name]
    found, expected = read_results(file), read_results((DATA/name).read_bytes() if 'asv' in name else DATA/name)
    for a, b in zip(*(r if isinstance(r, list) else [r] for r in (found, expected)), strict=True): assert (a.id, a.points) == (b.id, b.points)
    assert read_results(file, format=FILES[name]) == found

def test_formats_of_empty_suites():
    for text, name in (('{"benchmarks": [], "machine_info": {}}', 'pytest-benchmark'), ('{"benchmarks": [], "context": {}}', 'google-benchmark'),
                       ('{"benchmarks": [], "version": "1.0"}', 'pyperf')):
        assert detect_format(text.encode()) == name
        with pytest.raises(RecordError, match='no results'): read_results(text.encode())

def test_format_names():
    assert list_formats()[0] == 'run' and set(FORMATS) < set(list_formats()) and 'auto' not in list_formats()
    with pytest.raises(ConfigError, match="unknown format 'gbench'"): read_results(b'{}', format='gbench')
    with pytest.raises(ConfigError, match='did you mean pytest-benchmark'): read_results(b'{}', format='pytest')
    with pytest.raises(RecordError, match='it looks like hyperfine'): read_results(DATA/'hyperfine.json', format='asv')
    run = Run(points=[Point(name='a', scenario='s')])
    assert read_results(run.to_json().encode(), format='run') == read_results(run.to_json().encode()) == run

def test_unknown_files_are_told_what_was_looked_for():
    for text, nearest in (('{"benchmarks": [{"fullname": "a"}], "machine_info": {}}', 'nearest is pytest-benchmark, which would have name, stats'),
                          ('{"commit_hash": "a", "params": {}}', 'nearest is asv, which would have results'), ('{"results": []}', 'nearest is hyperfine')):
        with pytest.raises(RecordError, match=nearest) as e: read_results(text.encode())
        assert all(name in e.value.message for name in ('asv (commit_hash, results)', 'pyperf', 'Bencher')) and e.value.hint
    for file, what in (('benchmarks.json', 'the definitions of asv'), ('lab-1/machine.json', 'a machine of asv')):
        with pytest.raises(RecordError, match=what): read_results(DATA/'asv'/file)


# --- damaged files ---------------------------------------------------------------------------------------------------------

def changed(name, change):
    raw = content(name)
    change(raw)
    return json.dumps(raw).encode()

def put(*path, value):
    def change(raw):
        for key in path[:-1]: raw = raw[key]
        raw[path[-1]] = value
    return change

TIME = 'sorting.Sorting.time_insertion'
ONE = next(n for n in FILES if n.startswith('asv'))
MALFORMED = {
    'empty': (b'', 'it is empty'), 'spaces': (b' \n\n', 'it is empty'), 'cut off': ((DATA/'pyperf.json').read_bytes()[:900], 'not JSON: line 1 column'),
    'cut gzip': ((DATA/'pyperf.json.gz').read_bytes()[:900], 'damaged gzip data'), 'damaged gzip': ((DATA/'pyperf.json.gz').read_bytes()[:900] + b'\0'*900, 'damaged gzip data'),
    'binary': (bytes(range(256))*4, 'neither JSON nor text'), 'words': (b'time: 3 seconds', 'no table of results'), 'number': (b'3.5', 'no table of results'),
    'html': (b'<html><body>404, not found</body></html>', 'no table of results'), 'deep': (b'['*200_000, 'nested too deeply'), 'deep object': (b'{"a":'*5000 + b'1' + b'}'*5000, 'nested too deeply'),
    'long integer': (b'{"results": [{"command": "a", "times": [' + b'1'*5000 + b']}]}', 'not JSON'), 'huge integer': (b'{"results": [{"command": "a", "times": [' + b'1'*400 + b']}]}', r'results\[0\].times\[0\]'),
    'lone surrogate': (b'{"results": [{"command": "\\ud800", "times": [1.0]}]}', 'Unicode text'), 'script': (b'window.BENCHMARK_DATA = {"entries": ', 'not JSON'),
    'asv version 1': (changed(ONE, put('version', value=1)), 'version: results of version 1'), 'asv columns': (changed(ONE, put('result_columns', value='result')), 'result_columns: expected array'),
    'asv result': (changed(ONE, put('results', TIME, 0, 1, value='fast')), r"results\['sorting.Sorting.time_insertion'\].result\[1\]: expected"),
    'asv grid': (changed(ONE, put('results', TIME, 1, value=[['1', '2', '3']])), '3 combinations of parameters, but 4 results'),
    'asv samples': (changed(ONE, put('results', TIME, 11, 0, value={})), r'samples\[0\]: expected array'), 'asv date': (changed(ONE, put('date', value=1e300)), 'date: expected a time'),
    'pytest data': (changed('pytest-benchmark.json', put('benchmarks', 2, 'stats', 'data', 3, value=None)), r'benchmarks\[2\].stats.data\[3\]: expected float, got null'),
    'pytest stats': (changed('pytest-benchmark.json', put('benchmarks', 1, 'stats', value={})), r'benchmarks\[1\].stats: neither median'),
    'pytest commit': (changed('pytest-benchmark.json', put('commit_info', 'id', value=3)), 'commit_info.id: expected'), 'pytest time': (changed('pytest-benchmark.json', put('datetime', value='noon')), "datetime: expected a time, found 'noon'"),
    'google time': (changed('google-benchmark.json', put('benchmarks', 0, 'real_time', value='1.5 ns')), r'benchmarks\[0\].real_time: expected'),
    'google date': (changed('google-benchmark.json', put('context', 'date', value='2026')), 'context.date: expected a time'),
    'pyperf version': (changed('pyperf.json', put('version', value='6')), 'version: format version'), 'pyperf values': (changed('pyperf.json', put('benchmarks', 0, 'runs', 1, 'values', value=['1'])), r'benchmarks\[0\].runs\[1\].values\[0\]: expected float'),
    'hyperfine times': (changed('hyperfine.json', put('results', 0, 'times', 2, value=True)), r'results\[0\].times\[2\]: expected float'), 'hyperfine parameters': (changed('hyperfine.json', put('results', 0, 'parameters', value=[])), r'results\[0\].parameters: expected object'),
    'action value': (changed('github-action-benchmark.json', put(1, 'value', value='12')), r'\[1\].value: expected float'),
    'action history': (changed('github-action-data.js', put('entries', 'Rust Benchmark', 0, 'benches', 1, 'name', value=None)), r"benches\[1\].name: expected str"),
    'action date': (changed('github-action-data.js', put('entries', 'Rust Benchmark', 0, 'date', value=-1e18)), r"entries\['Rust Benchmark'\]\[0\].date: expected a time"),
    'bencher value': (changed('bencher.json', put('my_binary', 'file-size', value={'value': '42'})), r"\['my_binary'\]\['file-size'\].value: expected float"),
    'csv heading': (b'point,metric,value\n', 'a heading and no rows'), 'csv row': (b'point,metric,value\na,b,1,2\n', 'line 2: 4 cells, and 3 columns'),
    'csv number': (b'point,metric,value\na,b,fast\n', "expected a number, found 'fast'"), 'csv twice': (b'a,b,b\nx,1,2\n', "two columns are called 'b'"), 'csv quote': (b'a,b\n"x,1\n', 'line'),
    'csv units': (b'point,metric,value,unit\na,m,1,s\nb,m,2,ms\n', 'two units'), 'csv no numbers': (b'a,b\nx,y\n', 'no column of numbers')}

@pytest.mark.parametrize('case', MALFORMED)
def test_damaged_files_are_refused_with_a_place(case, tmp_path):
    data, message = MALFORMED[case]
    file = tmp_path/'results.json'
    file.write_bytes(data)
    with pytest.raises(CalibraxError, match=message) as e: read_results(file)
    assert 'results.json' in e.value.message and e.value.hint and len(e.value.message) < 1500

@pytest.mark.parametrize(('version', 'message'), [('2', 'written in format 2, and this calibrax reads formats up to 1'), ('"1"', "schema_version: expected a whole number from 1, found '1'"),
                                                  ('0', 'schema_version: expected a whole number from 1, found 0'), ('true', 'schema_version: expected a whole number from 1, found True')])
def test_runs_of_a_later_calibrax_are_refused_as_the_store_does(version, message, tmp_path):
    data = b'{"schema_version": ' + version.encode() + b', ' + suite().to_json().encode().lstrip()[1:]
    with pytest.raises(RecordError) as ours: read_results(data, name='r.json')
    assert ours.value.message == f'r.json: {message}'
    store = Store(tmp_path)
    path = Path(store.save(suite()))
    path.write_bytes(data)
    with pytest.raises(CalibraxError) as theirs: Store(tmp_path).load('r1')
    assert theirs.value.message.endswith(message)

def test_unreadable_sources(tmp_path):
    with pytest.raises(StoreError, match='cannot read .*: no such file'): read_results(tmp_path/'none.json')
    with pytest.raises(RecordError, match='no files of results'): read_results(tmp_path)
    (tmp_path/'lab-1').mkdir()
    shutil.copy(DATA/'asv'/'lab-1'/'machine.json', tmp_path/'lab-1')
    with pytest.raises(RecordError, match='no results of asv'): read_results(tmp_path)
    (tmp_path/'lab-1'/'4f2a9c1-env.json').write_text('{')
    with pytest.raises(RecordError, match='4f2a9c1-env.json: not JSON'): read_results(tmp_path)

def test_memory_is_bounded():
    bomb = gzip.compress(bytes(LARGEST + 1), 9)
    assert len(bomb) < 1e6
    with pytest.raises(RecordError, match='larger than 256 MiB'): read_results(bomb)
    many = {'commit_hash': 'a', 'version': 2, 'result_columns': ['result', 'params'], 'results': {'time_a': [None, [[str(i) for i in range(1000)]]*6]}}
    started = time.perf_counter()
    assert len(read_results(json.dumps(many).encode(), timestamp='2026-03-02').points) == 1         # 10¹⁸ combinations of a benchmark that failed
    assert time.perf_counter() - started < 1

def refuse_or_read(data, **options):
    "Whatever the bytes, the answer is a run or an error of ours"
    try: found = read_results(data, timestamp='2026-03-02', **options)
    except CalibraxError as e: assert e.hint
    else: assert all(isinstance(r, Run) for r in (found if isinstance(found, list) else [found]))

some_file = st.sampled_from([n for n in FILES])
quick = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)

@quick
@given(some_file, st.data())
def test_any_change_of_bytes_is_refused_or_read(name, data):
    raw = bytearray((DATA/name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at, n = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 30))
        raw[at:at + n] = data.draw(st.one_of(st.binary(max_size=12), st.sampled_from([b'null', b'NaN', b'[]', b'{}', b'"x"', b'-1', b'1e999', b',', b'"', b'\\ud800', b'true', b'\n'])))
    refuse_or_read(bytes(raw))

def nodes(value, path=()):
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else (): yield from nodes(inner, (*path, key))

anything = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(-10**20, 10**20), st.floats(), st.text(max_size=5)),
                        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(['name', 'value', 'stats', 'runs', '$samples', 'calibrax', 'x']), inner, max_size=3)), max_leaves=5)

@quick
@given(some_file.filter(lambda n: not n.endswith('.csv')), st.data())
def test_any_change_of_structure_is_refused_or_read(name, data):
    raw = content(name)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(nodes(raw))))
        if not path: continue
        inner = raw
        for key in path[:-1]: inner = inner[key]
        if data.draw(st.booleans()): del inner[path[-1]]
        else: inner[path[-1]] = data.draw(anything)
    encoded = json.dumps(raw).encode()
    refuse_or_read(encoded)
    refuse_or_read(encoded, format=FILES[name])

@quick
@given(st.text(alphabet='abc,;\t\n"\' 0123456789.-+eE[](){}↑:', max_size=80), st.sampled_from(['', 'point,metric,value\n', 'a;tag:b;c (ms)\n', 'timestamp,commit,x\n']))
@example('0,1,1_0\n', 'point,metric,value\n')
def test_any_text_is_refused_or_read(text, heading): refuse_or_read((heading + text).encode(), format='csv')

@settings(max_examples=60, deadline=None)
@given(anything, st.sampled_from(list_formats()))
def test_any_data_is_refused_or_read_as_any_format(value, name): refuse_or_read(json.dumps(value).encode(), format=name)

@pytest.mark.parametrize('writer', ['asv', 'pytest-benchmark'])
@quick
@given(data=st.data())
def test_any_change_of_our_own_files_is_refused_or_read(writer, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('own')
    get_exporter(writer)(folder).export_run(suite())
    file = next(p for p in sorted(folder.rglob('*.json')) if p.name not in ('benchmarks.json', 'machine.json'))
    raw = json.loads(file.read_text())
    path = data.draw(st.sampled_from([p for p in nodes(raw) if p]))
    inner = raw
    for key in path[:-1]: inner = inner[key]
    inner[path[-1]] = data.draw(anything)
    refuse_or_read(json.dumps(raw).encode())


# --- there and back --------------------------------------------------------------------------------------------------------

DEFS = {'latency': MetricDef(name='latency', unit='s', direction='lower', group='Latency', priority='primary', description='median'),
        'p99': MetricDef(name='p99', unit='ms', direction='lower'), 'throughput': MetricDef(name='throughput', unit='elem/s', direction='higher'),
        'parameters': MetricDef(name='parameters', unit='', direction='info')}
COMMIT = '05b12d98c75e5ccc40ee3e100ab71d72e3bdd7c4'

def suite(**changes):
    points = [Point(name='CV-1/small', scenario='CV-1', tags={'framework': f, 'n': n}, metrics={
        'latency': Metric(value=l, samples=[l*x for x in (1.01, 1.0, 0.98, 1.03)]), 'p99': Metric(value=l*1.3e3, lower=l*1.2e3, upper=l*1.5e3), 'throughput': Metric(value=240/l)})
        for f, n, l in (('Datarax', '32', 0.0119), ('Datarax', '64', 0.0231), ('Grain', '32', 0.0117))]
    points.append(Point(name='LM-1 & "eval"_%', scenario='LM-1', metrics={'latency': Metric(value=0.5), 'parameters': Metric(value=124e6)}))
    return Run(**{'id': 'r1', 'timestamp': '2026-03-02T12:00:00.123456+00:00', 'commit': COMMIT, 'branch': 'main', 'environment': {'cpu': 'AMD EPYC', 'python': '3.11.7', 'devices': [{'kind': 'H200'}]},
                  'metadata': {'note': 'NaN', 'dirty': False}, 'metric_defs': DEFS, 'points': points, **changes})

number = st.floats(allow_subnormal=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
metrics = st.builds(lambda v, l, u, s: Metric(value=v, lower=l, upper=u, samples=s), number, st.none() | number, st.none() | number, st.none() | st.lists(number, max_size=5))
words = st.text(st.characters(exclude_categories=['Cs']), max_size=6)
points = st.builds(lambda n, s, t, m: Point(name=n, scenario=s, tags=t, metrics=m), words, st.sampled_from(['s', 't.u', '']), st.dictionaries(st.sampled_from('ab'), words, max_size=2),
                   st.dictionaries(st.sampled_from([*DEFS, 'undefined']), metrics, max_size=3))
runs = st.builds(lambda p, t, b: Run(id='r1', timestamp=t, commit=COMMIT, branch=b, points=p, metric_defs=DEFS, metadata={'x': math.inf}), st.lists(points, min_size=1, max_size=6),
                 st.datetimes(datetime(1980, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)), st.none() | words)

@quick
@given(runs)
@example(suite())
def test_asv_and_back(tmp_path_factory, run):
    assume(any(p.metrics for p in run.points))
    folder = export_asv(run, tmp_path_factory.mktemp('asv'))
    assert read_results(folder) == run
    file, = [p for p in folder.glob('*/*.json') if p.name != 'machine.json']
    assert read_results(file.read_bytes()) == run           # without its neighbours too

@quick
@given(runs)
@example(suite())
def test_pytest_benchmark_and_back(run):
    times = any(m in p.metrics and all(abs(v) < 1e150 for v in (p.metrics[m].value, *(p.metrics[m].samples or ()))) for p in run.points for m in ('latency', 'p99'))
    if not times:
        with pytest.raises(ExportError): pytest_benchmark_document(run)
        return
    assert read_results(json.dumps(pytest_benchmark_document(run)).encode()) == run

def test_github_action_and_back():
    run = suite()
    lists = github_action_lists(run)
    assert set(lists) == {'customBiggerIsBetter', 'customSmallerIsBetter'} and len({b['name'] for found in lists.values() for b in found}) == sum(map(len, lists.values()))
    back = [read_results(json.dumps(found).encode(), timestamp='2026-03-02') for found in lists.values()]
    found = {(p.name, p.scenario, tuple(p.tags.items()), m): v for r in back for p in r.points for m, v in p.metrics.items()}
    assert found == {(p.name, p.scenario, tuple(p.tags.items()), m): v for p in run.points for m, v in p.metrics.items() if m != 'parameters'}
    assert {m: d for r in back for m, d in r.metric_defs.items()} == {m: d for m, d in DEFS.items() if m != 'parameters'}

@pytest.mark.parametrize('name', ['asv', 'pytest-benchmark'])
def test_a_foreign_run_is_written_as_it_was(name, tmp_path):
    source = ASV[0] if name == 'asv' else DATA/'pytest-benchmark.json'
    run, exporter = read_results(source), get_exporter(name).from_settings(ExportSettings(output=tmp_path))
    exporter.export_run(run)
    written, = [p for p in tmp_path.rglob('*.json') if p.name not in ('benchmarks.json', 'machine.json')]
    assert json.dumps(json.loads(written.read_text())) == json.dumps(json.loads(source.read_text()))
    assert read_results(written) == run
    if name == 'asv':
        assert written.relative_to(tmp_path) == source.relative_to(DATA/'asv')
        for file in ('benchmarks.json', 'lab-1/machine.json'): assert json.loads((tmp_path/file).read_text()) == json.loads((DATA/'asv'/file).read_text())

def test_an_export_that_is_read_again_adds_nothing(tmp_path):
    store = Store(tmp_path/'store')
    for run in (suite(), suite(id='r2', timestamp='2026-03-03T12:00:00+00:00', commit='5a8e0d61')): store.save(run)
    ingest_results(store, export_asv(store, tmp_path/'asv'))
    PytestBenchmarkExporter(tmp_path/'ptb').export_run(suite())
    ingest_results(store, tmp_path/'ptb')
    assert len(store.list_runs()) == 2
    PytestBenchmarkExporter(tmp_path/'some', metrics=['latency']).export_run(suite())
    partial, = ingest_results(store, tmp_path/'some')
    assert partial.id != 'r1' and len(store.list_runs()) == 3

@given(words)
def test_parameters_and_back(tag): assert tag_of(parameter_of(tag)) == tag

@pytest.mark.parametrize('parameter', ["'random'", '100', "'100'", 'None', "'None'", '(1, 2)', '<function f>', "''", '"it\'s"', "'a' (0)"])
def test_parameters_of_asv_stay_apart(parameter):
    others = ["'random'", '100', "'100'", 'None', "'None'", '(1, 2)', '<function f>', "''", '"it\'s"', "'a' (0)"]
    assert [p for p in others if tag_of(p) == tag_of(parameter)] == [parameter]

def test_our_csv_is_read_back(tmp_path):
    publication = pytest.importorskip('calibrax.exporters.publication')
    run = suite()
    file = tmp_path/'table.csv'
    publication.CsvExporter(file).export_run(run)
    back = read_results(file)
    found = {(p.name, p.scenario, tuple(sorted(p.tags.items())), m): v.value for p in back.points for m, v in p.metrics.items()}
    assert found == {(p.name, p.scenario, tuple(sorted(p.tags.items())), m): v.value for p in run.points for m, v in p.metrics.items()}
    assert {m: d.unit for m, d in back.metric_defs.items()} == {m: d.unit for m, d in DEFS.items()}
    p99 = next(p for p in back.points if p.tags.get('n') == '64').metrics['p99']
    assert (p99.lower, p99.upper) == (run.points[1].metrics['p99'].lower, run.points[1].metrics['p99'].upper)

def test_a_frame_as_csv_is_read_back():
    pytest.importorskip('pandas', reason='pandas is not installed')
    frames = pytest.importorskip('calibrax.core.frames')
    run = suite()
    back = read_results(frames.runs_frame([run]).to_csv().encode())
    assert (back.commit, back.branch, back.timestamp) == (run.commit, run.branch, run.timestamp)
    assert {(p.name, p.scenario, tuple(p.tags.items())): p.metrics for p in back.points} == {(p.name, p.scenario, tuple(p.tags.items())): p.metrics for p in run.points}
    assert {m: (d.unit, d.direction) for m, d in back.metric_defs.items()} == {m: (d.unit, d.direction) for m, d in DEFS.items()}


# --- the published calibrax's faults ---------------------------------------------------------------------------------------

def listing(folder): return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob('*') if p.is_file())

def test_units_and_types_are_right(tmp_path):
    "There, every metric became type time in seconds"
    definitions = json.loads((export_asv(suite(), tmp_path)/'benchmarks.json').read_text())
    assert definitions.pop('version') == 2
    assert {n: (d['type'], d['unit']) for n, d in definitions.items()} == {
        'CV-1.CV-1/small.latency': ('time', 'seconds'), 'CV-1.CV-1/small.p99': ('track', 'ms'), 'CV-1.CV-1/small.throughput': ('track', 'elem/s'),
        'LM-1.LM-1 & "eval"_%.latency': ('time', 'seconds'), 'LM-1.LM-1 & "eval"_%.parameters': ('track', '')}
    assert definitions['CV-1.CV-1/small.latency']['param_names'] == ['framework', 'n'] and definitions['CV-1.CV-1/small.latency']['params'] == [["'Datarax'", "'Grain'"], ['32', '64']]

def test_there_is_a_machine(tmp_path):
    "There, machine.json was missing, and asv refuses such a folder"
    export_asv(suite(environment={'machine': 'lab/1', 'cpu': 'EPYC', 'architecture': 'x86_64', 'cores_logical': 8, 'memory_gb': 2.0, 'os': 'Debian 12'}), tmp_path)
    assert json.loads((tmp_path/'lab_1'/'machine.json').read_text()) == {'machine': 'lab_1', 'arch': 'x86_64', 'cpu': 'EPYC', 'num_cpu': '8', 'os': 'Debian 12', 'ram': '2097152', 'version': 1}

def test_two_runs_of_one_commit_are_both_there(tmp_path):
    "There, the second overwrote the first"
    first, second = suite(), suite(id='r2', timestamp='2026-03-02T13:00:00+00:00')
    for order in ([first, second], [second, first], [second, first, second]):
        folder = tmp_path/'-'.join(r.id for r in order)
        for run in order: AsvExporter(folder).export_run(run)
        assert {r.id: r for r in read_asv_folder(folder)} == {'r1': first, 'r2': second} and len(listing(folder)) == 4
    export_asv([second, first], folder := tmp_path/'at once')
    assert listing(folder) == ['benchmarks.json', 'default/05b12d98-calibrax-py3.11.7-r2.json', 'default/05b12d98-calibrax-py3.11.7.json', 'default/machine.json']

def test_results_of_asv_itself_are_never_overwritten(tmp_path):
    shutil.copytree(DATA/'asv', tmp_path/'results')
    before = {f: (tmp_path/'results'/f).read_bytes() for f in listing(tmp_path/'results')}
    export_asv(suite(environment=read_results(ASV[0]).environment), tmp_path/'results')
    after = {f: (tmp_path/'results'/f).read_bytes() for f in listing(tmp_path/'results')}
    assert {f: b for f, b in after.items() if f in before and f != 'benchmarks.json'} == {f: b for f, b in before.items() if f != 'benchmarks.json'}
    assert json.loads(before['benchmarks.json']).items() < json.loads(after['benchmarks.json']).items()
    assert len(read_results(tmp_path/'results')) == 3

def test_runs_without_a_commit_are_named(tmp_path, caplog):
    export_asv([suite(), suite(id='loose', commit=None)], tmp_path)
    assert 'loose' in caplog.text and len(listing(tmp_path)) == 3
    with pytest.raises(ExportError, match='no run has a commit'): export_asv([suite(commit=None)], tmp_path)
    assert export_asv(Store(tmp_path/'empty'), tmp_path/'out') == tmp_path/'out' and listing(tmp_path/'out') == []

def test_names_lead_nowhere_else(tmp_path):
    run = suite(commit='../../../evil', environment={'machine': '../../up', 'python': '../x'})
    export_asv(run, tmp_path/'a'/'b')
    PytestBenchmarkExporter(tmp_path/'a'/'c').export_run(replace(run, id='../../evil'))
    assert {f.split('/')[0] for f in listing(tmp_path)} == {'a'} and {f.split('/')[1] for f in listing(tmp_path)} == {'b', 'c'}
    assert read_results(tmp_path/'a'/'b') == run

def test_many_configurations_make_no_huge_grid(tmp_path):
    run = suite(points=[Point(name='p', scenario='s', tags={k: str(i) for k in 'abcd'}, metrics={'latency': Metric(value=i + 1.0)}) for i in range(300)])
    started = time.perf_counter()
    definitions = json.loads((export_asv(run, tmp_path)/'benchmarks.json').read_text())
    assert [len(v) for v in definitions['s.p.latency']['params']] == [300] and time.perf_counter() - started < 5
    assert read_results(tmp_path) == run

def test_names_with_dots_stay_apart(tmp_path):
    run = suite(points=[Point(name=n, scenario=s, metrics={m: Metric(value=v)}) for s, n, m, v in (('a', 'b', 'c.d', 1), ('a', 'b.c', 'd', 2), ('a.b', 'c', 'd', 3))])
    assert read_results(export_asv(run, tmp_path)) == run and len(json.loads((tmp_path/'benchmarks.json').read_text())) == 4

def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path/'benchmarks.json').write_text('{"half": ')
    with pytest.raises(ExportError, match='cannot add to'): export_asv(suite(), tmp_path)
    assert listing(tmp_path) == ['benchmarks.json']
    (tmp_path/'file').write_text('')
    with pytest.raises(ExportError): export_asv(suite(), tmp_path/'file')
    with pytest.raises(ExportError): PytestBenchmarkExporter(tmp_path/'file').export_run(suite())


# --- exporters ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['asv', 'pytest-benchmark', 'github-action-benchmark'])
def test_exporters_are_made_from_settings(name, tmp_path):
    cls = get_exporter(name)
    with pytest.raises(ExportError, match=f'{name}: no output given'): cls.from_settings(ExportSettings())
    exporter, run = cls.from_settings(ExportSettings(output=tmp_path/'out', metrics=('latency', 'p99'))), suite()
    preview = exporter.preview(run, suite(id='r0', commit='5a8e0d61'))
    assert preview.columns == ('item', 'kind', 'content') and len(preview.rows) >= 3 and not listing(tmp_path)
    assert exporter.export_run(run)
    exporter.export_analysis(run, suite(id='r0', commit='5a8e0d61'))
    written = '\n'.join((tmp_path/'out'/f).read_text() for f in listing(tmp_path/'out'))
    assert 'latency' in written and 'p99' in written and '"throughput": {' not in written
    with pytest.raises(ExportError, match='no metric'): cls(tmp_path, metrics=['loss']).export_run(run)
    with pytest.raises(ExportError, match='no metric'): cls(tmp_path).export_run(replace(run, points=()))

def test_which_exporters_hold_one_run(tmp_path):
    held = {cls.name: [cls(tmp_path/out).holds_one_run for out in ('folder', 'file.json')] for cls in (AsvExporter, GithubActionExporter, PytestBenchmarkExporter)}
    assert held == {'asv': [False, False], 'github-action-benchmark': [True, True], 'pytest-benchmark': [False, True]}

def test_a_metric_that_some_runs_lack(tmp_path, caplog):
    for cls in (AsvExporter, PytestBenchmarkExporter):
        exporter = cls(tmp_path/cls.name, metrics=['latency', 'new'])
        assert exporter.export_run(suite()) and caplog.records.pop().getMessage() == "run r1 has no metric 'new'"
        with pytest.raises(ExportError, match="has no metric 'new' or 'newer'"): cls(tmp_path/cls.name, metrics=['new', 'newer']).export_run(suite())

@pytest.mark.parametrize(('cls', 'baseline', 'why'), [(AsvExporter, {'commit': None}, 'no run has a commit'), (AsvExporter, {'points': ()}, 'has no metric'),
                                                      (PytestBenchmarkExporter, {'points': ()}, 'has no metric'), (PytestBenchmarkExporter, {'metric_defs': {}}, 'has no time')])
def test_a_baseline_that_does_not_fit_fails_no_export(cls, baseline, why, tmp_path, caplog):
    exporter, before = cls(tmp_path), suite(id='old', **baseline)
    for run in (suite(), suite(id='r2', timestamp='2026-03-02T13:00:00+00:00')): assert exporter.export(run, before)
    told, = [r.getMessage() for r in caplog.records if r.levelname == 'WARNING']      # once for both runs
    assert 'old' in told and why in told and {r.id for r in read_results(tmp_path)} == {'r1', 'r2'}
    assert why in str(exporter.preview(suite(), before).rows[-1]) and exporter.preview(suite(), before).rows[:-1] == exporter.preview(suite()).rows

@pytest.mark.parametrize('cls', [AsvExporter, PytestBenchmarkExporter])
def test_a_baseline_is_written_once(cls, tmp_path, monkeypatch):
    wrote, write = [], cls._write_baseline
    monkeypatch.setattr(cls, '_write_baseline', lambda self, run, baseline: wrote.append(baseline.id) or write(self, run, baseline))
    exporter = cls(tmp_path)
    for i in range(3): exporter.export(suite(id=f'r{i}', timestamp=f'2026-03-02T1{i}:00:00+00:00'), suite(id='old'))
    assert wrote == ['old'] and {r.id for r in read_results(tmp_path)} == {'old', 'r0', 'r1', 'r2'}

def test_definitions_of_the_store_count(tmp_path):
    run = suite(metric_defs={})
    with pytest.raises(ExportError, match='no time'): pytest_benchmark_document(run)
    with pytest.raises(ExportError, match='has no metric that'): github_action_lists(run)
    assert {b['name'] for b in github_action_lists(run, metric_defs=DEFS)['customBiggerIsBetter']} == {f'CV-1/small [{t}] throughput' for t in ('framework=Datarax, n=32', 'framework=Datarax, n=64', 'framework=Grain, n=32')}
    store = Store(tmp_path/'store')
    store.write_config(metric_defs={n: {'unit': d.unit, 'direction': str(d.direction)} for n, d in DEFS.items()})
    store.save(run)
    definitions = json.loads((export_asv(store, tmp_path/'asv')/'benchmarks.json').read_text())
    assert definitions['CV-1.CV-1/small.throughput']['unit'] == 'elem/s'

def test_lists_for_the_action_are_what_javascript_reads(tmp_path):
    GithubActionExporter(tmp_path).export_run(suite(points=[*suite().points, Point(name='odd', scenario='s', metrics={'latency': Metric(value=math.inf), 'p99': Metric(value=math.nan)})]))
    assert listing(tmp_path) == ['customBiggerIsBetter.json', 'customSmallerIsBetter.json']
    for file in listing(tmp_path):
        def refuse(token): raise AssertionError(token)
        for bench in json.loads((tmp_path/file).read_text(), parse_constant=refuse):
            assert isinstance(bench['name'], str) and isinstance(bench['unit'], str) and isinstance(bench['value'], float)
            assert all(isinstance(bench.get(key, ''), str) for key in ('range', 'extra'))
    assert github_action_lists(suite())['customSmallerIsBetter'][0]['value'] == suite().points[0].metrics['latency'].value


# --- the real tools ------------------------------------------------------------------------------------------------------------

def program(name):
    "A program beside this Python, or on the path"
    beside = Path(sys.executable).parent/name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None: pytest.skip(f'{name} is not installed')
    return found

def ran(*command, cwd, ok=True):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, env={**os.environ, 'HOME': str(cwd), 'GIT_CONFIG_GLOBAL': os.devnull, 'COLUMNS': '300'})
    assert not ok or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr

@pytest.fixture
def project(tmp_path):
    "A git repository of two commits with a configuration of asv, and a run for each"
    if shutil.which('git') is None: pytest.skip('git is not installed')
    git = partial(ran, 'git', '-c', 'user.name=A', '-c', 'user.email=a@example.com', cwd=tmp_path)
    git('init', '-q', '-b', 'main')
    (tmp_path/'benchmarks').mkdir()
    (tmp_path/'benchmarks'/'__init__.py').write_text('')
    (tmp_path/'asv.conf.json').write_text(json.dumps({'version': 1, 'project': 'demo', 'project_url': 'https://github.com/example/demo', 'repo': '.', 'branches': ['main'], 'environment_type': 'virtualenv'}))
    git('add', '-A')
    for message in ('First', 'Second'): git('commit', '-q', '--allow-empty', '-m', message)
    commits = git('log', '--reverse', '--format=%H').split()
    slow = [replace(p, metrics={n: replace(m, value=m.value*2, samples=m.samples and tuple(s*2 for s in m.samples)) for n, m in p.metrics.items()}) for p in suite().points]
    odd = Point(name='../up <b>', scenario='ö %s', metrics={'latency': Metric(value=math.nan), 'throughput': Metric(value=math.inf), 'p99': Metric(value=-1.0, samples=[-1.0])})
    runs = [suite(commit=commits[0], points=[*suite().points, odd]), suite(id='r2', commit=commits[1], timestamp='2026-03-03T12:00:00+00:00', points=[*slow, odd]),
            suite(id='r3', commit=commits[1], timestamp='2026-03-03T13:00:00+00:00', points=slow)]
    return tmp_path, runs

def test_asv_publishes_shows_and_compares_our_export(project):
    asv, (folder, runs) = program('asv'), project
    assert ran(asv, '--version', cwd=folder)
    export_asv(runs, folder/'results')
    published = ran(asv, 'publish', cwd=folder)
    assert 'Writing index' in published and not re.search('(?i)warning|error|traceback', published)
    graph = next(p for p in (folder/'html'/'graphs').rglob('*throughput.json') if 'summary' not in p.parts and 'CV-1' in p.name)
    assert 'machine-default' in graph.parts and 'cpu-AMD EPYC' in graph.parts
    series = json.loads(graph.read_text())
    assert [[round(v, 6) for v in point[1] if v is not None] for point in series] == [[round(240/l, 6) for l in (0.0119, 0.0231, 0.0117)], [round(480/l, 6) for l in (0.0119, 0.0231, 0.0117)]]
    index = json.loads((folder/'html'/'index.json').read_text())
    assert index['benchmarks']['CV-1.CV-1/small.throughput']['unit'] == 'elem/s' and index['benchmarks']['CV-1.CV-1/small.latency']['type'] == 'time'
    shown = ran(asv, 'show', runs[0].commit, cwd=folder)
    assert re.search(r'Datarax\s+11\.9±[\d.]+ms\s+23\.1±[\d.]+ms', shown) and re.search(r'Grain\s+11\.7±[\d.]+ms\s+n/a', shown) and 'failed' in shown
    compared = ran(asv, 'compare', runs[0].commit, runs[1].commit, cwd=folder)
    assert re.search(r'\| \+ +\| 11\.9±[\d.]+ms +\| 23\.8±[\d.]+ms +\| 2\.00 +\| CV-1.CV-1/small.latency\(\'Datarax\', 32\)', compared), compared
    assert 'default/calibrax-py3.11.7-r3' in ran(asv, 'show', runs[1].commit, cwd=folder)           # the second run of that commit

def test_asv_takes_its_own_results_back(project):
    "Real results go through a store and out again, for the commits of this repository"
    asv, (folder, runs) = program('asv'), project
    store = Store(folder/'store')
    shutil.copytree(DATA/'asv', folder/'in')
    for file, run in zip(ASV, runs): (folder/'in'/'lab-1'/file.name).write_text(file.read_text().replace(json.loads(file.read_text())['commit_hash'], run.commit))
    ingest_results(store, folder/'in')
    export_asv(store, folder/'results')
    ran(asv, 'publish', cwd=folder)
    assert 'sorting.time_builtin' in (shown := ran(asv, 'show', runs[0].commit, cwd=folder)) and '1234.5' in shown

def numbers(line): return [float(re.sub(r'[(),]', '', w)) for w in line.split() if re.fullmatch(r'-?[\d,]+\.\d+', w)]

def test_pytest_benchmark_compares_our_files(tmp_path):
    program_name = program('pytest-benchmark')
    before, after = suite(), suite(id='r2', timestamp='2026-03-03T12:00:00+00:00', points=[replace(p, metrics={n: replace(m, value=m.value*2, samples=m.samples and tuple(s*2 for s in m.samples)) for n, m in p.metrics.items()}) for p in suite().points])
    exporter = PytestBenchmarkExporter(tmp_path)
    exporter.export_run(after)
    exporter.export_analysis(after, before)
    files = [str(tmp_path/f) for f in listing(tmp_path)]
    table = ran(program_name, 'compare', *files, '--columns=min,max,mean,median,rounds', '--csv', str(tmp_path/'out'), cwd=tmp_path)
    assert 'CV-1/small:latency[Datarax-32]' in table and 'LM-1 & "eval"_%' in table
    import csv
    rows = list(csv.DictReader((tmp_path/'out.csv').open()))
    assert len(rows) == 14            # seven times of each run
    for run, file in ((before, files[0]), (after, files[1])):
        benchmarks = json.loads(Path(file).read_text())['benchmarks']
        for b in benchmarks:
            own = b['extra_info']['calibrax']
            metric = run.points[own['point']].metrics[own['metric']]
            samples = [s*(1e-3 if own['metric'] == 'p99' else 1) for s in metric.samples or (metric.value,)]
            assert [r for r in rows if r['name'].endswith(b['fullname']) and [float(r[c]) for c in ('min', 'max', 'median')] == [min(samples), max(samples), statistics.median(samples)]], b['fullname']

def test_pytest_benchmark_reads_its_own_file_back(tmp_path):
    tool = program('pytest-benchmark')
    PytestBenchmarkExporter(tmp_path/'out.json').export_run(read_results(DATA/'pytest-benchmark.json'))
    assert 'test_sorted[1000-random]' in ran(tool, 'compare', str(tmp_path/'out.json'), str(DATA/'pytest-benchmark.json'), cwd=tmp_path)

def test_tools_of_today_write_what_is_read(tmp_path):
    "A fresh file of hyperfine: what is installed here, not only what the sample file came from"
    tool = program('hyperfine')
    ran(tool, '-N', '--runs', '3', '--parameter-list', 'n', '0,0.001', 'sleep {n}', '--export-json', 'out.json', cwd=tmp_path)
    run = read_results(tmp_path/'out.json')
    assert [p.tags['n'] for p in run.points] == ['0', '0.001'] and all(len(p.metrics['time'].samples) == 3 for p in run.points)


# --- speed, and what importing costs ---------------------------------------------------------------------------------------------

def enlarged(name, key, size=1_000_000):
    raw = content(name)
    if isinstance(raw[key], list): raw[key] = [{**copy.deepcopy(b), 'name': f'{b.get("name", "")}{i}', 'command': f'{b.get("command", "")}{i}'} for i in range(size//len(json.dumps(raw[key]))) for b in raw[key]]
    else: raw[key] = {f'{k}{i}': v for i in range(size//len(json.dumps(raw[key]))) for k, v in raw[key].items()}
    return json.dumps(raw).encode()

@pytest.mark.parametrize(('name', 'key'), [('pytest-benchmark.json', 'benchmarks'), ('google-benchmark.json', 'benchmarks'), ('pyperf.json', 'benchmarks'), ('hyperfine.json', 'results'), (ONE, 'results')])
def test_a_megabyte_is_read_whole(name, key):
    "How long it takes is measured on the page; here that nothing is lost"
    data = enlarged(name, key)
    assert len(data) > 8e5
    restored = restore_document(read_results(data, timestamp='2026-03-02'))
    assert json.dumps(restored, sort_keys=True) == json.dumps(json.loads(data), sort_keys=True)     # NaN equals NaN as text

def test_samples_that_come_one_by_one_are_added():
    draft = Draft(0, 'p', 's', {})
    for i in range(50_000): draft.extend('t', [float(i)])
    assert draft.extend('t', [1.0, 2.0]) == {'$samples': {'point': 0, 'metric': 't', 'from': 50_000, 'to': 50_002}} and len(draft.point().metrics['t'].samples) == 50_002

def test_a_run_of_ours_is_decoded_once(monkeypatch):
    monkeypatch.setattr(json, 'dumps', lambda *a, **k: pytest.fail('encoded again'))
    data = suite().to_json().encode()
    assert read_results(data) == suite()

def test_a_long_table_is_read_whole():
    text = 'commit,point,metric,value,unit,n\n' + ''.join(f'{i//100},p{i % 50},latency,{i}.5,ms,{i % 2}\n' for i in range(30_000))
    long = read_results(text.encode(), timestamp='2026-03-02')
    assert len(long) == 300 and sum(len(m.samples or (m.value,)) for r in long for p in r.points for m in p.metrics.values()) == 30_000
    wide = 'commit,point,latency,throughput\n' + ''.join(f'c{i//30},p{i % 30},{i}.5,{i}\n' for i in range(30_000))
    assert sum(len(m.samples or (m.value,)) for r in read_results(wide.encode(), timestamp='2026-03-02') for p in r.points for m in p.metrics.values()) == 60_000

def test_importing_loads_nothing_heavy():
    code = 'import sys; from calibrax.exporters.interop.formats import read_results; read_results(sys.argv[1]); print([m for m in ("jax", "flax", "matplotlib", "pandas", "scipy", "wandb", "mlflow", "numpy") if m in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code, str(DATA/'pyperf.json')], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == '[]', done.stdout + done.stderr
