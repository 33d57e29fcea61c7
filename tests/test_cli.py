"The command line end to end: what it prints, what it returns, and what bad input leaves behind."
import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibrax.cli import main
from calibrax.core.models import Metric, MetricDef, Point, Run
from calibrax.storage import Store

DEFS = {'throughput': MetricDef(name='throughput', unit='elem/s', direction='higher'),
        'latency_p50': MetricDef(name='latency_p50', unit='ms', direction='lower')}


def make_run(id, day=1, throughput=20158.0, latency=12.0, defs=DEFS, name='CV-1/small', **fields):
    point = Point(name=name, scenario='CV-1', tags={'framework': 'Datarax'},
                  metrics={'throughput': Metric(value=throughput), 'latency_p50': Metric(value=latency)})
    return Run(**{'id': id, 'timestamp': datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=day), 'points': (point,), 'metric_defs': defs, **fields})


def call(*args, **kwargs):
    out = CliRunner().invoke(main, [str(a) for a in args], prog_name='calibrax', **kwargs)
    assert out.exception is None or isinstance(out.exception, SystemExit), out.exc_info
    return out


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(folder):
    "A store with one run, which is the baseline"
    store = Store('benchmark-data')
    store.save(make_run('a1'))
    store.set_baseline('a1')
    return store


def tree(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in Path(path).rglob('*') if p.is_file()}


# --- what check prints and returns ---

def test_check_prints_what_the_documents_show(store):
    store.save(make_run('a2', 2, throughput=18000, latency=15))
    out = call('check', '--threshold', '0.05')
    assert out.exit_code == 1
    lines = out.stdout.splitlines()
    assert lines[:3] == ['FAIL: 2 regression(s) detected:', '  ↓ CV-1/small throughput: 20158.00 → 18000.00 (-10.7%)',
                         '  ↑ CV-1/small latency_p50: 12.00 → 15.00 (+25.0%)']


def test_check_passes(store):
    out = call('check')
    assert out.exit_code == 0 and out.stdout.startswith('PASS: no regressions (2 metrics compared, threshold 5%)')


@pytest.mark.parametrize('change, args, code', [
    (dict(latency=12.0), (), 0),
    (dict(latency=11.0), (), 0),                                    # better
    (dict(latency=12.6), (), 0),                                    # exactly 5 % is not beyond
    (dict(latency=12.7), (), 1),
    (dict(latency=12.7), ('--threshold', '0.1'), 0),
    (dict(latency=float('nan')), (), 1),
    (dict(throughput=float('inf')), (), 1),
    (dict(name='CV-1/renamed'), (), 2),                             # nothing in common
    (dict(points=()), (), 2),
    (dict(defs={}), (), 0),                                         # the baseline's definitions serve
    (dict(defs={**DEFS, 'latency_p50': MetricDef(name='latency_p50', unit='s', direction='lower')}), (), 2),
    (dict(defs={**DEFS, 'latency_p50': MetricDef(name='latency_p50', unit='ms', direction='higher')}), (), 2),
    (dict(metadata={'dirty': True}), (), 0),
    (dict(metadata={'dirty': True}), ('--strict',), 3),
])
def test_exit_codes(store, change, args, code):
    store.save(make_run('a2', 2, **change))
    assert call('check', *args).exit_code == code


def test_a_vanished_metric_fails_unless_allowed(store):
    run = make_run('a2', 2)
    kept = {'throughput': run.points[0].metrics['throughput']}
    store.save(make_run('a2', 2, points=(Point(name='CV-1/small', scenario='CV-1', tags={'framework': 'Datarax'}, metrics=kept),)))
    out = call('check')
    assert out.exit_code == 1 and 'MISSING' in out.stdout and 'latency_p50' in out.stdout
    assert call('check', '--allow-missing').exit_code == 0


def test_definitions_come_from_the_config_too(folder):
    assert call('init', '--metric', 'lat:ms:lower').exit_code == 0
    store = Store('benchmark-data')
    for id, day, value in (('a1', 1, 1.0), ('a2', 2, 100.0)):
        store.save(Run(id=id, timestamp=datetime(2026, 3, day, tzinfo=UTC), points=(Point(name='p', scenario='s', metrics={'lat': Metric(value=value)}),)))
    store.set_baseline('a1')
    assert call('check').exit_code == 1


def test_reports_are_written(store, folder):
    store.save(make_run('a2', 2, throughput=18000))
    out = call('check', '--json', '--markdown', 'r.md', '--junit', 'r.xml', '--json-file', 'r.json')
    answer = json.loads(out.stdout)
    assert answer == json.loads((folder/'r.json').read_text())
    assert answer['exit_code'] == 1
    assert 'throughput' in (folder/'r.md').read_text()
    suite = ElementTree.parse(folder/'r.xml').getroot()
    assert len(list(suite.iter('failure'))) == 1 and len(list(suite.iter('testcase'))) == 2


def test_a_report_that_cannot_be_written_does_not_hide_the_verdict(store, folder):
    (folder/'afile').write_text('')
    out = call('check', '--markdown', 'afile/report.md')
    assert out.exit_code == 2 and out.stdout.startswith('PASS') and 'cannot write afile/report.md' in out.stderr


def test_an_old_report_is_not_taken_for_a_new_one(store, folder):
    (folder/'r.json').write_text('{"exit_code": 0}')
    assert call('check', '--run', 'nope', '--json-file', 'r.json').exit_code == 2
    assert not (folder/'r.json').exists()


def test_reports_never_replace_links_and_devices(store, folder):
    (folder/'real.md').write_text('')
    (folder/'link.md').symlink_to('real.md')
    assert call('check', '--markdown', 'link.md', '--junit', os.devnull).exit_code == 0
    assert (folder/'link.md').is_symlink() and 'passed' in (folder/'real.md').read_text() and not os.path.isfile(os.devnull)


@pytest.mark.parametrize('code', [0, 1, 3])
def test_measured_code_does_not_decide_the_exit_code(folder, code):
    (folder/'leaves.py').write_text(f'import sys\ndef work(): sys.exit({code})\n')
    (folder/'leaves_early.py').write_text(f'import sys\nsys.exit({code})\n')
    for module in ('leaves', 'leaves_early'):
        sys.modules.pop(module, None)
        out = call('profile', '--module', module, '--function', 'work', '--data', 'd')
        assert out.exit_code == 2 and 'SystemExit' in out.stderr and not (folder/'d').exists()


def test_what_measured_code_prints_stays_out_of_the_answer(folder):
    (folder/'talks.py').write_text('def work(): print("hello")\n')
    out = call('profile', '--module', 'talks', '--function', 'work', '--iterations', '2', '--json')
    assert json.loads(out.stdout)['points'][0]['name'] == 'work' and 'hello' in out.stderr


def test_usage_errors_are_json_too(folder):
    for args in (('check', '--json', '--threshold', '5%'), ('ingest', '--json'), ('trend', '--nonsense', '--json')):
        out = call(*args)
        assert out.exit_code == 2 and json.loads(out.stdout)['exit_code'] == 2


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8'])
def test_any_terminal_can_show_the_verdict(store, encoding):
    store.save(make_run('a2', 2, throughput=18000))
    out = subprocess.run([sys.executable, '-m', 'calibrax', 'check'], capture_output=True, env={**os.environ, 'PYTHONIOENCODING': encoding})
    assert out.returncode == 1 and b'throughput: 20158.00' in out.stdout and b'Traceback' not in out.stderr


def test_compare_ends_as_check_does(store):
    store.save(make_run('a2', 2, defs={**DEFS, 'latency_p50': MetricDef(name='latency_p50', unit='s', direction='lower')}))
    store.save(make_run('a3', 3, name='other'))
    assert [call('compare', 'a1', id).exit_code for id in ('a1', 'a2', 'a3')] == [0, 2, 2]


def test_json_errors_are_json(folder):
    out = call('check', '--json')
    assert out.exit_code == 2
    assert json.loads(out.stdout)['exit_code'] == 2 and out.stderr.startswith('Error: ')


# --- the other commands ---

def test_the_whole_path(folder):
    for i, value in enumerate((20158, 20100, 18000)):
        (folder/'results.json').write_text(make_run(f'a{i}', i, throughput=value).to_json())
        assert call('ingest', '--data', 'd', '--input', 'results.json').stdout == f'Ingested run a{i} (1 points)\n'
    assert call('baseline', '--data', 'd', '--run', 'a0').stdout == 'Baseline set to run a0\n'
    assert call('check', '--data', 'd').exit_code == 1
    assert call('compare', 'a0', 'a1', '--data', 'd').exit_code == 0
    assert call('accept', '--data', 'd', '--reason', 'meant').exit_code == 0
    assert call('check', '--data', 'd').exit_code == 0
    assert [c.reason for c in Store('d').baseline_history()][-1] == 'meant'
    trend = call('trend', '--data', 'd', '--metric', 'throughput', '--point', 'CV-1/small', '--framework', 'Datarax', '--n-runs', '2')
    assert trend.exit_code == 0 and '20100.00' in trend.stdout and '18000.00' in trend.stdout and '20158.00' not in trend.stdout
    assert '18000.00' in call('summary', '--data', 'd').stdout
    listed = json.loads(call('runs', '--data', 'd', '--json').stdout)
    assert [r['id'] for r in listed] == ['a2', 'a1', 'a0']
    assert call('prune', '--data', 'd', '--keep', '1').exit_code == 0
    assert call('fsck', '--data', 'd').exit_code == 0


def test_the_config_of_the_documents_is_read(store, folder):
    (folder/'benchmark-data/config.json').write_text(json.dumps({'wandb_project': 'datarax-benchmarks', 'metric_defs': {
        'throughput': {'unit': 'elem/s', 'direction': 'higher', 'group': 'Throughput', 'priority': 'primary'}}}))
    assert call('summary').exit_code == 0 and call('check').exit_code == 0


def test_init_asks(folder, monkeypatch):
    monkeypatch.setattr('click.testing._NamedTextIOWrapper.isatty', lambda self: True, raising=False)
    out = call('init', input='lat:ms:lower\n\nmy-project\n\n')
    assert out.exit_code == 0, out.output
    assert json.loads((folder/'benchmark-data/config.json').read_text())['wandb_project'] == 'my-project'


def test_help_has_an_example():
    for name, command in main.commands.items():
        out = call(name, '--help')
        assert out.exit_code == 0 and 'Example:' in out.output and f'calibrax {name}' in out.output


def test_version_and_module():
    out = subprocess.run([sys.executable, '-m', 'calibrax', '--version'], capture_output=True, text=True, check=True)
    import calibrax
    assert out.stdout.strip() == f'calibrax, version {calibrax.__version__}'


# --- bad input: a line, a hint, the right code, nothing lost ---

BAD = {
    'ingest of a missing file': ('ingest', '--input', 'none.json'),
    'ingest of a folder': ('ingest', '--input', '.'),
    'ingest of a damaged file': ('ingest', '--input', 'cut.json'),
    'ingest of another format': ('ingest', '--input', 'list.json'),
    'ingest without keys': ('ingest', '--input', 'id.json'),
    'ingest of a wrong type': ('ingest', '--input', 'type.json'),
    'ingest of a hostile id': ('ingest', '--input', 'evil.json'),
    'unknown run': ('summary', '--run', 'zzz'),
    'unknown run in check': ('check', '--run', 'zzz'),
    'unknown baseline': ('check', '--baseline', 'zzz'),
    'unknown metric': ('trend', '--metric', 'zzz', '--point', 'CV-1/small'),
    'unknown point': ('trend', '--metric', 'throughput', '--point', 'zzz'),
    'unknown tag': ('trend', '--metric', 'throughput', '--point', 'CV-1/small', '--framework', 'zzz'),
    'bad tag': ('trend', '--metric', 'throughput', '--point', 'CV-1/small', '--tag', 'framework'),
    'negative threshold': ('check', '--threshold', '-1'),
    'NaN threshold': ('check', '--threshold', 'nan'),
    'empty store': ('check', '--data', 'nowhere'),
    'empty store, summary': ('summary', '--data', 'nowhere'),
    'empty store, trend': ('trend', '--data', 'nowhere', '--metric', 'm', '--point', 'p'),
    'empty data': ('check', '--data', ''),
    'nothing to look at': ('fsck', '--data', 'nowhere'),
    'no store to list': ('baseline', '--list', '--data', 'nowhere'),
    'store is a file': ('check', '--data', 'cut.json'),
    'iterations 0': ('profile', '--module', 'bm', '--function', 'fine', '--iterations', '0'),
    'negative warm-up': ('profile', '--module', 'bm', '--function', 'fine', '--warmup', '-1'),
    'no such module': ('profile', '--module', 'nothing_like_it', '--function', 'f'),
    'no such function': ('profile', '--module', 'bm', '--function', 'fin'),
    'not callable': ('profile', '--module', 'bm', '--function', 'NUMBER'),
    'needs arguments': ('profile', '--module', 'bm', '--function', 'needs'),
    'raises': ('profile', '--module', 'bm', '--function', 'raises'),
    'import fails': ('profile', '--module', 'broken_module', '--function', 'f'),
    'syntax error': ('profile', '--module', 'syntax_module', '--function', 'f'),
    'empty reason': ('accept', '--reason', ' '),
    'bad metric': ('init', '--metric', 'lat'),
    'bad direction': ('init', '--metric', 'lat:ms:up'),
    'nothing to annotate': ('annotate', 'a1'),
    'bad baseline name': ('baseline', '--name', '..'),
    'unknown metric in history': ('history', '--metric', 'zzz'),
    'history of nothing': ('check', '--history', '-5'),
    'empty target': ('check', '--target', '', '--repo', 'project'),
    'unknown target': ('check', '--target', 'zzz', '--repo', 'project'),
    'no repository': ('check', '--target', 'main'),
    'target and baseline': ('check', '--target', 'main', '--baseline', 'nightly', '--repo', 'project'),
    'nothing to run': ('noise', '--runs', '3'),
    'empty command': ('noise', '--run', '  '),
    'module without function': ('noise', '--module', 'bm'),
    'two runs': ('noise', '--run', 'true', '--runs', '2'),
    'no time': ('noise', '--run', 'true', '--timeout', '0'),
    'unknown commit': ('compare-commits', 'zzz', 'main', '--run', 'true', '--repo', 'project'),
    'no round': ('compare-commits', 'main~1', 'main', '--run', 'true', '--repo', 'project', '--rounds', '0'),
    'no run written': ('compare-commits', 'main~1', 'main', '--run', 'true', '--repo', 'project'),
    'unknown good end': ('bisect', '--good', 'zzz', '--bad', 'main', '--run', 'true', '--repo', 'project'),
    'ends the wrong way round': ('bisect', '--good', 'main', '--bad', 'main~1', '--run', 'true', '--repo', 'project'),
    'ends that are one commit': ('bisect', '--good', 'main', '--bad', 'main', '--run', 'true', '--repo', 'project'),
    'bisect by no threshold': ('bisect', '--good', 'main~1', '--bad', 'main', '--run', 'true', '--repo', 'project', '--threshold', '-1'),
}


def project(path, values=('10', '10')):
    "A repository whose commits hold these values"
    from calibrax.ci.ancestry import _git
    _git('.', 'init', '-q', '-b', 'main', path)
    _git(path, 'fast-import', '--quiet', stdin=''.join(
        f'commit refs/heads/main\ncommitter A <a@example.org> {1_700_000_000 + i} +0000\ndata 1\n{i}\nM 644 inline value\ndata {len(v)}\n{v}\n' for i, v in enumerate(values)))
    _git(path, 'reset', '-q', '--hard')
    return path


@pytest.fixture
def bad_files(folder):
    (folder/'cut.json').write_text('{"id": "x", "points": [')
    (folder/'list.json').write_text('[]')
    (folder/'id.json').write_text('{"id": "x"}')
    good = make_run('b1').to_dict()
    (folder/'evil.json').write_text(json.dumps({**good, 'id': '../../evil'}))
    good['points'][0]['metrics']['throughput']['value'] = 'fast'
    (folder/'type.json').write_text(json.dumps(good))
    (folder/'bm.py').write_text('NUMBER = 3\ndef fine(): return 1\ndef needs(x): return x\ndef raises(): raise ValueError("no such file: data.bin")\n')
    (folder/'broken_module.py').write_text('import a_module_that_is_not_there\n')
    (folder/'syntax_module.py').write_text('def f(:\n')
    project(folder/'project')


@pytest.mark.parametrize('args', BAD.values(), ids=BAD)
def test_bad_input(store, bad_files, folder, args):
    before = tree(folder/'benchmark-data')
    out = call(*args)
    assert out.exit_code == 2, out.output
    assert out.stdout == ''
    message, hint = out.stderr.strip().split('\n')
    assert message.startswith('Error: ') and hint.startswith('Hint: ')
    assert 'Traceback' not in out.stderr
    assert tree(folder/'benchmark-data') == before
    assert not (folder/'nowhere').exists(), 'reading made a store'


def test_the_place_of_a_fault_is_named(store, bad_files):
    out = call('ingest', '--input', 'type.json')
    assert 'type.json' in out.stderr and "points[0].metrics.throughput.value: expected a number, found 'fast'" in out.stderr
    assert 'no such file: data.bin' in call('profile', '--module', 'bm', '--function', 'raises').stderr


def test_usage_errors_are_two(folder):
    assert call('check', '--nonsense').exit_code == 2
    assert call('trend').exit_code == 2
    assert call('nonsense').exit_code == 2


def test_a_damaged_baseline_is_not_taken_for_none(store, folder):
    (folder/'benchmark-data/baselines/main.json').write_text('{"id": "a1"')
    out = call('check')
    assert out.exit_code == 2 and 'main.json' in out.stderr


def test_a_damaged_file_elsewhere_is_a_warning(store, folder):
    store.save(make_run('a2', 2))
    (folder/'benchmark-data/runs/20260101T000000.000000Z_a0.json').write_text('{')
    out = call('trend', '--metric', 'throughput', '--point', 'CV-1/small')
    assert out.exit_code == 0 and '20260101T000000.000000Z_a0.json' in out.stderr
    assert call('fsck').exit_code == 2


def test_a_full_disk_leaves_the_store_as_it_was(store, folder, monkeypatch):
    import errno
    (folder/'results.json').write_text(make_run('b1', 5).to_json())
    before = tree(folder/'benchmark-data')
    def full(*args): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, 'fsync', full)
    for args in (('ingest', '--input', 'results.json'), ('baseline',), ('annotate', 'a1', '--note', 'x')):
        out = call(*args)
        assert out.exit_code == 2 and 'no space left' in out.stderr.lower() and out.stderr.count('\n') == 2, out.output
    assert tree(folder/'benchmark-data') == before


# --- profile ---

def profile(folder, body, *args):
    (folder/'bench.py').write_text(f'import time\ndef work():\n    {body}\n')
    sys.modules.pop('bench', None)
    return call('profile', '--module', 'bench', '--function', 'work', '--iterations', '5', '--data', 'd', *args)


def test_a_profiled_run_can_fail_a_check(folder):
    assert profile(folder, 'time.sleep(0.001)', '--tag', 'device=cpu').exit_code == 0
    assert call('baseline', '--data', 'd').exit_code == 0
    assert profile(folder, 'time.sleep(0.05)  # slower', '--tag', 'device=cpu').exit_code == 0
    out = call('check', '--data', 'd', '--threshold', '0.5')
    assert out.exit_code == 1 and 'latency_p50' in out.stdout
    run = Store('d').latest()
    assert run.points[0].tags['device'] == 'cpu' and run.environment['python'] and run.metric_defs['latency_p50'].direction == 'lower'
    assert len(run.points[0].metrics['latency_p50'].samples) == 5


JAX_BODY = 'import jax.numpy as jnp; return jnp.ones((32, 32)) @ jnp.ones((32, 32))'

def test_a_profile_of_everything_is_saved_with_its_reasons(folder):
    out = profile(folder, JAX_BODY, '--flops', '--memory', '--energy')
    assert out.exit_code == 0, out.output
    for says in ('operations', '65.54 kFLOP', 'device memory', 'process memory', '– no gpu: '): assert says in out.stdout
    run = Store('d').latest()
    assert run.points[0].metrics['total_flops'].value == 2*32**3 and run.metric_defs['device_memory'].unit == 'MiB'
    assert run.metadata['unavailable']['gpu']


def test_a_profile_with_a_roofline(folder, monkeypatch):
    from calibrax.profiling import HardwareSpec
    monkeypatch.setattr('calibrax.profiling.roofline.resolve_hardware_spec', lambda **kwargs: HardwareSpec(name='chip', peak_flops=1e12, memory_bandwidth=1e11))
    out = profile(folder, JAX_BODY, '--roofline')
    assert out.exit_code == 0 and 'limited by' in out.stdout and 'roofline_efficiency' in Store('d').latest().points[0].metrics


def test_no_gpu_is_an_error_where_one_was_asked_for(folder, monkeypatch):
    monkeypatch.setattr('calibrax.profiling.gpu.detect_gpus', lambda: [])
    out = profile(folder, 'pass', '--gpu')
    assert out.exit_code == 2 and 'no GPU can be read' in out.stderr and 'hint' in out.stderr.lower() and not (folder/'d').exists()


def test_profile_gpu_without_pynvml(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pynvml', None)
    (folder/'bench.py').write_text('def work(): pass\n')
    out = call('profile-gpu', '--module', 'bench', '--function', 'work')
    assert out.exit_code == 2 and 'pynvml' in out.stderr and 'Traceback' not in out.output
    assert call('profile-gpu', '--help').exit_code == 0


def test_fresh_processes_measure_time_alone(folder):
    out = profile(folder, 'pass', '--flops', '--processes', '2')
    assert out.exit_code == 2 and '--processes' in out.stderr


def test_an_interrupted_profile_is_130_and_saves_nothing(folder):
    (folder/'bench.py').write_text('import time\ndef work():\n    print("started", flush=True)\n    time.sleep(30)\n')
    child = subprocess.Popen([sys.executable, '-m', 'calibrax', 'profile', '--module', 'bench', '--function', 'work', '--data', 'd'],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while 'started' not in child.stdout.readline(): assert child.poll() is None
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 130 and 'Traceback' not in out, out
    assert not (folder/'d').exists()


# --- versions: what is measured, and what the exit code says ---

WRITES = ('import json, os, random; v = float(open("value").read()); json.dump({"id": "r", "timestamp": "2026-03-01T12:00:00Z", "metric_defs": DEFS, '
          '"points": [{"name": "p", "scenario": "s", "metrics": {"latency": {"value": v}}}]}, open(os.environ["CALIBRAX_RUN_FILE"], "w"))')

def writes(folder, text=WRITES, defs='{"latency": {"unit": "ms", "direction": "lower"}}'):
    (folder/'bench.py').write_text(text.replace('DEFS', defs))
    return f'{sys.executable} {folder/"bench.py"}'


@pytest.mark.parametrize('a, b, code, strict', [('main~3', 'main~2', 0, 0), ('main~2', 'main~1', 1, 1), ('main~1', 'main', 0, 0)], ids=['same', 'worse', 'better'])
def test_compare_commits_ends_with(folder, a, b, code, strict):
    repo = project(folder/'project', ['10', '10', '12', '9'])
    for options, expected in (([], code), (['--strict'], strict)):
        out = call('compare-commits', a, b, '--rounds', '5', '--repo', repo, '--run', writes(folder), *options)
        assert out.exit_code == expected, out.output


def test_compare_commits_in_doubt(folder):
    "Two rounds of a noisy benchmark say nothing: a pass with warnings, or 3 under --strict"
    repo = project(folder/'project')
    noisy = writes(folder, WRITES.replace('read());', f'read())*(1 + os.path.getsize({str(folder/"n")!r}) % 7); open({str(folder/"n")!r}, "a").write("x");'))
    (folder/'n').write_text('')
    for options, expected in (([], 0), (['--strict'], 3)):
        out = call('compare-commits', 'main~1', 'main', '--rounds', '2', '--repo', repo, '--run', noisy, *options)
        assert out.exit_code == expected and 'inconclusive' in out.output and '2 rounds show large changes only' in out.output, out.output


@pytest.mark.parametrize('command', [('compare-commits', 'main~2', 'main', '--rounds', '3'), ('bisect', '--good', 'main~2', '--bad', 'main'), ('noise', '--runs', '3')], ids=lambda c: c[0])
def test_the_store_defines_what_the_runs_do_not(folder, monkeypatch, command):
    "The definitions of `calibrax init` hold for what is measured here too"
    repo = project(folder/'project', ['10', '10', '12'])
    monkeypatch.chdir(repo)
    plain = writes(folder, defs='{}')
    before = call(*command, '--run', plain)
    assert before.exit_code == (0 if command[0] == 'noise' else 2) and not (repo/'benchmark-data').exists()
    assert call('init', '--metric', 'latency:ms:lower').exit_code == 0
    out = call(*command, '--run', plain)
    assert out.exit_code == {'compare-commits': 1, 'bisect': 0, 'noise': 0}[command[0]] and 'latency ↓' in out.output + 'latency ↓'*(command[0] == 'bisect'), out.output


def test_hints_are_those_of_the_command_line(folder):
    repo = project(folder/'project')
    assert '--run "python bench.py"' in call('noise').stderr
    assert '--timeout' in call('noise', '--run', 'sleep 5', '--timeout', '0.1').stderr
    out = call('bisect', '--good', 'main~1', '--bad', 'main', '--metric', 'speed', '--repo', repo, '--run', writes(folder))
    assert out.exit_code == 2 and 'there is p latency' in out.stderr
    assert 'fetch-depth: 0' in call('compare-commits', 'main~9', '--repo', repo, '--run', 'true').stderr


def test_check_by_a_branch_of_a_repository_elsewhere(folder):
    from calibrax.ci.ancestry import _commits
    repo = project(folder/'project', ['10', '10', '12'])
    at = _commits(repo, 'main~2', 'main~1', 'main')
    store = Store('benchmark-data')
    for day, (name, latency) in enumerate((('main~2', 12.0), ('main', 15.0))): store.save(make_run(f'r{day}', day, latency=latency, commit=at[name]))
    out = call('check', '--target', 'main', '--repo', repo)
    assert out.exit_code == 1 and f'run r0 of commit {at["main~2"][:8]}, 2 commits before {at["main"][:8]}\n' in out.output, out.output
