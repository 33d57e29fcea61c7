"""`calibrax export`, `report` and `ingest` of foreign formats, as a user types them."""
import json, os, re, subprocess, sys
from datetime import datetime, UTC, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibrax.cli.export import export_runs
from calibrax.cli.main import main
from calibrax.core.errors import ConfigError, ExportError
from calibrax.core.models import Metric, Point, Run
from calibrax.exporters.base import Exporter, list_exporters
from calibrax.storage import Store

DATA = Path(__file__).parent/'data'/'interop'


def measured(i, throughput):
    def point(framework, value): return Point(name='CV-1/small', scenario='CV-1', tags={'framework': framework}, metrics={'throughput': Metric(value=value, lower=value - 50, upper=value + 50), 'latency': Metric(value=1e6/value, samples=(1e6/value, 1.1e6/value))})
    return Run(id=f'r{i}', timestamp=datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=i), commit=f'{i:040x}', branch='main', environment={'cpu': 'x'}, points=[point('Datarax', throughput), point('Grain', 20071.)])

@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith(('WANDB', 'MLFLOW', 'CALIBRAX'))]: monkeypatch.delenv(name)
    monkeypatch.setenv('CALIBRAX_CACHE_DIR', str(tmp_path/'cache'))
    made = Store('benchmark-data')
    made.write_config(wandb_project='loaders', metric_defs={'throughput': {'unit': 'elem/s', 'direction': 'higher', 'group': 'Throughput'}, 'latency': {'unit': 'ms', 'direction': 'lower'}})
    for i, value in enumerate((20158., 20100., 18000.)): made.save(measured(i, value))
    made.set_baseline('r0')
    return made

def state(folder='benchmark-data'): return {p.relative_to(folder): p.read_bytes() for p in sorted(Path(folder).rglob('*')) if p.is_file()}

def calibrax(*line):
    out = CliRunner().invoke(main, list(line))
    if out.exception and not isinstance(out.exception, SystemExit): raise out.exception
    return out


# --- export --------------------------------------------------------------------------------------------------------------

def test_without_a_key_it_says_what_to_set(store):
    "Known fault F: a traceback of W&B's own, or a missing --project"
    before = state()
    out = calibrax('export')
    assert out.exit_code == 2 and 'WANDB_API_KEY' in out.stderr and 'WANDB_MODE=offline' in out.stderr and 'Traceback' not in out.output
    assert state() == before

def test_offline_needs_nothing(store, monkeypatch, tmp_path):
    pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline'); monkeypatch.setenv('WANDB_DIR', str(tmp_path)); monkeypatch.setenv('WANDB_SILENT', 'true')
    before = state()
    out = calibrax('export')
    assert out.exit_code == 0 and re.search(r'^Exported run r2 to W&B: .*offline-run-', out.stdout, re.M), out.output
    assert list(tmp_path.rglob('offline-run-*/*.wandb')) and state() == before

@pytest.mark.parametrize('to', ['latex', 'html', 'markdown', 'csv', 'asv', 'pytest-benchmark', 'github-action-benchmark'])
def test_every_exporter_of_files(store, to):
    out = calibrax('export', '--to', to, '--output', 'out', '--json')
    answer = json.loads(out.stdout)
    assert out.exit_code == 0 and answer[0]['run'] == 'r2' and Path(answer[0]['where']).exists()
    assert calibrax('export', '--to', to, '--output', 'elsewhere', '--dry-run').exit_code == 0 and not Path('elsewhere').exists()

@pytest.mark.parametrize('to', list_exporters())
def test_what_would_be_sent_is_shown_and_nothing_is(store, to):
    before, there = state(), sorted(Path().iterdir())
    out = calibrax('export', '--to', to, '--dry-run', '--json', '--project', 'p', '--output', 'out')
    tables = json.loads(out.stdout)
    assert out.exit_code == 0 and tables[0]['columns'] == ['item', 'kind', 'content'] and tables[0]['rows']
    assert state() == before and sorted(Path().iterdir()) == there

def test_mlflow_into_a_database(store):
    mlflow = pytest.importorskip('mlflow')
    uri = f'sqlite:///{Path("ml.db").resolve()}'
    for _ in range(2): assert calibrax('export', '--to', 'mlflow', '--project', 'loaders', '--tracking-uri', uri).exit_code == 0
    client = mlflow.MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name('loaders').experiment_id], filter_string="tags.`calibrax.run_id` = 'r2'")
    assert 18000.0 in runs[0].data.metrics.values()

def test_all_runs_of_a_store(store):
    assert calibrax('export', '--to', 'asv', '--output', 'asv', '--run', 'all').stdout.count('Exported run') == 3
    out = calibrax('export', '--to', 'csv', '--output', 'out', '--run', 'all')
    assert out.exit_code == 2 and 'one run' in out.stderr and not Path('out').exists()

@pytest.mark.parametrize('line, says', [(['--to', 'wand'], "did you mean 'wandb'"), (['--to', 'csv', '--run', 'zz'], 'zz'), (['--to', 'csv', '--baseline', 'mian'], "no baseline 'mian'"),
                                        (['--to', 'asv'], '--output'), (['--to', 'csv', '--metric', 'latenzy'], 'there is latency'), (['--option', 'x'], 'key=value'), (['--data', 'nowhere'], 'No runs')])
def test_what_is_wrong_is_said(store, line, says):
    out = calibrax('export', *line)
    assert out.exit_code == 2 and says in out.stderr and 'Traceback' not in out.output
    assert not Path('nowhere').exists()

def test_a_failed_export_leaves_the_store_alone(store, monkeypatch):
    class Broken(Exporter):
        name = 'broken'
        def export_run(self, run):
            if run.id == 'r1': raise ExportError('the server is on fire', hint='wait')
            return f'there/{run.id}'
        def export_analysis(self, run, baseline=None): pass
    monkeypatch.setattr('calibrax.exporters.base.get_exporter', lambda name: Broken)
    before = state()
    out = calibrax('export', '--to', 'broken', '--run', 'all')
    assert out.exit_code == 2 and 'Exported run r0' in out.stdout and 'r1' not in out.stdout and 'on fire' in out.stderr and state() == before

class _Foreign(Exporter):
    "Of another package: it knows no errors of ours"
    name = 'foreign'
    def export_run(self, run): raise ValueError('no such bucket')
    def export_analysis(self, run, baseline=None): pass

def test_what_another_package_raises_is_no_traceback(store, monkeypatch):
    monkeypatch.setattr('calibrax.exporters.base.get_exporter', lambda name: _Foreign)
    out = calibrax('export', '--to', 'foreign', '--option', 'anything=1')
    assert out.exit_code == 2 and "exporter 'foreign' failed with run r2: ValueError: no such bucket" in out.stderr

@pytest.mark.parametrize('to', ['latex', 'wandb', 'mlflow', 'asv'])
def test_an_option_that_does_not_exist_is_refused(store, to):
    out = calibrax('export', '--to', to, '--output', 'out', '--option', 'treshold=1')
    assert out.exit_code == 2 and "no option 'treshold'" in out.stderr and not Path('out').exists()

def test_runs_that_a_format_cannot_hold_are_left_out(store):
    store.save(Run(id='free', timestamp=datetime(2026, 3, 9, tzinfo=UTC), points=store.latest().points))
    out = calibrax('export', '--to', 'asv', '--output', 'asv', '--run', 'all')
    assert out.exit_code == 0 and out.stdout.count('Exported run') == 3 and 'free' in out.output
    out = calibrax('export', '--to', 'asv', '--output', 'other')
    assert out.exit_code == 2 and 'commit' in out.stderr

def test_different_ids_never_share_a_file(store):
    for name in ('ü', 'ö'): store.save(Run(id=name, timestamp=datetime(2026, 3, 9, tzinfo=UTC), commit='a'*40, points=store.latest().points))
    for to in ('asv', 'pytest-benchmark'):
        assert calibrax('export', '--to', to, '--output', to, '--run', 'all').stdout.count('Exported run') == 5
        assert len([p for p in Path(to).rglob('*.json') if p.name not in ('benchmarks.json', 'machine.json', 'index.json')]) == 5

def test_nothing_of_an_earlier_run_stays(store):
    calibrax('export', '--to', 'markdown', '--output', 'md', '--run', 'r2')
    assert Path('md/changes.md').exists()
    calibrax('export', '--to', 'markdown', '--output', 'md', '--run', 'r0')
    assert not Path('md/changes.md').exists()
    for wrong in ('-', 'x.html'):
        out = calibrax('export', '--to', 'csv', '--output', wrong)
        assert out.exit_code == 2 and '.csv' in out.stderr and not Path(wrong).exists()

def test_from_python(store):
    assert [(r.id, where) for r, where in export_runs(store, 'csv', 'r0', output='one.csv')] == [('r0', 'one.csv')]
    assert 'changes' not in ''.join(p.name for p in Path().glob('one*')), 'the baseline is not compared with itself'
    with pytest.raises(TypeError): list(export_runs(store, 'csv', option_that_is_none=1))
    with pytest.raises(ConfigError, match='no metric'): list(export_runs(store, 'csv', metrics=('x',)))


# --- report, ingest ------------------------------------------------------------------------------------------------------

def test_report(store, monkeypatch):
    pytest.importorskip('vl_convert')
    shown = []
    monkeypatch.setattr('webbrowser.open', lambda url: shown.append(url) or True)
    out = calibrax('report', '--output', 'site/report.html', '--title', 'Loaders & <b>more</b>', '--open')
    page = Path('site/report.html').read_text()
    assert out.exit_code == 0 and 'Wrote site/report.html' in out.stdout and shown[0].startswith('file://')
    assert '<b>more</b>' not in page and 'Datarax' in page and store.report().html.count('Datarax') > 1
    assert calibrax('report', '--data', 'nowhere').exit_code == 2 and not Path('nowhere').exists()

@pytest.mark.parametrize('name, points', [('pyperf.json', 1), ('pyperf.json.gz', 1), ('pytest-benchmark.json', 1), ('google-benchmark.json', 1), ('hyperfine.json', 1), ('bencher.json', 1), ('long.csv', 1)])
def test_ingest_tells_formats_apart(store, name, points):
    before = len(store.list_runs())
    for _ in range(2): out = calibrax('ingest', '--input', str(DATA/name), '--commit', 'abc', '--json')
    assert out.exit_code == 0 and json.loads(out.stdout)[0]['points'] >= points
    assert len(Store('benchmark-data').list_runs()) == before + len({r['id'] for r in json.loads(out.stdout)} - {'r1', 'r2'}), 'read twice, kept once'

def test_ingest_of_nonsense(store):
    Path('x.json').write_text('{"what": 1}')
    out = calibrax('ingest', '--input', 'x.json')
    assert out.exit_code == 2 and 'x.json' in out.stderr
    out = calibrax('ingest', '--input', str(DATA/'pyperf.json'), '--format', 'pyprf')
    assert out.exit_code == 2 and 'pyperf' in out.stderr
    out = calibrax('ingest', '--input', str(DATA/'pyperf.json'), '--format', 'hyperfine')
    assert out.exit_code == 2 and 'looks like pyperf' in out.stderr

def test_a_store_ingests_and_writes_for_others(store):
    run = store.ingest(DATA/'hyperfine.json')
    assert store.load(run.id) == run and sorted(p.name for p in store.export_asv('asv').iterdir())[0] == 'benchmarks.json'

def test_start_up_stays_light():
    "Naming exporters imports none of what they need"
    code = "import sys; from calibrax.cli.main import main; import calibrax.exporters.base as b, calibrax.cli.export; b.list_exporters(); print(*sorted({'jax', 'wandb', 'mlflow', 'pandas', 'matplotlib', 'scipy', 'altair', 'vl_convert'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == ''
