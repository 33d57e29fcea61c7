"MLflow, with real tracking stores: SQLite databases in temporary folders, and a server."
import json, math, os, posixpath, re, shutil, signal, socket, subprocess, sys, threading, time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from calibrax.core.errors import AuthError, ConfigError, ExportError, RecordError
from calibrax.core.models import Metric, MetricDef, Point, Run
from calibrax.exporters.base import ExportSettings, get_exporter
from calibrax.exporters.mlflow import MLflowExporter, metric_names

needs_mlflow = pytest.mark.skipif(find_spec('mlflow') is None, reason='mlflow is not installed')
DEFS = {'throughput': MetricDef(name='throughput', unit='elem/s', direction='higher'), 'latency': MetricDef(name='latency', unit='ms', direction='lower'),
        'threads': MetricDef(name='threads', unit='', direction='info')}


def made(run_id='r1', factor=1.0, **fields):
    points = [Point(name=name, scenario='CV-1', tags={'framework': f}, metrics={
                  'throughput': Metric(value=speed/factor), 'threads': Metric(value=8),
                  'latency': Metric(value=ms*factor, lower=ms*factor - 0.1, upper=ms*factor + 0.3, samples=(ms*factor - 0.1, ms*factor, ms*factor + 0.3))})
              for name, f, speed, ms in (('CV-1/small', 'Datarax', 20158.25, 12.1), ('CV-1/small', 'Grain', 20071, 11.5), ('CV-1/large', 'Datarax', 5100, 48))]
    return Run(**{'id': run_id, 'timestamp': datetime(2026, 3, 1, 12, 30, 15, 250_000, UTC), 'commit': 'abc123', 'branch': 'main',
                  'environment': {'cpu': 'AMD EPYC', 'cores': 8, 'packages': {'jax': '0.7.0'}}, 'metric_defs': DEFS, 'points': points, **fields})

def one(metrics, **fields): return Run(**{'id': 'one', 'points': [Point(name='p', scenario='s', metrics=metrics)], **fields})


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    "MLflow tells nobody about our tests, and nothing of the caller's settings counts"
    for name in list(os.environ):
        if name.startswith(('MLFLOW_', 'DATABRICKS_')): monkeypatch.delenv(name)
    monkeypatch.setenv('MLFLOW_DISABLE_TELEMETRY', 'true')
    monkeypatch.setenv('MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR', 'false')


@pytest.fixture(scope='module')
def empty_database(tmp_path_factory):
    "Making the tables takes seconds; a copy does not"
    from mlflow import MlflowClient
    file = tmp_path_factory.mktemp('mlflow')/'empty.db'
    os.environ['MLFLOW_DISABLE_TELEMETRY'] = 'true'
    MlflowClient(tracking_uri=f'sqlite:///{file}').search_experiments()
    return file


class Tracking:
    "A database, and short ways to look into it"
    def __init__(self, file, folder):
        from mlflow import MlflowClient
        self.uri, self.folder, self.client = f'sqlite:///{file}', folder, MlflowClient(tracking_uri=f'sqlite:///{file}')

    def exporter(self, **options): return MLflowExporter('bench', self.uri, artifact_location=str(self.folder/'files'), **options)
    def experiment(self): return self.client.get_experiment_by_name('bench').experiment_id
    def runs(self): return self.client.search_runs([self.experiment()])
    def get(self, mlflow_run_id): return self.client.get_run(mlflow_run_id)
    def text(self, mlflow_run_id, path): return Path(self.client.download_artifacts(mlflow_run_id, path, str(self.folder))).read_text()
    def rows(self, mlflow_run_id, path):
        table = json.loads(self.text(mlflow_run_id, path))
        return [dict(zip(table['columns'], row)) for row in table['data']]


@pytest.fixture
def tracking(empty_database, tmp_path):
    shutil.copy(empty_database, tmp_path/'mlflow.db')
    return Tracking(tmp_path/'mlflow.db', tmp_path)


# --- without MLflow ------------------------------------------------------------------------------------------------------

def test_importing_and_previewing_need_no_mlflow():
    code = '''import sys
sys.modules['mlflow'] = None
from calibrax.exporters.mlflow import MLflowExporter
from calibrax.core import Metric, Point, Run
run = Run(id='r', points=[Point(name='p', scenario='s', metrics={'loss': Metric(value=0.5)})])
exporter = MLflowExporter('bench')
print(exporter.preview(run, run))
try: exporter.export_run(run)
except Exception as e: print(type(e).__name__, e)
assert not {'pandas', 'jax', 'matplotlib', 'scipy'} & set(sys.modules)'''
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert out.returncode == 0, out.stderr
    assert 'loss_p' in out.stdout and 'ExportError exporting to MLflow needs the package mlflow' in out.stdout and 'calibrax[mlflow] @ git+https' in out.stdout


def test_it_is_found_by_name_and_made_from_settings(monkeypatch):
    assert get_exporter('mlflow') is MLflowExporter and MLflowExporter.name == 'mlflow'
    with pytest.raises(ConfigError, match='name of an experiment.*\n.*--project'): MLflowExporter.from_settings(ExportSettings())
    monkeypatch.setenv('MLFLOW_EXPERIMENT_NAME', 'from-the-environment')
    assert MLflowExporter.from_settings(ExportSettings()).experiment_name == 'from-the-environment'
    e = MLflowExporter.from_settings(ExportSettings(project='p', entity='team', tracking_uri='sqlite:///x.db', metrics=['a'], tags=['nightly'], metric_defs=DEFS,
                                                    options={'threshold': '0.2', 'artifact_location': 'files', 'dpi': '300'}))
    assert (e.experiment_name, e.tracking_uri, e.metrics, e.tags, e.threshold, e.artifact_location) == ('p', 'sqlite:///x.db', ('a',), ('nightly',), 0.2, 'files')
    assert e.metric_defs == DEFS


@pytest.mark.parametrize('wrong', [dict(experiment_name=''), dict(experiment_name=None), dict(experiment_name=3), dict(tracking_uri=''), dict(threshold=-1), dict(threshold=math.nan), dict(artifact_location=Path('x'))])
def test_wrong_arguments(wrong):
    with pytest.raises(ConfigError): MLflowExporter(**{'experiment_name': 'bench', **wrong})


def test_what_is_no_run():
    with pytest.raises(RecordError, match='expected a Run, found dict'): MLflowExporter('bench').export_run({})
    with pytest.raises(RecordError, match='expected a Run, found str'): MLflowExporter('bench').preview(made(), 'r1')


def test_preview_says_it_all():
    rows = MLflowExporter('bench', tags=['nightly']).preview(made('r2', 1.2), made()).rows
    kinds = {kind: [item for item, k, _ in rows if k == kind] for _, kind, _ in rows}
    assert {'calibrax.run_id', 'calibrax.unit.latency', 'nightly'} <= set(kinds['tag']) and 'env_packages.jax' in kinds['parameter']
    assert 'lower/latency_Grain' in kinds['metric'] and kinds['file'] == ['environment.json', 'benchmark_data/run_r2.json']
    assert 'regression_count' in kinds['analysis: metric'] and 'changes.json' in kinds['analysis: table']
    assert ('regression_count', 'analysis: metric', '6.00') in rows


# --- names ---------------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=('Cs',)), max_size=12) | st.sampled_from(['a', 'A', 'a/b', 'a_b', 'lower', 'x'*300, 'framework', '..', '%', 'µ'])

@given(st.lists(st.tuples(TEXT, TEXT, st.dictionaries(st.sampled_from(['framework', 'batch', 'b']), TEXT, max_size=2), st.lists(TEXT, max_size=3, unique=True)), max_size=6))
def test_every_value_has_a_name_of_its_own_that_mlflow_takes(points):
    run = Run(id='r', points=[Point(name=n, scenario=s, tags=t, metrics={m: Metric(value=1) for m in metrics}) for n, s, t, metrics in points])
    names = metric_names(run)
    assert list(names) == [(i, m) for i, p in enumerate(run.points) for m in p.metrics]
    assert len({n.casefold() for n in names.values()}) == len(names)
    for name in names.values():     # MLflow's rules, as its messages give them
        assert re.fullmatch(r'[\w.\- ]+', name) and len(f'lower/{name}') <= 250
        assert posixpath.normpath(name) == name and not name.startswith('..')


def test_names_hang_on_the_points_and_not_on_their_order():
    assert list(metric_names(made()).values())[2::3] == ['latency_Datarax_CV-1_small', 'latency_Grain', 'latency_Datarax_CV-1_large']
    run = Run(id='r', points=[Point(name=n, scenario='s', tags=t, metrics={'m': Metric(value=1)}) for n, t in
                              (('a/b', {}), ('a_b', {}), ('p', {'framework': 'F', 'batch': '32'}), ('p', {'framework': 'F', 'batch': '64'}))])
    names, turned = metric_names(run), metric_names(Run(id='r', points=run.points[::-1]))
    assert {names[i, 'm'] for i in range(4)} == {turned[i, 'm'] for i in range(4)} and all(names[i, 'm'] == turned[3 - i, 'm'] for i in range(4))
    assert [names[i, 'm'] for i in (2, 3)] == ['m_F_p_batch_32', 'm_F_p_batch_64']
    assert list(metric_names(one({'m': Metric(value=1)}), group_by_tag='device').values()) == ['m_p']


# --- there and back ------------------------------------------------------------------------------------------------------

@needs_mlflow
def test_search_runs_reads_everything_back_equal(tracking, monkeypatch):
    import mlflow
    run = made()
    mlflow_id = tracking.exporter(tags=['nightly', 'team=vision']).export_run(run)
    monkeypatch.setenv('MLFLOW_TRACKING_URI', tracking.uri)
    row, = mlflow.search_runs(experiment_names=['bench'], filter_string="tags.`calibrax.run_id` = 'r1'").to_dict('records')
    assert row['run_id'] == mlflow_id and row['status'] == 'FINISHED'
    assert row['start_time'].timestamp() == row['end_time'].timestamp() == run.timestamp.timestamp()
    for (i, metric), name in metric_names(run).items():
        m = run.points[i].metrics[metric]
        assert row[f'metrics.{name}'] == m.value
        if m.lower is not None: assert (row[f'metrics.lower/{name}'], row[f'metrics.upper/{name}']) == (m.lower, m.upper)
    assert (row['params.run_id'], row['params.num_points'], row['params.commit'], row['params.branch']) == ('r1', '3', 'abc123', 'main')
    assert (row['params.env_cpu'], row['params.env_cores'], row['params.env_packages.jax']) == ('AMD EPYC', '8', '0.7.0')
    assert (row['tags.calibrax.unit.latency'], row['tags.calibrax.direction.latency'], row['tags.calibrax.unit.threads']) == ('ms', 'lower', '')
    assert (row['tags.nightly'], row['tags.team'], row['tags.mlflow.source.git.commit'], row['tags.mlflow.runName']) == ('true', 'vision', 'abc123', 'r1')


@needs_mlflow
def test_files_and_tables(tracking, monkeypatch):
    run = made()
    mlflow_id = tracking.exporter().export_run(run)
    assert Run.from_json(tracking.text(mlflow_id, 'benchmark_data/run_r1.json')) == run
    assert json.loads(tracking.text(mlflow_id, 'environment.json')) == run.environment
    samples, names = tracking.rows(mlflow_id, 'samples.json'), metric_names(run)
    for (i, metric), name in names.items():
        assert tuple(r['value'] for r in samples if r['name'] == name) == (run.points[i].metrics[metric].samples or ())
    first = tracking.rows(mlflow_id, 'metrics.json')[2]
    assert first == {'name': 'latency_Datarax_CV-1_small', 'metric': 'latency', 'unit': 'ms', 'direction': 'lower', 'point': 'CV-1/small', 'scenario': 'CV-1',
                     'tags': '{"framework": "Datarax"}', 'value': 12.1, 'lower': 12.0, 'upper': 12.4, 'samples': 3}
    monkeypatch.setenv('MLFLOW_TRACKING_URI', tracking.uri)
    frame = tracking.client.load_table(tracking.experiment(), 'samples.json', [mlflow_id])
    assert frame['value'].tolist() == pytest.approx([r['value'] for r in samples]) and len(frame) == 9


@needs_mlflow
def test_again_is_one_run_without_a_trace(tracking):
    exporter, run = tracking.exporter(), made()
    ids = {exporter.export_run(run) for _ in range(3)} | {tracking.exporter().export_run(run)}
    assert len(ids) == len(tracking.runs()) == 1
    mlflow_id, = ids
    assert all(len(tracking.client.get_metric_history(mlflow_id, name)) == 1 for name in tracking.get(mlflow_id).data.metrics)
    assert len(tracking.rows(mlflow_id, 'samples.json')) == 9 and tracking.get(mlflow_id).data.tags['mlflow.loggedArtifacts'].count('samples.json') == 1
    assert exporter.export_run(made('r2')) != mlflow_id and len(tracking.runs()) == 2


@needs_mlflow
def test_a_changed_run_is_updated_as_far_as_mlflow_can(tracking, caplog):
    mlflow_id = tracking.exporter().export_run(one({'a': Metric(value=5, lower=4)}, commit='1'))
    tracking.client.log_metric(mlflow_id, 'somebodys_own', 7)
    tracking.client.set_tag(mlflow_id, 'mlflow.loggedArtifacts', '[{"path": "theirs.json", "type": "table"}]')
    for value in (2, 9, 3):
        assert tracking.exporter().export_run(one({'a': Metric(value=value, lower=1), 'b': Metric(value=1)}, commit='2')) == mlflow_id
        assert tracking.get(mlflow_id).data.metrics == {'a_p': value, 'lower/a_p': 1, 'b_p': 1, 'somebodys_own': 7}
    assert tracking.get(mlflow_id).data.params['commit'] == '1' and "keeps the parameter commit='1'" in caplog.text
    assert [t['path'] for t in json.loads(tracking.get(mlflow_id).data.tags['mlflow.loggedArtifacts'])] == ['theirs.json', 'metrics.json']


@needs_mlflow
def test_numbers_that_are_none(tracking):
    run = one({'nan': Metric(value=math.nan), 'up': Metric(value=math.inf, lower=-math.inf), 'tiny': Metric(value=5e-324), 'third': Metric(value=0.1 + 0.2, samples=(math.nan, math.inf, 0.1))})
    mlflow_id = tracking.exporter().export_run(run)
    assert tracking.exporter().export_run(run) == mlflow_id
    data = tracking.get(mlflow_id).data
    assert math.isnan(data.metrics['nan_p']) and (data.metrics['tiny_p'], data.metrics['third_p']) == (5e-324, 0.1 + 0.2)
    assert data.metrics['up_p'] > 1e308 and data.metrics['lower/up_p'] < -1e308 and data.tags['calibrax.infinite'] == 'up_p, lower/up_p'
    assert all(len(tracking.client.get_metric_history(mlflow_id, n)) == 1 for n in data.metrics)
    assert [r['value'] for r in tracking.rows(mlflow_id, 'samples.json')] == ['NaN', 'Infinity', 0.1]
    assert math.isinf(Run.from_json(tracking.text(mlflow_id, 'benchmark_data/run_one.json')).points[0].metrics['up'].value)


@needs_mlflow
@pytest.mark.parametrize('run_id', ["ada's", '"both\' kinds"', '100%', 'a_b', 'back\\slash', '日本', ' '])
def test_unusual_ids(tracking, run_id):
    others = [tracking.exporter().export_run(one({}, id=other)) for other in ('adaxs', 'axb', run_id + 'x')]
    first = tracking.exporter().export_run(one({}, id=run_id))
    assert tracking.exporter().export_run(one({}, id=run_id)) == first not in others and tracking.get(first).data.tags['calibrax.run_id'] == run_id


@needs_mlflow
def test_much_and_long(tracking):
    environment = {f'variable-{i}': 'x'*400 for i in range(250)} | {'deep': {'a/b': 1, 'a_b': 2}, 'none': None, 'k'*400: 'v', '': 'empty'}
    points = [Point(name=f'p{i}', scenario='s', metrics={f'm{j}': Metric(value=i + j/8, lower=0) for j in range(60)}) for i in range(20)]
    run = Run(id='big', points=points, environment=environment, metric_defs={f'm{j}': MetricDef(name=f'm{j}', unit='s', direction='lower') for j in range(60)})
    started = time.perf_counter()
    data = tracking.get(tracking.exporter().export_run(run)).data
    assert len(data.metrics) == 2400 and data.metrics['m59_p19'] == 19 + 59/8 and time.perf_counter() - started < 30
    assert max(map(len, data.params.values())) == 250 and data.params['env_variable-7'].endswith('…') and len(data.params) == 2 + 250 + 4
    assert len({k for k in data.params if k.startswith('env_deep.a_b_')}) == 2


@needs_mlflow
def test_only_the_metrics_named(tracking, caplog):
    exporter = tracking.exporter(metrics=['latency', 'latencyy'])
    data = tracking.get(exporter.export_run(made())).data
    assert len(data.metrics) == 9 and all('latency' in n for n in data.metrics) and 'calibrax.unit.throughput' not in data.tags
    assert "no metric 'latencyy'; it has latency, threads, throughput" in caplog.text


@needs_mlflow
def test_definitions_of_the_store(tracking):
    data = tracking.get(tracking.exporter(metric_defs=DEFS).export_run(made(metric_defs={}))).data
    assert data.tags['calibrax.unit.throughput'] == 'elem/s'


# --- analysis ------------------------------------------------------------------------------------------------------------

@needs_mlflow
def test_an_analysis_is_one_run_below_the_runs_own(tracking):
    exporter, run, baseline = tracking.exporter(), made('r2', 1.2), made()
    parent = exporter.export_run(run)
    for _ in range(2): assert exporter.export_analysis(run, baseline) is None
    analysis, = [r for r in tracking.runs() if r.info.run_id != parent]
    assert analysis.info.status == 'FINISHED' and analysis.info.start_time == analysis.info.end_time == run.timestamp.timestamp()*1000
    assert analysis.data.params == {'analysis_run_id': 'r2', 'baseline_id': 'r1', 'threshold': '0.05'}
    assert analysis.data.tags['mlflow.parentRunId'] == parent and 'calibrax.run_id' not in analysis.data.tags
    metrics = dict(analysis.data.metrics)
    assert metrics.pop('regression_count') == 6 == len(metrics)
    assert metrics['regression_latency_CV-1_small_Grain'] == pytest.approx(20) and metrics['regression_throughput_CV-1_large'] == pytest.approx(-100/6)
    assert Run.from_json(tracking.text(analysis.info.run_id, 'benchmark_data/run_r2.json')) == run
    first = tracking.rows(analysis.info.run_id, 'rankings.json')[0]
    assert {k: first[k] for k in ('metric', 'unit', 'direction', 'rank', 'framework', 'is_best', 'delta_from_best_pct')} == {
        'metric': 'throughput', 'unit': 'elem/s', 'direction': 'higher', 'rank': 1, 'framework': 'Grain', 'is_best': True, 'delta_from_best_pct': 0}
    assert 'threads' not in {r['metric'] for r in tracking.rows(analysis.info.run_id, 'rankings.json')}
    assert {r['verdict'] for r in tracking.rows(analysis.info.run_id, 'changes.json')} == {'regressed', 'informational'}


@needs_mlflow
def test_each_baseline_and_threshold_has_its_analysis(tracking):
    run = made('r3', 1.2)
    for _ in range(2):
        for baseline in (made('r1'), made('r2', 1.2), None): tracking.exporter().export_analysis(run, baseline)
        tracking.exporter(threshold=0.5).export_analysis(run, made('r1'))
    counts = {(r.data.params.get('baseline_id'), r.data.params.get('threshold')): r.data.metrics.get('regression_count') for r in tracking.runs()}
    assert len(tracking.runs()) == 4 and counts == {('r1', '0.05'): 6, ('r2', '0.05'): 0, ('r1', '0.5'): 0, (None, None): None}


@needs_mlflow
def test_a_regression_that_is_none_any_more(tracking):
    "The store's definitions changed: the run, the baseline and the threshold are the same"
    run, baseline = one({'m': Metric(value=2)}), one({'m': Metric(value=1)}, id='base')
    def count(direction):
        tracking.exporter(metric_defs={'m': MetricDef(name='m', unit='', direction=direction)}).export_analysis(run, baseline)
        return tracking.runs()[0].data.metrics
    assert count('lower') == {'regression_m_p': 100, 'regression_count': 1}
    found = count('higher')
    assert math.isnan(found['regression_m_p']) and found['regression_count'] == 0 and len(tracking.runs()) == 1


# --- interrupted ---------------------------------------------------------------------------------------------------------

@needs_mlflow
@pytest.mark.parametrize('error, status', [(OSError('disk full'), 'FAILED'), (KeyboardInterrupt(), 'KILLED')])
@pytest.mark.parametrize('step', ['log_batch', 'log_text', 'set_tag'])
def test_a_failure_is_recorded_and_the_next_export_completes(tracking, monkeypatch, step, error, status):
    from mlflow import MlflowClient
    def fail(*args, **kwargs): raise error
    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, step, fail)
        with pytest.raises(ExportError if status == 'FAILED' else KeyboardInterrupt) as e: tracking.exporter().export_run(made())
    if status == 'FAILED': assert 'OSError: disk full' in e.value.message and 'export again' in e.value.hint
    begun, = tracking.runs()
    assert begun.info.status == status
    assert tracking.exporter().export_run(made()) == begun.info.run_id
    finished, = tracking.runs()
    assert finished.info.status == 'FINISHED' and len(finished.data.metrics) == 15 and len(tracking.rows(begun.info.run_id, 'samples.json')) == 9


@needs_mlflow
def test_a_process_that_was_killed(tracking):
    code = f'''import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from mlflow import MlflowClient
from test_mlflow import MLflowExporter, made
MlflowClient.log_text = lambda *args: os._exit(9)
MLflowExporter('bench', {tracking.uri!r}, artifact_location={str(tracking.folder/'files')!r}).export_run(made())'''
    assert subprocess.run([sys.executable, '-c', code], timeout=60).returncode == 9
    begun, = tracking.runs()
    assert begun.info.status == 'RUNNING'
    assert tracking.exporter().export_run(made()) == begun.info.run_id and tracking.get(begun.info.run_id).info.status == 'FINISHED'


# --- beside others -------------------------------------------------------------------------------------------------------

@needs_mlflow
def test_the_active_run_and_the_tracking_uri_are_left_alone(tracking, empty_database, tmp_path, monkeypatch, capsys):
    import mlflow
    monkeypatch.chdir(tmp_path)
    other = f'sqlite:///{shutil.copy(empty_database, tmp_path/"other.db")}'
    mlflow.set_tracking_uri(other)
    try:
        mlflow.create_experiment('theirs', artifact_location=str(tmp_path/'theirs'))
        mlflow.set_experiment('theirs')
        with mlflow.start_run() as active:
            mlflow.log_metric('loss', 1)
            tracking.exporter().export_run(made())
            tracking.exporter().export_analysis(made(), made('r0'))
            assert mlflow.get_tracking_uri() == other and mlflow.active_run().info.run_id == active.info.run_id
            mlflow.log_metric('loss', 2)
        assert mlflow.get_run(active.info.run_id).data.metrics == {'loss': 2} and len(mlflow.search_runs()) == 1
    finally: mlflow.set_tracking_uri(None)
    assert {p.name for p in tmp_path.iterdir()} == {'mlflow.db', 'other.db', 'files'} and capsys.readouterr().out == ''


@needs_mlflow
def test_without_a_tracking_uri_it_is_mlflows_own(tracking, monkeypatch):
    monkeypatch.setenv('MLFLOW_TRACKING_URI', tracking.uri)
    mlflow_id = MLflowExporter('bench', artifact_location=str(tracking.folder/'files')).export_run(made())
    assert tracking.get(mlflow_id).data.tags['calibrax.run_id'] == 'r1'


@needs_mlflow
def test_the_store_is_not_touched(tracking, tmp_path):
    from calibrax.storage import Store
    store = Store(tmp_path/'store')
    store.save(made())
    before = {p: p.read_bytes() for p in (tmp_path/'store').rglob('*') if p.is_file()}
    tracking.exporter().export_run(store.latest())
    with pytest.raises(ExportError): MLflowExporter('bench', 'http://127.0.0.1:9').export_run(store.latest())
    assert {p: p.read_bytes() for p in (tmp_path/'store').rglob('*') if p.is_file()} == before


# --- what can go wrong ---------------------------------------------------------------------------------------------------

@needs_mlflow
def test_a_deleted_experiment(tracking):
    tracking.exporter().export_run(made())
    number = tracking.experiment()
    tracking.client.delete_experiment(number)
    with pytest.raises(ExportError, match=f"'bench' was deleted\n.*restore --experiment-id {number}"): tracking.exporter().export_run(made())
    tracking.client.restore_experiment(number)
    tracking.exporter().export_run(made())
    assert len(tracking.runs()) == 1


@needs_mlflow
def test_a_deleted_run_is_made_anew(tracking):
    first = tracking.exporter().export_run(made())
    tracking.client.delete_run(first)
    assert tracking.exporter().export_run(made()) != first and len(tracking.runs()) == 1


@needs_mlflow
def test_two_of_one_run_are_named(tracking, caplog):
    first = tracking.exporter().export_run(made())
    second = tracking.client.create_run(tracking.experiment(), tags={'calibrax.run_id': 'r1'}).info.run_id
    assert tracking.exporter().export_run(made()) == min(first, second) and '2 runs with the tags' in caplog.text


@needs_mlflow
@pytest.mark.parametrize('uri', ['http://127.0.0.1:9', 'http://ada:secret@127.0.0.1:9', 'https://calibrax.invalid', 'http://'])
def test_a_server_that_is_not_there_is_named_quickly(uri):
    started = time.perf_counter()
    with pytest.raises(ExportError, match='no MLflow server answers') as e: MLflowExporter('bench', uri).export_run(made())
    assert time.perf_counter() - started < 15 and 'MLFLOW_TRACKING_URI' in e.value.hint and 'secret' not in str(e.value)


@needs_mlflow
def test_a_server_that_says_nothing(monkeypatch):
    monkeypatch.setattr('calibrax.exporters.mlflow._PATIENCE_SEC', 0.3)
    with socket.create_server(('127.0.0.1', 0)) as silent:
        with pytest.raises(ExportError, match='no MLflow server answers'): MLflowExporter('bench', f'http://127.0.0.1:{silent.getsockname()[1]}').export_run(made())


@needs_mlflow
@pytest.mark.parametrize('code, body, kind', [
    (401, b'who are you', AuthError), (403, b'{"error_code": "PERMISSION_DENIED", "message": "not yours"}', AuthError), (404, b'nothing here', ExportError), (500, b'oops', ExportError)])
def test_a_server_that_refuses(monkeypatch, code, body, kind):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(code); self.send_header('Content-Type', 'application/json'); self.send_header('Content-Length', str(len(body))); self.end_headers()
            self.wfile.write(body)
        do_POST = do_GET
        def log_message(self, *args): pass
    monkeypatch.setenv('MLFLOW_HTTP_REQUEST_MAX_RETRIES', '0')
    with ThreadingHTTPServer(('127.0.0.1', 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(ExportError) as e: MLflowExporter('bench', f'http://ada:secret@127.0.0.1:{server.server_port}').export_run(made())
        finally: server.shutdown()
    assert type(e.value) is kind and 'secret' not in str(e.value) and e.value.__cause__ is None
    assert ('MLFLOW_TRACKING_USERNAME' if kind is AuthError else 'MLFLOW_HTTP_REQUEST_MAX_RETRIES') in e.value.hint


@needs_mlflow
@pytest.mark.parametrize('uri', ['gopher://x', 'databricks'])
def test_an_address_that_mlflow_does_not_know(uri):
    with pytest.raises(ExportError, match=f'MLflow at {uri}'): MLflowExporter('bench', uri).export_run(made())


@needs_mlflow
def test_a_database_whose_tables_were_never_finished_is_told_apart(tmp_path):
    import sqlite3
    with sqlite3.connect(tmp_path/'half.db') as db: db.execute('create table experiments (experiment_id integer)')
    db.close()
    with pytest.raises(ExportError) as e: MLflowExporter('p', f'sqlite:///{tmp_path/"half.db"}').export_run(made())
    assert 'its tables are not complete' in e.value.hint and 'mlflow db upgrade sqlite:///' in e.value.hint


@needs_mlflow
@pytest.mark.slow
def test_a_real_server(tmp_path, empty_database, capfd):
    "Files go through the server; what it prints goes nowhere near stdout"
    with socket.create_server(('127.0.0.1', 0)) as free: port = free.getsockname()[1]
    shutil.copy(empty_database, tmp_path/'server.db')
    command = [sys.executable, '-m', 'mlflow', 'server', '--backend-store-uri', f'sqlite:///{tmp_path/"server.db"}', '--artifacts-destination', str(tmp_path/'files'),
               '--host', '127.0.0.1', '--port', str(port), '--workers', '1']
    with (tmp_path/'log').open('w') as log: server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        exporter = MLflowExporter('bench', f'http://127.0.0.1:{port}')
        for _ in range(120):
            try: mlflow_id = exporter.export_run(made()); break
            except ExportError: time.sleep(0.5)
            if server.poll() is not None: pytest.skip(f'mlflow server does not run here: {(tmp_path/"log").read_text()[-300:]}')
        exporter.export_analysis(made(), made('r0'))
        assert exporter.export_run(made()) == mlflow_id
        assert exporter.url(mlflow_id).startswith(f'http://127.0.0.1:{port}/#/experiments/') and exporter.url(mlflow_id).endswith(mlflow_id)
        from mlflow import MlflowClient
        held = MlflowClient(tracking_uri=f'http://127.0.0.1:{port}').get_run(mlflow_id)
        assert held.info.status == 'FINISHED' and held.data.metrics['latency_Grain'] == 11.5 and list((tmp_path/'files').rglob('run_r1.json'))
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)
    assert 'View run' not in capfd.readouterr().out
