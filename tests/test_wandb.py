"""W&B: what it gets, read back from what it wrote, and from a server of our own that speaks as much of its protocol as an export needs.

No test uses a network. Where W&B's package is absent, what needs it is skipped."""
import importlib.util, json, logging, math, os, re, struct, subprocess, sys, threading, time
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from calibrax.analysis import detect_regressions, rank_table
from calibrax.core import Metric, MetricDef, Point, Run
from calibrax.core.errors import AuthError, ConfigError, ExportError
from calibrax.exporters.base import ExportSettings, get_exporter, store_settings
from calibrax.exporters.wandb import WandBExporter
from calibrax.exporters.wandb_items import ItemKind, analysis_items, media_key, run_items, wandb_run_id
from calibrax.storage import Store

needs_wandb = pytest.mark.skipif(importlib.util.find_spec('wandb') is None, reason='needs the package wandb (extra `wandb`)')
pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning')      # of W&B's own code
inf, nan = math.inf, math.nan
DEFS = {'throughput': MetricDef(name='throughput', unit='elem/s', direction='higher', group='Throughput', priority='primary'),
        'latency_p50': MetricDef(name='latency_p50', unit='ms', direction='lower', group='Latency', priority='primary')}
DAY = datetime(2026, 3, 1, 2, tzinfo=UTC)


def measured(run_id, values, **fields):
    "The run of the documents: throughput and latency by framework"
    points = [Point(name='CV-1/small', scenario='CV-1', tags={'framework': f}, metrics={
        'throughput': Metric(value=t, samples=(t - 40, t, t + 40)), 'latency_p50': Metric(value=l, lower=l - 0.5, upper=l + 0.5)}) for f, (t, l) in values.items()]
    return Run(**{'id': run_id, 'timestamp': DAY, 'commit': 'abc1234', 'branch': 'main', 'metric_defs': DEFS, 'points': points,
                  'environment': {'cpu': 'AMD EPYC', 'gpu': 'H200', 'os': 'Linux', 'python': '3.12.4', 'packages': {'jax': '0.11', 'odd': nan}}, **fields})

BASELINE = measured('main-41', {'Datarax': (20158.0, 12.0), 'Grain': (20071.0, 11.5)})
RUN = measured('nightly-7', {'Datarax': (18000.0, 15.0), 'Grain': (20071.5, 11.25)})
VALUES = {'Throughput/throughput/Datarax': 18000.0, 'Throughput/throughput/Grain': 20071.5, 'Latency/latency_p50/Datarax': 15.0, 'Latency/latency_p50/Grain': 11.25}
TABLES = {'comparison', 'distributions', 'rankings/throughput', 'rankings/latency_p50', 'aggregate_scores', 'pareto_front', 'regressions'}
FIGURES = {'figures/comparison', 'figures/rankings/throughput', 'figures/rankings/latency_p50', 'figures/pareto_front'}


@pytest.fixture
def told(caplog):
    logger = logging.getLogger('calibrax')
    kept, logger.propagate = logger.propagate, True
    caplog.set_level('INFO', 'calibrax')
    yield caplog
    logger.propagate = kept


def values(items): return {o.key: o.content for o in items if o.kind is ItemKind.VALUE}
def content(items, key): return next(o.content for o in items if o.key == key)
def column(table, name): return [row[list(table.columns).index(name)] for row in table.rows]


# --- what is made of a run -------------------------------------------------------------------------------------------------

def test_values_are_named_by_group_metric_and_framework():
    assert values(run_items(RUN)) == VALUES


def test_without_a_group_or_a_framework():
    run = Run(points=[Point(name='a', scenario='s', metrics={'m': Metric(value=1.0)}), Point(name='b', scenario='s', tags={'framework': 'X'}, metrics={'m': Metric(value=2.0)})])
    assert values(run_items(run)) == {'m/a': 1.0, 'm/X': 2.0}


def test_points_of_one_framework_say_which_they_are():
    def point(name, framework, value, scenario='CV-1', **tags): return Point(name=name, scenario=scenario, tags={'framework': framework, **tags}, metrics={'throughput': Metric(value=value)})
    def keys(*points): return values(run_items(Run(metric_defs=DEFS, points=points)))
    assert keys(point('a', 'X', 1.), point('b', 'X', 2.), point('a', 'Y', 3.)) == {f'Throughput/throughput/{k}': v for k, v in {'X/a': 1., 'X/b': 2., 'Y/a': 3.}.items()}
    assert keys(point('a', 'X', 1.), point('a', 'X', 2., 'CV-2')) == {'Throughput/throughput/X/CV-1': 1., 'Throughput/throughput/X/CV-2': 2.}
    assert keys(point('a', 'X', 1., batch='1'), point('a', 'X', 2., batch='2')) == {'Throughput/throughput/X/batch=1': 1., 'Throughput/throughput/X/batch=2': 2.}
    assert keys(point('a', 'X', 1.), point('a', 'X', 2.)) == {'Throughput/throughput/X': 1., 'Throughput/throughput/X (2)': 2.}


texts = st.sampled_from(['a', 'b', 'a/b', '', 'comparison', 'rankings', '_step', 'a (2)', '<b>'])
points = st.builds(Point, name=texts, scenario=texts, tags=st.dictionaries(st.sampled_from(['framework', 'device']), texts),
                   metrics=st.dictionaries(texts.filter(bool), st.builds(Metric, value=st.floats()), max_size=3))

@settings(max_examples=150, deadline=None)
@given(st.lists(points, max_size=5), st.sampled_from(['', 'a', 'rankings']))
def test_nothing_is_overwritten_whatever_the_names(points, group):
    run = Run(points=points, metric_defs={n: MetricDef(name=n, unit='', direction='higher', group=group) for n in ('a', 'b')})
    items = [*run_items(run), *analysis_items(run, run)]
    keys = [o.key for o in items]
    assert len(set(keys)) == len(keys) and not any(k.startswith('_') for k in keys)
    assert sorted(map(repr, values(items).values())) == sorted(repr(m.value) for p in points for m in p.metrics.values())


@given(st.text())
def test_names_of_files_stay_in_their_folder(name):
    key = media_key(f'rankings/{name}')
    assert not re.search(r'[<>:"|\\?*\x00-\x1f]', key) and not {'', '.', '..'} & set(key.split('/')) and media_key(key) == key
    assert all(len(part.encode('utf-8', 'replace')) <= 120 for part in key.split('/'))


@given(st.lists(st.text(), unique=True, max_size=6))
def test_ids_are_in_wandb_s_alphabet_and_differ(names):
    ids = [wandb_run_id(n) for n in names]
    assert len(set(ids)) == len(ids) and ids == [wandb_run_id(n) for n in names] and all(re.fullmatch('[a-z0-9]{6,64}', i) for i in ids)


def test_our_own_ids_are_kept():
    run = Run(points=[])
    assert wandb_run_id(run.id) == run.id


def test_best_values_bear_a_star_and_keep_their_digits():
    table = content(run_items(measured('r', {'A': (1/3, 5.0), 'B': (1/3, 4.0), 'C': (0.25, 4.0)})), 'comparison')
    assert column(table, 'framework') == ['A', 'B', 'C']
    assert column(table, 'throughput ↑ [elem/s]') == ['0.3333333333333333 *', '0.3333333333333333 *', '0.25']
    assert column(table, 'latency_p50 ↓ [ms]') == ['5.0', '4.0 *', '4.0 *']


def test_without_definitions_nothing_is_best(told):
    run = measured('r', {'A': (1.0, 5.0), 'B': (2.0, 4.0)}, metric_defs={})
    items, found = run_items(run), analysis_items(run, BASELINE)
    assert values(items) == {'throughput/A': 1.0, 'throughput/B': 2.0, 'latency_p50/A': 5.0, 'latency_p50/B': 4.0}
    assert not any('*' in c for row in content(items, 'comparison').rows for c in row) and '<b>' not in content(items, 'comparison_styled')
    assert column(content(found, 'rankings/throughput'), 'is_best') == [False, False] and column(content(found, 'rankings/throughput'), 'value') == [2.0, 1.0]
    assert 'nothing says whether more or less of latency_p50, throughput is better' in told.text


def test_the_store_s_definitions_count():
    run = measured('r', {'A': (1.0, 5.0), 'B': (2.0, 4.0)}, metric_defs={})
    exporter = WandBExporter('p', metric_defs=DEFS)
    assert ('Latency/latency_p50/A', 'value', '5.00 ms') in exporter.preview(run).rows
    assert column(content(analysis_items(run, metric_defs=DEFS), 'rankings/latency_p50'), 'is_best') == [True, False]


def test_metrics_for_information_are_not_ranked():
    run = Run(points=[Point(name='a', scenario='s', metrics={'size': Metric(value=3.0)})], metric_defs={'size': MetricDef(name='size', unit='', direction='info')})
    assert analysis_items(run) == [] and values(run_items(run)) == {'size/a': 3.0}


def test_rankings_are_those_of_analysis():
    found = analysis_items(RUN)
    for metric in DEFS:
        table, ranking = content(found, f'rankings/{metric}'), rank_table(RUN, metric)
        assert table.columns == ('rank', 'label', 'value', 'is_best', 'delta %', 'unit')
        assert [row[:5] for row in table.rows] == [(e.rank, e.label, e.value, e.is_best, e.delta_from_best) for e in ranking]


def test_regressions_are_those_of_analysis():
    found, expected = analysis_items(RUN, BASELINE), detect_regressions(RUN, BASELINE)
    table, alerts = content(found, 'regressions'), [o for o in found if o.kind is ItemKind.ALERT]
    assert [row[0] for row in table.rows] == [r.metric for r in expected] and column(table, 'delta %') == [r.delta_pct for r in expected] and len(expected) == 2
    assert alerts[0].key == 'Regression: throughput on CV-1/small [framework=Datarax]'
    assert alerts[0].content == '↓ CV-1/small [framework=Datarax] throughput: 20158.00 → 18000.00 (-10.7%) [elem/s], run nightly-7 against main-41'
    assert content(analysis_items(BASELINE, BASELINE), 'regressions').rows == () and not any(o.key == 'regressions' for o in analysis_items(RUN))


def test_titles_of_alerts_are_short_and_differ():
    def run(i, v): return Run(id=i, metric_defs=DEFS, points=[Point(name='workload/'*9 + str(n), scenario='s', metrics={'latency_p50': Metric(value=v)}) for n in range(3)])
    titles = [o.key for o in analysis_items(run('b', 2.0), run('a', 1.0)) if o.kind is ItemKind.ALERT]
    assert len(set(titles)) == 3 and all(len(t) < 64 for t in titles)


def test_names_stay_text_in_the_page():
    run = Run(points=[Point(name='<script>alert(1)</script>', scenario='&', tags={'framework': f'<img src=x>{i}'}, metrics={'<b>m</b>': Metric(value=float(i))}) for i in range(2)],
              metric_defs={'<b>m</b>': MetricDef(name='<b>m</b>', unit='<i>', direction='higher')})
    page = content(run_items(run), 'comparison_styled')
    assert not re.search('<script|<img|<i>|<b>m', page) and '&lt;img' in page and page.count('<b>') == 1


def test_samples_and_bounds_go_along():
    table = content(run_items(measured('r', {'A': (1.0, 5.0)})), 'distributions')
    found = {row[2]: dict(zip(table.columns, row)) for row in table.rows}
    assert json.loads(found['throughput']['samples']) == [-39.0, 1.0, 41.0] and (found['latency_p50']['lower'], found['latency_p50']['upper']) == (4.5, 5.5)
    odd = Run(points=[Point(name='a', scenario='s', metrics={'m': Metric(value=nan, samples=(nan, inf)), 'n': Metric(value=1.0)})])
    assert column(content(run_items(odd), 'distributions'), 'samples') == ['["NaN", "Infinity"]']


def test_large_runs_get_no_picture_of_a_thousand_bars():
    many = Run(metric_defs=DEFS, points=[Point(name=f'p{i}', scenario='s', metrics={'throughput': Metric(value=float(i))}) for i in range(100)])
    assert not [o for o in [*run_items(many), *analysis_items(many)] if o.kind is ItemKind.FIGURE]


# --- without the package, the network or a key -----------------------------------------------------------------------------

def python(code, **env):
    code = 'import sys, socket\nsys.modules["wandb"] = None\ndef refuse(*a): raise OSError("no network here")\nsocket.socket.connect = refuse\n' + code
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env={**os.environ, **env})


def test_preview_needs_no_package_and_no_network():
    code = f'''from calibrax.core import Run; from calibrax.exporters.wandb import WandBExporter
run, baseline = (Run.from_json(t) for t in {[RUN.to_json(), BASELINE.to_json()]!r})
print(*(" | ".join(r) for r in WandBExporter("p", "team").preview(run, baseline).rows), sep="\\n")'''
    done = python(code)
    assert done.returncode == 0, done.stderr
    lines = {line.split(' | ')[0]: line for line in done.stdout.splitlines()}
    assert {'config', 'comparison_styled', *VALUES, *TABLES, *FIGURES} <= set(lines) and sum('| alert |' in line for line in lines.values()) == 2
    assert lines['Throughput/throughput/Datarax'].endswith('value | 18000.00 elem/s')


def test_without_the_package_the_extra_is_named():
    code = f'from calibrax.core import Run; from calibrax.exporters.wandb import WandBExporter\nWandBExporter("p").export_run(Run.from_json({RUN.to_json()!r}))'
    done = python(code, WANDB_MODE='offline')
    assert 'ExportError: exporting to W&B needs the package wandb' in done.stderr and 'calibrax[wandb] @ git+' in done.stderr


def test_importing_the_module_does_not_import_the_package():
    done = subprocess.run([sys.executable, '-c', 'import sys, calibrax.exporters.wandb; print([m for m in ("wandb", "jax", "matplotlib", "scipy", "pandas") if m in sys.modules])'],
                          capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


def test_made_from_settings(tmp_path, monkeypatch):
    store = Store(tmp_path/'store')
    store.write_config(wandb_project='datarax-benchmarks', wandb_entity='avitai', metric_defs=DEFS)
    made = get_exporter('wandb').from_settings(store_settings(store, tags=['nightly'], options={'threshold': '0.1'}))
    assert (made.project, made.entity, made.tags, made.threshold, made.metric_defs) == ('datarax-benchmarks', 'avitai', ('nightly',), 0.1, DEFS)
    made = WandBExporter.from_settings(store_settings(store, project='mine', entity='us'))
    assert (made.project, made.entity) == ('mine', 'us')
    monkeypatch.delenv('WANDB_PROJECT', raising=False)
    with pytest.raises(ConfigError, match='needs a project') as told: WandBExporter.from_settings(ExportSettings())
    assert 'wandb_project' in told.value.hint and '--project' in told.value.hint
    with pytest.raises(ConfigError, match="option threshold: expected a number, found 'much'"): WandBExporter.from_settings(ExportSettings(project='p', options={'threshold': 'much'}))


@pytest.mark.parametrize('wrong', [dict(project=''), dict(project='  '), dict(project=None), dict(threshold=-1), dict(threshold=math.nan), dict(threshold='0.1'),
                                   dict(timeout=-5), dict(timeout=0), dict(timeout=math.nan), dict(timeout=math.inf), dict(timeout='600'), dict(timeout=True)])
def test_wrong_arguments(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))) as told: WandBExporter(**{'project': 'p', **wrong})
    assert told.value.hint


@pytest.mark.parametrize('option', [('threshold', 'nan'), ('threshold', '-1'), ('timeout', '-5'), ('timeout', 'inf')])
def test_options_that_make_no_sense(option):
    with pytest.raises(ConfigError, match=option[0]): WandBExporter.from_settings(ExportSettings(project='p', options=dict([option])))


def test_notes_that_another_process_removes_or_spoils(tmp_path, monkeypatch):
    from calibrax.exporters.wandb import _NOTE, _noted
    def note(name, text):
        (tmp_path/name).mkdir()
        (tmp_path/name/_NOTE).write_text(text)
    note('offline-run-1-abcdef', json.dumps({'project': 'p', 'summary': {'a': 1}}))
    note('offline-run-2-abcdef', '[]')
    note('offline-run-3-abcdef', json.dumps({'project': 'p', 'summary': 3}))
    found = Path.glob
    monkeypatch.setattr(Path, 'glob', lambda folder, pattern: [*found(folder, pattern), folder/'offline-run-4-abcdef'/_NOTE])
    assert _noted(tmp_path/'offline-run-5-abcdef', 'abcdef', 'p') == {'a': 1}


@pytest.mark.parametrize('env, enough', [({}, False), ({'WANDB_API_KEY': '  '}, False), ({'WANDB_API_KEY': 'k'}, True), ({'WANDB_MODE': 'offline'}, True),
                                         ({'WANDB_MODE': 'disabled'}, True), ({'WANDB_MODE': 'online'}, False)])
def test_credentials_come_from_the_environment(env, enough, monkeypatch):
    for name in ('WANDB_API_KEY', 'WANDB_MODE', 'WANDB_IDENTITY_TOKEN_FILE'): monkeypatch.delenv(name, raising=False)
    for name, value in env.items(): monkeypatch.setenv(name, value)
    assert WandBExporter('p', figures=False).check_auth() is enough


# --- offline, read back ----------------------------------------------------------------------------------------------------

@pytest.fixture
def place(tmp_path, monkeypatch):
    "A folder of its own, and W&B started anew"
    wandb = pytest.importorskip('wandb', reason='needs the package wandb (extra `wandb`)')
    for name in [n for n in os.environ if n.startswith('WANDB_')]: monkeypatch.delenv(name)
    for name in ('DIR', 'DATA_DIR', 'CACHE_DIR', 'CONFIG_DIR', 'ARTIFACT_DIR'): monkeypatch.setenv(f'WANDB_{name}', str(tmp_path))
    monkeypatch.setenv('WANDB_SILENT', 'true')
    monkeypatch.setenv('HOME', str(tmp_path))       # no stored login
    wandb.teardown()
    yield tmp_path
    assert wandb.run is None
    wandb.teardown()


@pytest.fixture
def offline(place, monkeypatch):
    monkeypatch.setenv('WANDB_MODE', 'offline')
    return place


def records(file):
    "The records of a .wandb file; W&B writes on for a moment after a run was finished"
    for _ in range(500):
        if file.stat().st_size > 7 and any(r.HasField('exit') for r in read_records(file)): break
        time.sleep(0.02)
    return read_records(file)


def read_records(file):
    "What is in a .wandb file by now, by W&B's own reader where its Python package has one"
    from wandb.proto.wandb_internal_pb2 import Record
    try: from wandb.sdk.internal.datastore import DataStore
    except ImportError: parts = frames(file.read_bytes())       # newer versions read it in another language; see `wandb sync` below
    else:
        store = DataStore()
        store.open_for_scan(str(file))
        parts = iter(store.scan_data, None)
    return [Record.FromString(bytes(p)) for p in parts]


def frames(data):
    "LevelDB's log format: blocks of 32 kB, and a head of checksum, length and kind before each part"
    at, part = 7, b''
    while at + 7 <= len(data):
        if (left := 2**15 - at % 2**15) < 7: at += left; continue
        _, length, kind = struct.unpack('<IHB', data[at:at + 7])
        if at + 7 + length > len(data): return      # still being written
        part, at = part + data[at + 7:at + 7 + length], at + 7 + length
        if kind in (1, 4): yield part; part = b''


def put(out, item, value):
    path = [item.key] if item.key else list(item.nested_key)
    for name in path[:-1]: out = out.setdefault(name, {})
    out[path[-1]] = value


class Written:
    "What a folder of W&B's holds"
    def __init__(self, folder):
        self.folder, self.config, self.summary, self.history, self.alerts, self.artifacts = folder, {}, {}, [], [], {}
        for r in records(next(folder.glob('*.wandb'))):
            kind = r.WhichOneof('record_type')
            if kind == 'run':
                self.run = r.run
                for c in r.run.config.update: self.config[c.key] = json.loads(c.value_json)
            for i in r.summary.update if kind == 'summary' else (): put(self.summary, i, json.loads(i.value_json))
            if kind == 'history':
                self.history.append({})
                for i in r.history.item: put(self.history[-1], i, json.loads(i.value_json))
            if kind == 'alert': self.alerts.append((r.alert.title, r.alert.text, r.alert.level))
            if kind == 'artifact' and r.artifact.type == 'calibrax-run': self.artifacts[r.artifact.name] = {c.path: Path(c.local_path).read_text() for c in r.artifact.manifest.contents}

    def file(self, key): return (self.folder/'files'/self.summary[key]['path']).read_bytes()
    def table(self, key): return json.loads(self.file(key))
    def column(self, key, name):
        table = self.table(key)
        return [row[table['columns'].index(name)] for row in table['data']]


def folders(place): return sorted((p for p in (place/'wandb').glob('*run-*') if not p.is_symlink() and p.name != 'latest-run'), key=lambda p: next(p.glob('*.wandb')).stat().st_mtime_ns)
def logged(place): return Counter(k for f in folders(place) for row in Written(f).history for k in row if k[0] != '_')


def test_offline_holds_every_item_of_the_documents(offline):
    exporter = WandBExporter('datarax-benchmarks', 'avitai', ['nightly'])
    assert exporter.export_run(RUN, finish=False) == ''
    exporter.export_analysis(RUN, BASELINE)
    assert len(folders(offline)) == 1
    w = Written(exporter.folder)
    assert (w.run.project, w.run.entity, list(w.run.tags), w.run.run_id, w.run.display_name) == ('datarax-benchmarks', 'avitai', ['nightly'], wandb_run_id('nightly-7'), 'nightly-7')
    # wandb.config: the environment fingerprint
    assert {k: w.config[k] for k in ('cpu', 'gpu', 'os', 'python', 'run_id', 'commit', 'branch')} == {
        'cpu': 'AMD EPYC', 'gpu': 'H200', 'os': 'Linux', 'python': '3.12.4', 'run_id': 'nightly-7', 'commit': 'abc1234', 'branch': 'main'}
    assert w.config['packages'] == {'jax': '0.11', 'odd': 'NaN'}
    # summary metrics by group, metric and framework
    assert {k: w.summary[k] for k in VALUES} == VALUES == {k: w.history[0][k] for k in VALUES}
    # comparison, with a star on the best
    assert w.column('comparison', 'framework') == ['Datarax', 'Grain'] and w.column('comparison', 'point') == ['CV-1/small']*2
    assert w.column('comparison', 'throughput ↑ [elem/s]') == ['18000.0', '20071.5 *'] and w.column('comparison', 'latency_p50 ↓ [ms]') == ['15.0', '11.25 *']
    # comparison_styled, the best in bold
    page = w.file('comparison_styled').decode()
    assert w.summary['comparison_styled']['_type'] == 'html-file' and page.count('<b>') == 2 and re.findall('<b>([^<]*)</b>', page) == ['11.25', '20072']
    # rankings
    for metric, best in (('throughput', 20071.5), ('latency_p50', 11.25)):
        assert w.column(f'rankings/{metric}', 'rank') == [1, 2] and w.column(f'rankings/{metric}', 'label') == ['Grain', 'Datarax']
        assert w.column(f'rankings/{metric}', 'is_best') == [True, False] and w.column(f'rankings/{metric}', 'value')[0] == best
        assert w.column(f'rankings/{metric}', 'delta %') == [0.0, pytest.approx(rank_table(RUN, metric)[1].delta_from_best)]
    # an alert for each regression
    assert [a[:2] for a in w.alerts] == [(o.key, o.content) for o in analysis_items(RUN, BASELINE) if o.kind is ItemKind.ALERT] and len(w.alerts) == 2
    assert w.column('regressions', 'metric') == ['throughput', 'latency_p50'] and w.column('regressions', 'current') == [18000.0, 15.0]
    # distributions, figures, and the run itself
    assert [json.loads(s) for s in w.column('distributions', 'samples') if s] == [[17960.0, 18000.0, 18040.0], [20031.5, 20071.5, 20111.5]]
    assert all(w.file(k).startswith(b'\x89PNG') and w.summary[k]['_type'] == 'image-file' for k in FIGURES)
    assert TABLES <= set(w.summary) and all(w.summary[k]['_type'] == 'table-file' for k in TABLES)
    assert Run.from_json(w.artifacts[f'calibrax-{wandb_run_id("nightly-7")}']['run.json']) == RUN


def test_twice_updates_and_does_not_duplicate(offline):
    for _ in range(2):
        exporter = WandBExporter('p', figures=False)
        exporter.export_run(RUN)
        exporter.export_analysis(RUN, BASELINE)
    assert len(folders(offline)) == 4 and {Written(f).run.run_id for f in folders(offline)} == {wandb_run_id('nightly-7')}
    assert set(logged(offline).values()) == {1} and {*VALUES, *TABLES} <= set(logged(offline))
    assert sum(len(Written(f).alerts) for f in folders(offline)) == 2
    last = Written(folders(offline)[-1])
    assert {k: last.summary[k] for k in VALUES} == VALUES and {*TABLES, 'alerts_sent'} <= set(last.summary)
    assert len({Written(f).summary['comparison']['sha256'] for f in folders(offline)}) == 1


def test_another_project_gets_everything(offline):
    for project, entity in (('p', None), ('q', None), ('p', 'us')):
        exporter = WandBExporter(project, entity, figures=False)
        exporter.export_run(RUN)
        assert set(VALUES) <= set(Written(exporter.folder).history[0])


def test_another_baseline_replaces_the_table_and_alarms_anew(offline):
    exporter = WandBExporter('p', figures=False)
    exporter.export_analysis(RUN, BASELINE)
    exporter.export_analysis(RUN, measured('other', {'Datarax': (19000.0, 15.0)}))
    last = Written(exporter.folder)
    assert last.column('regressions', 'baseline run') == ['other'] and [t for _, t, _ in last.alerts] == [last.summary['alerts_sent'][-1]]
    assert logged(offline)['regressions'] == 1 and len(last.summary['alerts_sent']) == 3


@pytest.mark.parametrize('broken', ['log_artifact', 'alert', 'finish'])
def test_an_export_that_breaks_off_is_completed_without_duplicates(offline, monkeypatch, broken):
    from wandb.sdk.wandb_run import Run as WandBRun
    store, calls = Store(offline/'store'), []
    for run in (RUN, BASELINE): store.save(run)
    before = {f: f.read_bytes() for f in (offline/'store').rglob('*.json')}
    method = getattr(WandBRun, broken)
    def once(self, *args, **kwargs):
        calls.append(broken)
        if len(calls) == 1: raise ConnectionError('the network is gone')
        return method(self, *args, **kwargs)
    monkeypatch.setattr(WandBRun, broken, once)
    exporter = WandBExporter('p', figures=False)
    def export():
        exporter.export_run(store.load('nightly-7'), finish=False)
        exporter.export_analysis(RUN, BASELINE)
    with pytest.raises(ExportError, match='ConnectionError: the network is gone') as told: export()
    assert 'store' in told.value.hint and exporter._open is None
    assert {f: f.read_bytes() for f in (offline/'store').rglob('*.json')} == before
    export()
    last = Written(exporter.folder)
    assert set(logged(offline).values()) == {1}
    assert {k: last.summary[k] for k in VALUES} == VALUES and TABLES <= set(last.summary)
    assert sum(len(Written(f).alerts) for f in folders(offline)) == 2


def test_a_failed_start_leaves_nothing_open(offline, monkeypatch):
    import wandb
    monkeypatch.setattr(wandb, 'init', lambda **_: (_ for _ in ()).throw(wandb.errors.CommError('no route')))
    exporter = WandBExporter('p', figures=False)
    with pytest.raises(ExportError, match='exporting run nightly-7: CommError: no route'): exporter.export_run(RUN)
    assert exporter._open is None and exporter.folder is None


def test_an_interrupt_closes_the_run(offline, monkeypatch):
    import wandb
    def interrupt(*_, **__): raise KeyboardInterrupt
    monkeypatch.setattr(wandb.sdk.wandb_run.Run, 'alert', interrupt)
    exporter = WandBExporter('p', figures=False)
    with pytest.raises(KeyboardInterrupt): exporter.export_analysis(RUN, BASELINE)
    assert exporter._open is None and 'regressions' in Written(exporter.folder).history[0]


def test_a_run_whose_summary_cannot_be_read_is_closed(offline, monkeypatch):
    import calibrax.exporters.wandb as module
    from wandb.sdk.wandb_run import Run as WandBRun
    finished, finish = [], WandBRun.finish
    monkeypatch.setattr(WandBRun, 'finish', lambda self, exit_code=None: (finished.append(exit_code), finish(self, exit_code)))
    def unreadable(self): raise ConnectionError('gone')
    monkeypatch.setattr(module._OpenRun, '_summary', unreadable)
    with pytest.raises(ExportError, match='gone'): WandBExporter('p', figures=False).export_run(RUN)
    assert finished == [1]


@pytest.mark.parametrize('mode', ['dryrun', 'offline'])
def test_offline_by_both_names(offline, monkeypatch, mode):
    monkeypatch.setenv('WANDB_MODE', mode)
    exporter = WandBExporter('p', figures=False)
    exporter.export_run(RUN)
    assert exporter.folder.name.startswith('offline-run-')


@pytest.mark.parametrize('stored', [False, True])
def test_a_missing_key_is_said_before_wandb_starts(place, monkeypatch, stored):
    import wandb
    monkeypatch.setattr(wandb, 'init', lambda **_: pytest.fail('wandb.init was called'))
    if stored:
        (place/'.netrc').write_text(f'machine api.wandb.ai\n  login user\n  password {"a"*40}\n')
        (place/'.netrc').chmod(0o600)
    for call in (lambda: WandBExporter('p', figures=False).export_run(RUN), lambda: WandBExporter('p', figures=False).export_analysis(RUN, BASELINE)):
        with pytest.raises(AuthError, match='WANDB_API_KEY is not set') as told: call()
        assert 'export WANDB_API_KEY=' in told.value.hint and 'export WANDB_MODE=offline' in told.value.hint and isinstance(told.value, PermissionError)
    assert not (place/'wandb').exists()


def test_disabled_keeps_nothing(place, monkeypatch):
    monkeypatch.setenv('WANDB_MODE', 'disabled')
    exporter = WandBExporter('p')
    assert exporter.export_run(RUN, finish=False) == ''
    exporter.log_images({'zeros': __import__('numpy').zeros((4, 4, 3), 'uint8')})
    exporter.export_analysis(RUN, BASELINE)
    assert exporter.folder is None and not list(place.rglob('*.wandb'))


def test_values_that_are_no_finite_numbers(offline):
    run = measured('r', {'A': (nan, inf), 'B': (2.0, -inf), 'C': (3.0, 4.0)})
    exporter = WandBExporter('p', figures=False)
    exporter.export_run(run)
    w = Written(exporter.folder)
    keys = [f'{g}/{m}/{f}' for g, m in (('Throughput', 'throughput'), ('Latency', 'latency_p50')) for f in 'ABC']
    assert [str(w.summary[k]) for k in keys] == ['nan', '2', '3', 'inf', '-inf', '4']
    assert w.column('comparison', 'throughput ↑ [elem/s]') == ['NaN', '2.0', '3.0 *'] and w.column('comparison', 'latency_p50 ↓ [ms]') == ['Infinity', '-Infinity *', '4.0']
    assert 'NaN' in w.file('comparison_styled').decode()
    exporter.export_analysis(run, run)
    w = Written(exporter.folder)
    assert [str(w.summary[k]) for k in keys] == ['NaN', '2', '3', 'Infinity', '-Infinity', '4'] and set(logged(offline).values()) == {1}
    assert w.column('rankings/throughput', 'label') == ['C', 'B', 'A'] and w.column('rankings/throughput', 'is_best') == [True, False, False]


def test_names_with_slashes_and_worse(offline):
    names = ['loss/train', '../../evil', 'a:b?<c>', 'tf.data']
    run = Run(id='odd names', points=[Point(name=f'p/{f}', scenario='s', tags={'framework': f}, metrics={n: Metric(value=1.0 + i) for i, n in enumerate(names)}) for f in ('x/y', 'tf.data')],
              metric_defs={n: MetricDef(name=n, unit='', direction='lower', group='G/H') for n in names})
    exporter = WandBExporter('p', figures=False)
    exporter.export_run(run, finish=False)
    exporter.export_analysis(run, run)
    w = Written(exporter.folder)
    assert {k: w.summary[k] for k in values(run_items(run))} == values(run_items(run)) and 'G/H/loss/train/x/y' in w.summary
    assert {'rankings/loss/train', 'rankings/__/__/evil', 'rankings/a_b__c_', 'rankings/tf.data'} <= set(w.summary)
    media = exporter.folder/'files'/'media'
    assert all(w.file(k) for k in w.summary if isinstance(w.summary[k], dict) and 'path' in w.summary[k])
    assert not [f for f in offline.rglob('*evil*') if not f.is_relative_to(media)]


def test_an_empty_run(offline):
    exporter = WandBExporter('p', figures=False)
    empty = Run(id='empty', points=[])
    exporter.export_run(empty, finish=False)
    exporter.export_analysis(empty, empty)
    assert Written(exporter.folder).table('comparison') == {'columns': ['framework', 'point', 'scenario'], 'data': []}


def test_only_some_metrics(offline):
    exporter = WandBExporter('p', metrics=['latency_p50'], figures=False)
    exporter.export_run(RUN, finish=False)
    exporter.export_analysis(RUN, BASELINE)
    w = Written(exporter.folder)
    assert not [k for k in w.summary if 'throughput' in k or k.startswith('figures')] and w.column('regressions', 'metric') == ['latency_p50'] and len(w.alerts) == 1


def test_somebody_else_s_run_is_left_alone(offline):
    import wandb
    theirs = wandb.init(project='training')
    try:
        WandBExporter('p', figures=False).export_run(RUN)
        assert wandb.run is theirs
        theirs.log({'loss': 1.0})
    finally: theirs.finish()
    w = Written(next(f for f in folders(offline) if f.name.endswith(theirs.id)))
    assert [set(k for k in row if k[0] != '_') for row in w.history] == [{'loss'}]


# --- more for the open run -------------------------------------------------------------------------------------------------

def test_extras_go_to_the_open_run(offline):
    import matplotlib.pyplot as plt
    import numpy as np
    from PIL import Image
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    exporter = WandBExporter('p', figures=False)
    exporter.export_run(RUN, finish=False)
    import wandb
    exporter.log_images({'figure': figure, 'pil': Image.new('RGB', (3, 2)), 'array': np.zeros((2, 3, 3), 'uint8'), 'ready': wandb.Image(np.ones((2, 2), 'uint8'))})
    exporter.log_figures({'old/name': figure})
    exporter.log_html_artifacts({'page': '<p>hello</p>'})
    exporter.log_extra_tables({'notes': (('who', 'n'), [('Ada', 1), ('Bob', None), (3, 'x')])})
    exporter.finish()
    plt.close(figure)
    w = Written(exporter.folder)
    assert all(w.file(k).startswith(b'\x89PNG') for k in ('figure', 'pil', 'array', 'ready', 'old/name'))
    assert w.file('page') == b'<p>hello</p>' and w.table('notes') == {'columns': ['who', 'n'], 'data': [['Ada', 1], ['Bob', None], [3, 'x']]}


def test_without_an_open_run_extras_are_not_sent(offline, told):
    exporter = WandBExporter('p', figures=False)
    exporter.export_run(RUN)
    before = folders(offline)
    exporter.log_images({'x': object()}); exporter.log_figures({'x': object()}); exporter.log_html_artifacts({'x': ''}); exporter.log_extra_tables({'x': ((), ())})
    exporter.finish()
    assert told.text.count('no run is open in W&B') == 4 and folders(offline) == before


def test_what_is_no_picture_is_an_error_and_closes_the_run(offline):
    exporter = WandBExporter('p', figures=False)
    exporter.export_run(RUN, finish=False)
    with pytest.raises(ExportError, match='sending pictures'): exporter.log_images({'x': object()})
    assert exporter._open is None


def test_as_a_context_it_closes_the_run(offline):
    with WandBExporter('p', figures=False) as exporter: exporter.export_run(RUN, finish=False)
    assert exporter._open is None
    with pytest.raises(ZeroDivisionError), exporter:
        exporter.export_run(BASELINE, finish=False)
        1/0
    assert exporter._open is None


def test_another_run_closes_the_open_one(offline):
    exporter = WandBExporter('p')
    exporter.export_run(RUN, finish=False)
    exporter.export_run(BASELINE)
    assert [Written(f).run.display_name for f in folders(offline)] == ['nightly-7', 'main-41']


# --- trends ----------------------------------------------------------------------------------------------------------------

def steps(place, metric):
    return [(row['_timestamp'], row[f'trend/{metric}']) for f in folders(place) for row in Written(f).history if f'trend/{metric}' in row]


def test_a_trend_grows_and_is_not_repeated(offline, told):
    store, times = Store(offline/'store'), [DAY + timedelta(days=d) for d in range(4)]
    def save(i): store.save(measured(f'run-{i}', {'Datarax': (100.0 + i, 10.0 - i)}, timestamp=times[i]))
    exporter = WandBExporter('p', tags=['nightly'])
    assert exporter.export_trends(store, 'latency_p50', 'CV-1/small', {'framework': 'Datarax'}) == '' and 'no trend of latency_p50' in told.text and not (offline/'wandb').exists()
    for i in range(2): save(i)
    for _ in range(2): exporter.export_trends(store, 'latency_p50', 'CV-1/small', {'framework': 'Datarax'})
    for i in (2, 3): save(i)
    exporter.export_trends(store, 'latency_p50', 'CV-1/small', {'framework': 'Datarax'}, n_runs=3)
    assert steps(offline, 'latency_p50') == [(times[i].timestamp(), 10.0 - i) for i in range(4)]
    w = Written(exporter.folder)
    assert sorted(w.run.tags) == ['nightly', 'trend'] and w.column('trend_table', 'run') == ['run-1', 'run-2', 'run-3'] and w.column('trend_table', 'lower') == [8.5, 7.5, 6.5]
    assert w.file('figures/trend').startswith(b'\x89PNG') and {Written(f).run.run_id for f in folders(offline)} == {w.run.run_id}
    assert w.config['metric'] == 'latency_p50' and w.config['tags'] == {'framework': 'Datarax'}


# --- online, against a server of our own -----------------------------------------------------------------------------------

class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *_): pass
    def reply(self, answer, code=200):
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def body(self): return self.rfile.read(int(self.headers.get('Content-Length') or 0))
    def do_GET(self): self.reply({})
    def do_PUT(self):
        self.server.files[self.path] = self.body()
        self.reply({})
    def do_POST(self):
        body = self.body() or b'{}'
        data, self.server.requests = json.loads(body), self.server.requests + 1
        if self.server.watch: self.server.watch(body.decode())
        if self.server.refusal: return self.reply({'errors': [{'message': 'refused'}]}, self.server.refusal)
        if 'file_stream' in self.path: self.server.stream(self.path.split('/')[-2], data.get('files') or {})
        self.reply({'data': self.server.answer(data['query'], data.get('variables') or {})} if self.path.endswith('/graphql') else {})


def stored(value):
    "As a server keeps it: NaN has no place in JSON"
    if isinstance(value, dict): return {k: stored(v) for k, v in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


class FakeServer(ThreadingHTTPServer):
    "As much of W&B's server as an export needs"
    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.runs, self.files, self.artifacts, self.alerts, self.unknown, self.refusal = {}, {}, [], [], [], 0
        self.requests, self.watch = 0, None
        self.url = f'http://127.0.0.1:{self.server_port}'
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    def handle_error(self, *_): pass        # clients that hang up

    def run(self, name): return self.runs.setdefault(name, {'config': {}, 'history': [], 'summary': {}, 'tags': [], 'name': '', 'there': False})

    def stream(self, name, files):
        run = self.run(name)
        for file, chunk in files.items():
            lines = [json.loads(line) for line in chunk.get('content') or ()]
            if file == 'wandb-history.jsonl': run['history'][chunk['offset']:chunk['offset'] + len(lines)] = lines
            if file == 'wandb-summary.json': run['summary'] = stored(lines[-1])

    def answer(self, query, v):
        run = self.run(v['name']) if 'RunResumeStatus' in query or 'UpsertBucket' in query else {}
        entity = {'id': 'e', 'name': 'team'}
        if 'query Viewer' in query: return {'viewer': {'id': 'u', 'entity': 'team', 'username': 'u', 'email': 'u@example.org', 'flags': '{}', 'teams': {'edges': []}}}
        if 'query ServerFeaturesQuery' in query: return {'serverInfo': {'features': []}}
        if 'query RunResumeStatus' in query:
            bucket = run['there'] and {'id': v['name'], 'name': v['name'], 'summaryMetrics': json.dumps(run['summary']), 'displayName': run['name'], 'logLineCount': 0,
                                       'historyLineCount': len(run['history']), 'eventsLineCount': 0, 'historyTail': json.dumps([json.dumps(h) for h in run['history'][-1:]]),
                                       'eventsTail': '[]', 'config': json.dumps(run['config']), 'tags': run['tags'], 'notes': None, 'wandbConfig': '{"t": 1}'}
            return {'model': {'id': 'm', 'name': v['project'], 'entity': entity, 'bucket': bucket or None}}
        if 'mutation UpsertBucket' in query:
            new, run['there'] = not run['there'], True
            for ours, theirs in (('config', 'config'), ('summary', 'summaryMetrics')): run[ours] = json.loads(v[theirs]) if v.get(theirs) else run[ours]
            run['tags'], run['name'] = v.get('tags') or run['tags'], v.get('displayName') or run['name']
            return {'upsertBucket': {'inserted': new, 'bucket': {'id': v['name'], 'name': v['name'], 'displayName': run['name'], 'description': None, 'config': json.dumps(run['config']),
                    'sweepName': None, 'historyLineCount': len(run['history']), 'project': {'id': 'p', 'name': v['project'], 'entity': {**entity, 'name': v.get('entity') or 'team'}}}}}
        if 'mutation CreateRunFiles' in query:
            return {'createRunFiles': {'runID': v['run'], 'uploadHeaders': [], 'files': [{'name': f, 'uploadUrl': f'{self.url}/storage/{f}'} for f in v['files']]}}
        if 'mutation CreateArtifact ' in query:
            self.artifacts.append((v['input']['artifactCollectionName'], v['input']['digest']))
            return {'createArtifact': {'artifact': {'id': f'A{len(self.artifacts)}', 'state': 'COMMITTED', 'artifactSequence': {'latestArtifact': None}}}}
        if 'artifactType {' in query: return {'project': {'artifact': {'artifactType': {'name': 'run_table' if v['name'].startswith('run-') else 'calibrax-run'}}}}
        if 'NotifyScriptableRunAlert' in query:
            self.alerts.append((v['title'], v['text'], v['severity']))
            return {'notifyScriptableRunAlert': {'success': True}}
        self.unknown.append(query)
        return {}


@pytest.fixture
def server(place, monkeypatch):
    server = FakeServer()
    monkeypatch.setenv('WANDB_BASE_URL', server.url)
    monkeypatch.setenv('WANDB_API_KEY', 'a'*40)
    yield server
    server.shutdown()
    server.server_close()


def arrived(server, run):
    "What the server has: how often each name was logged, and the summary"
    found = server.runs[wandb_run_id(run.id)]
    return Counter(k for row in found['history'] for k in row if k[0] != '_'), found['summary']


def assert_complete(server, run, media):
    counts, summary = arrived(server, run)
    assert set(counts.values()) == {1} and {*VALUES, *media} <= set(counts)
    assert {k: summary[k] for k in VALUES} == VALUES and media <= set(summary)
    assert all(f'/storage/{summary[k]["path"]}' in server.files for k in {*media, 'comparison_styled'})
    assert sorted(server.alerts) == sorted((o.key, o.content, 'WARN') for o in analysis_items(RUN, BASELINE) if o.kind is ItemKind.ALERT)
    assert {k: v['value'] for k, v in server.runs[wandb_run_id(run.id)]['config'].items() if k in ('cpu', 'run_id', 'commit')} == {'cpu': 'AMD EPYC', 'run_id': run.id, 'commit': 'abc1234'}


def test_online_twice(server):
    for _ in range(2):
        exporter = WandBExporter('p', 'us', timeout=30)
        url = exporter.export_run(RUN)
        exporter.export_analysis(RUN, BASELINE)
    assert url == f'{server.url}/us/p/runs/{wandb_run_id("nightly-7")}' and list(server.runs) == [wandb_run_id('nightly-7')]
    assert_complete(server, RUN, TABLES | FIGURES)
    assert len({d for name, d in server.artifacts if name.startswith('calibrax-')}) == 1 and not server.unknown


def test_online_a_broken_export_is_completed(server, monkeypatch):
    import wandb
    def broken(*_, **__): raise ConnectionError('the network is gone')
    with monkeypatch.context() as patched:
        patched.setattr(wandb.sdk.wandb_run.Run, 'log_artifact', broken)
        with pytest.raises(ExportError, match='the network is gone'): WandBExporter('p', figures=False, timeout=30).export_run(RUN)
    exporter = WandBExporter('p', figures=False, timeout=30)
    exporter.export_run(RUN, finish=False)
    exporter.export_analysis(RUN, BASELINE)
    assert_complete(server, RUN, TABLES)


def test_what_was_written_offline_arrives_once(server, monkeypatch, place):
    "W&B's own reader, behind `wandb sync`, reads all folders of two exports"
    import wandb
    with monkeypatch.context() as patched:
        patched.setenv('WANDB_MODE', 'offline')
        for _ in range(2):
            exporter = WandBExporter('p', 'us')
            exporter.export_run(RUN)
            exporter.export_analysis(RUN, BASELINE)
        wandb.teardown()
    done = subprocess.run([sys.executable, '-m', 'wandb', 'sync', *map(str, folders(place))], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_complete(server, RUN, TABLES | FIGURES)


def test_nan_survives_a_second_export(server):
    run = measured('r-with-nan', {'A': (nan, 1.0), 'B': (2.0, inf)})
    exporter = WandBExporter('p', timeout=30, figures=False)
    for _ in range(2): exporter.export_run(run)
    counts, summary = arrived(server, run)
    assert set(counts.values()) == {1} and summary['Throughput/throughput/A'] == 'NaN' and summary['Latency/latency_p50/B'] == 'Infinity'


def test_online_trend(server, place):
    store, times = Store(place/'store'), [DAY + timedelta(days=d) for d in range(3)]
    exporter = WandBExporter('p', timeout=30)
    for i in range(3):
        store.save(measured(f'run-{i}', {'Datarax': (100.0 + i, 10.0 - i)}, timestamp=times[i]))
        if i: exporter.export_trends(store, 'throughput', 'CV-1/small')
    found, = server.runs.values()
    assert [row['trend/throughput'] for row in found['history'] if 'trend/throughput' in row] == [100.0, 101.0, 102.0] and found['tags'] == ['trend']


@pytest.mark.parametrize('when', ['mutation CreateArtifact ', 'wandb-history.jsonl'])
def test_a_killed_export_is_completed(server, when):
    "The exporting process dies while it sends tables, or once the values have arrived"
    code = ('import sys; from calibrax.core import Run; from calibrax.exporters.wandb import WandBExporter\n'
            'run, baseline = (Run.from_json(line) for line in sys.stdin); exporter = WandBExporter("p", figures=False)\n'
            'exporter.export_run(run, finish=False); exporter.export_analysis(run, baseline)')
    process = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, text=True)
    server.watch = lambda said: process.kill() if when in said else None
    process.communicate('\n'.join(json.dumps(r.to_dict()) for r in (RUN, BASELINE)), timeout=60)
    assert process.returncode < 0
    server.watch, before = None, -1
    while server.requests != before:        # W&B's own process sends what it has, and ends
        before = server.requests
        time.sleep(1)
    exporter = WandBExporter('p', figures=False, timeout=30)
    exporter.export_run(RUN, finish=False)
    exporter.export_analysis(RUN, BASELINE)
    assert_complete(server, RUN, TABLES)


def test_a_network_that_is_lost_while_sending(server):
    def lost(*_): raise ConnectionError
    server.stream = lost
    exporter = WandBExporter('p', figures=False, timeout=3)
    with pytest.raises(ExportError, match='finishing the run .*: Time') as told: exporter.export_run(RUN)
    assert str(exporter.folder) in told.value.message and exporter._open is None


def test_a_refused_key_is_an_auth_error(server):
    server.refusal = 401
    with pytest.raises(AuthError, match='exporting run nightly-7') as told: WandBExporter('p', timeout=20).export_run(RUN)
    assert 'WANDB_API_KEY' in told.value.hint


def test_what_is_no_key_is_an_auth_error(server, monkeypatch):
    monkeypatch.setenv('WANDB_API_KEY', 'too short')
    with pytest.raises(AuthError): WandBExporter('p', figures=False, timeout=20).export_run(RUN)


def test_a_server_that_is_not_there(place, monkeypatch):
    monkeypatch.setenv('WANDB_BASE_URL', 'http://127.0.0.1:9')
    monkeypatch.setenv('WANDB_API_KEY', 'a'*40)
    exporter = WandBExporter('p', timeout=2)
    with pytest.raises(ExportError, match='exporting run nightly-7') as told: exporter.export_run(RUN)
    assert 'WANDB_MODE=offline' in told.value.hint and exporter._open is None
