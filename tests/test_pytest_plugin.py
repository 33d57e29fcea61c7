"""The pytest plugin, in sessions of its own: what it measures and saves, what it says, how a session ends, and whom it leaves alone."""
import os, re, subprocess, sys, time
from importlib import metadata, util
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from calibrax.core import Metric, MetricDef, Point, Run
from calibrax.pytest_plugin import Bench, _aligned, _cut, _Protocol, _tag, _width
from calibrax.storage import Store

pytest_plugins = ['pytester']

ENTRY_POINT = any((e.group, e.name) == ('pytest11', 'calibrax') for d in metadata.distributions() for e in d.entry_points)     # as it is wherever calibrax is installed
PLUGIN = [] if ENTRY_POINT else ['-p', 'calibrax.pytest_plugin']
QUICK = ['--calibrax-min-time=0.002', '--calibrax-rounds=6', '--calibrax-warmup=1']
HERE = Path(__file__).parents[1]

def needs(module): return pytest.mark.skipif(util.find_spec(module) is None, reason=f'{module} is not installed')


@pytest.fixture(scope='module')
def bytecode(tmp_path_factory): return tmp_path_factory.mktemp('bytecode')

@pytest.fixture(autouse=True)
def own_variables(monkeypatch, bytecode):
    "Those of the caller are not ours; bytecode is kept, as it is for users, but not beside the sources"
    monkeypatch.setenv('PYTHONDONTWRITEBYTECODE', '')
    monkeypatch.setenv('PYTHONPYCACHEPREFIX', str(bytecode))
    for name in ('CALIBRAX_DATA', 'CALIBRAX_RUN_FILE', 'PYTEST_ADDOPTS', *(n for n in os.environ if n.startswith('PYTEST_XDIST'))): monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('COLUMNS', '110')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(filter(None, [str(HERE), os.environ.get('PYTHONPATH')])))


@pytest.fixture
def session(pytester):
    "Run pytest on a file with this text; in this process unless told otherwise, as where JAX is imported, which does not bear being forgotten"
    class Session:
        path = pytester.path
        def write(self, text, file='test_a.py'):
            place = self.path/file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding='utf-8')
        def __call__(self, *options, text=None, file='test_a.py', apart=False):
            if text is not None: self.write(text, file)
            run = pytester.runpytest_subprocess if apart else pytester.runpytest_inprocess
            out = run(*PLUGIN, '-p', 'no:cacheprovider', '--no-header', *QUICK, *map(str, options))
            out.text = out.stdout.str() + out.stderr.str()
            assert 'INTERNALERROR' not in out.text, out.text
            return out
        def store(self, name='benchmark-data'): return Store(self.path/name)
        def run(self, name='benchmark-data'): return self.store(name).latest()
    return Session()


def value(number, name='loss', direction='lower', test='test_value'):
    "A test that records one number"
    return f"def {test}(bench): bench.record({name!r}, {number!r}, unit='s', direction={direction!r})\n"

def baseline(session, **options):
    "A store with one run of this test, which is the baseline"
    assert session('--calibrax-set-baseline', text=value(10.0), **options).ret == 0


# --- measuring and saving ----------------------------------------------------------------------------------------------

def test_a_timing_is_shown_and_not_saved(session):
    out = session(text='def test_sum(bench): assert bench(sum, [1, 2, 3]) == 6\n')
    assert out.ret == 0
    assert re.search(r'^test_sum +[\d.]+ +[\d.]+ – [\d.]+ +[nµ]s +6 × \d+$', out.text, re.M), out.text
    assert not (session.path/'benchmark-data').exists()


def test_what_is_saved(session):
    out = session('--calibrax-save', text='''
import pytest
@pytest.fixture(params=['cpu', 'gpu'])
def device(request): return request.param

@pytest.mark.bench(tags={'framework': 'flax', 'n': 'as marked'})
class TestModel:
    @pytest.mark.parametrize('fn', [sorted, max])
    @pytest.mark.parametrize('n', [8])
    @pytest.mark.bench(tags={'framework': 'ours'}, scenario='CV-1')
    def test_fn(self, bench, device, fn, n):
        bench(fn, range(n))
        bench.time(max, 3, 4, kwargs={'key': abs}, metric='other')
        bench.record('throughput', samples=[1.0, 2, 3, 4, 5, 6, 7], unit='elem/s', direction='higher', group='Speed')
        bench.record('epochs', 3)

@pytest.mark.bench(name='CV-1/small')
def test_named(bench): bench.record('size', 4, unit='MB', direction='lower', lower=3, upper=5)
''', file='sub/test_a.py')
    assert out.ret == 0, out.text
    run = session.run()
    first = run.points[0]
    assert [(p.name, p.scenario) for p in run.points] == [('TestModel::test_fn', 'CV-1')]*4 + [('CV-1/small', 'sub/test_a.py')]
    assert sorted((p.tags['device'], p.tags['fn']) for p in run.points[:4]) == [('cpu', 'max'), ('cpu', 'sorted'), ('gpu', 'max'), ('gpu', 'sorted')]
    assert first.tags['framework'] == 'ours' and first.tags['n'] == 'as marked'
    assert list(first.metrics) == ['latency_p50', 'other_p50', 'throughput', 'epochs']
    assert first.metrics['throughput'] == Metric(value=4.0, lower=1.0, upper=7.0, samples=range(1, 8))
    assert len(first.metrics['latency_p50'].samples) == 6
    assert run.metric_defs['throughput'] == MetricDef(name='throughput', unit='elem/s', direction='higher', group='Speed')
    assert run.metric_defs['latency_p50'].unit == 'ms' and run.metric_defs['latency_p50'].direction == 'lower'
    assert 'epochs' not in run.metric_defs          # the store's config.json may say what it means
    assert run.environment['cpu'] and run.metadata['source'] == 'pytest'
    assert run.points[4].metrics['size'] == Metric(value=4, lower=3, upper=5)


def test_commit_and_branch(session):
    git = ['git', '-c', 'user.name=a', '-c', 'user.email=a@b', '-C', str(session.path)]
    session.write(value(1.0))
    for command in (['init', '-q', '-b', 'topic'], ['add', '.'], ['commit', '-q', '-m', 'one']): subprocess.run([*git, *command], check=True)
    assert session('--calibrax-save').ret == 0
    run = session.run()
    assert run.commit == subprocess.run([*git, 'rev-parse', 'HEAD'], capture_output=True, text=True).stdout.strip()
    assert run.branch == 'topic' and run.metadata['dirty'] is False


def test_jax_is_waited_for_and_compiling_is_apart(session, monkeypatch):
    monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)      # what comes from there is not compiled
    out = session('--calibrax-save', apart=True, text='''
import jax, jax.numpy as jnp, pytest
@pytest.mark.bench(rounds=7)
def test_jax(bench):
    x = jnp.ones((300, 300))
    y = bench(jax.jit(lambda x, k: jnp.linalg.inv(x @ x.T + k*jnp.eye(300))), x, k=2.0)
    assert y.shape == (300, 300) and bench.timing.compile_sec > 0 and not bench.timing.recompilations
''')
    assert out.ret == 0, out.text
    metrics = session.run().points[0].metrics
    assert list(metrics) == ['latency_p50', 'compile_time'] and len(metrics['latency_p50'].samples) == 7
    assert metrics['latency_p50'].value > 0.3       # ms; dispatch alone takes a hundredth of that
    assert 'compile' in out.text and 'compile_time' not in out.text and session.run().environment['devices']


@given(st.floats(1e-9, 100), st.integers(1, 10_000), st.none() | st.integers(1, 1000), st.floats(0, 10))
def test_the_plan(seconds, loops, rounds, min_time):
    n, each = _Protocol(rounds, min_time).plan(seconds, loops)
    assert n == rounds if rounds else 6 <= n <= 20
    assert each >= loops
    if each > loops: assert n*each*seconds <= min_time*1.001 + 1e-9       # more calls in a sample only to fill the time
    assert rounds or n == 6 or n*seconds <= 5.001


def test_times_are_right():
    bench = Bench('t')
    bench.time(time.sleep, 0.003, rounds=7, min_time=0)
    assert 0.003 <= bench.timing.median_sec < 0.05 and bench.timing.inner_loops == 1
    bench.time(sum, range(50), metric='short', min_time=0.02)
    calls = bench.timing.inner_loops*len(bench.timing.samples_sec)
    assert len(bench.timing.samples_sec) == 20 and 0.001 < calls*bench.timing.median_sec < 0.5
    assert list(bench.point.metrics) == ['latency_p50', 'short_p50']


def test_setup_makes_each_argument():
    made, used = [], []
    def make():
        made.append(object())
        return made[-1]
    bench = Bench('t')
    assert bench.time(lambda a, b: used.append(b) or len(used), 1, setup=make, rounds=8, warmup=2) <= len(made)
    assert made == used and len(used) == 8 + 2


# --- where the store is -------------------------------------------------------------------------------------------------

def test_a_store_elsewhere_and_a_test_that_changes_the_folder(session, tmp_path_factory):
    "pytest-benchmark crashes on a storage outside of the current folder"
    place = tmp_path_factory.mktemp('shared')/'deep'/'bench'
    text = 'import os, tempfile\ndef test_value(bench):\n    bench.record("loss", 1.0)\n    os.chdir(tempfile.gettempdir())\n'
    assert session('--calibrax-data', place, text=text).ret == 0
    os.chdir(session.path)
    assert len(Store(place).list_runs()) == 1
    assert session('--calibrax-data', os.path.relpath(place), text=text).ret == 0
    os.chdir(session.path)
    assert len(Store(place).list_runs()) == 2 and not (session.path/'benchmark-data').exists()


def test_settings_of_the_configuration_file(session, monkeypatch):
    session.write('[pytest]\ncalibrax_data = ../kept\ncalibrax_rounds = 9\n', 'inner/pytest.ini')
    session.write('def test_sum(bench):\n    bench(sum, [1])\n    assert len(bench.timing.samples_sec) == 6\n', 'inner/sub/test_a.py')
    monkeypatch.chdir(session.path/'inner'/'sub')
    assert session().ret == 0       # the command line wins
    assert len(session.store('kept').list_runs()) == 1
    session.write('[pytest]\ncalibrax_threshold = much\n', 'inner/pytest.ini')
    out = session()
    assert out.ret == 4 and "pytest.ini: calibrax_threshold: 'much' is no threshold" in out.text


def test_default_place_and_variable(session, monkeypatch):
    session.write('[pytest]\n', 'pytest.ini')
    session.write(value(1.0), 'sub/test_a.py')
    monkeypatch.chdir(session.path/'sub')
    assert session('--calibrax-save').ret == 0
    assert len(session.store().list_runs()) == 1        # relative to the root of the project, not to the current folder
    monkeypatch.setenv('CALIBRAX_DATA', str(session.path/'named'))
    assert session().ret == 0 and not (session.path/'named').exists()       # it only says where
    assert session('--calibrax-save').ret == 0 and len(session.store('named').list_runs()) == 1


def test_the_run_that_a_command_asks_for(session, monkeypatch):
    "As `calibrax compare-commits --run pytest` does"
    file = session.path/'run.json'
    monkeypatch.setenv('CALIBRAX_RUN_FILE', str(file))
    out = session('--calibrax-check', '--calibrax-data', session.path/'kept', text=value(3.0))
    assert out.ret == 0 and not (session.path/'kept').exists()
    assert Run.from_json(file.read_text()).points[0].metrics['loss'].value == 3.0


def test_a_measured_command(session):
    from calibrax.ci.measuring import Workload
    session.write(value(4.0))
    run = Workload(command=[sys.executable, '-m', 'pytest', '-q', *PLUGIN, 'test_a.py']).measure(session.path)
    assert run.points[0].metrics['loss'].value == 4.0


@pytest.mark.parametrize('place, says', [('file', 'is a file'), ('damaged', 'config.json'), ('', 'it is empty')])
def test_a_store_that_cannot_be_used_is_said_before_the_tests(place, says, session):
    session.write('x', 'file')
    session.write('{', 'damaged/config.json')
    out = session(f'--calibrax-data={place}', text='raise SystemExit("collected")\n')
    assert out.ret == 4 and says in out.text and 'collected' not in out.text, out.text


def test_a_folder_without_permission(session, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda place, mode: Path(place) != session.path/'closed')     # root may write everywhere
    (session.path/'closed').mkdir()
    out = session('--calibrax-data', 'closed/bench', text=value(1.0))
    assert out.ret == 4 and 'cannot be written' in out.text


def test_a_run_that_cannot_be_saved_is_kept(session):
    text = 'from pathlib import Path\ndef test_value(bench):\n    bench.record("loss", 7.0)\n    Path("benchmark-data").write_text("in the way")\n'
    out = session('--calibrax-save', text=text)
    assert out.ret == 4 and 'ERROR: ' in out.text
    kept = re.search(r'kept in (\S+\.json)', out.text)[1]
    assert Run.from_json(Path(kept).read_text()).points[0].metrics['loss'].value == 7.0


# --- faults -------------------------------------------------------------------------------------------------------------

FAULTS = '''
import pytest
def work(x): return deeper(x)
def deeper(x): raise KeyError(x)

def test_raises(bench): bench(work, 'mine')
def test_builtin(bench): bench(int, 'x')
def test_exits(bench): bench(exit, 3)
def test_no_function(bench): bench(42)
def test_value(bench): bench.record('loss', 'low')
def test_unit(bench): bench.record('loss', 1.0, unit='nats')
def test_twice(bench):
    bench.record('loss', 1.0)
    bench.record('loss', 2.0)
def test_rounds(bench): bench.time(sum, [1], rounds=0)
def test_inside(bench): bench(lambda: pytest.fail('given up'))
@pytest.mark.bench(rouns=3)
def test_marker(bench): pass
'''

def test_faults_are_shown_where_they_are(session):
    out = session('--calibrax-save', text=FAULTS)
    assert out.ret == 1
    out.assert_outcomes(failed=9, errors=1)
    for text in ("def deeper(x): raise KeyError(x)", "E   KeyError: 'mine'", "bench(int, 'x')", 'invalid literal for int()', 'SystemExit: 3',
                 'hint: give the function and its arguments: bench(f, x), not bench(f(x))', "bench.record('loss'): Metric: value: expected a number, found 'low'",
                 "a unit ('nats') and no direction", 'loss was measured already in this test', 'rounds is 0', 'Failed: given up',
                 'pytest.mark.bench does not take rouns', 'hint: it takes name=, scenario=, tags='):
        assert text in out.text, text
    for internal in ('timing.py', 'pytest_plugin.py', 'contextlib.py', 'records.py', 'During handling', 'direct cause'): assert internal not in out.text, internal
    assert not (session.path/'benchmark-data'/'runs').exists()


def test_failing_tests_leave_nothing(session):
    out = session('--calibrax-save', text='''
import pytest
@pytest.fixture
def broken():
    yield
    raise OSError('at the end')
def test_good(bench): bench.record('loss', 1.0)
def test_fails(bench):
    bench.record('loss', 1.0)
    assert False
def test_teardown(bench, broken): bench.record('loss', 1.0)
def test_skips(bench):
    bench.record('loss', 1.0)
    pytest.skip('after all')
@pytest.mark.xfail
def test_xfails(bench):
    bench.record('loss', 1.0)
    assert False
@pytest.mark.xfail
def test_xpasses(bench): bench.record('loss', 1.0)
@pytest.mark.xfail(strict=True)
def test_xpasses_strictly(bench): bench.record('loss', 1.0)
''')
    assert out.ret == 1
    assert [p.name for p in session.run().points] == ['test_good', 'test_xpasses']
    assert 'not kept, since the test failed: test_a.py::test_fails, test_a.py::test_teardown, test_a.py::test_xpasses_strictly' in out.text
    assert 'not kept, since the test was skipped: test_a.py::test_skips, test_a.py::test_xfails' in out.text


def test_one_metric_means_one_thing(session):
    two = "def test_b(bench):\n    bench.record('loss', 1, unit='ms', direction='lower')\n    bench.record('size', 1)\n"
    out = session('--calibrax-save', text=value(1.0) + two)
    assert out.ret == 4 and 'test_a.py::test_b: loss ↓ [ms] is loss ↓ [s] in test_a.py::test_value' in out.text
    assert [list(p.metrics) for p in session.run().points] == [['loss'], ['size']]


def test_doubts_are_named(session):
    out = session(apart=True, text='''
import sys, jax
def test_traced(bench):
    sys.settrace(lambda *_: None)
    try: bench(len, 'abc')
    finally: sys.settrace(None)
def test_nothing_to_wait_for(bench): bench(str, 3)
def test_it_is_meant(bench): bench.time(str, 3, sync=lambda result: None)
''')
    assert out.ret == 0
    assert out.text.count('! the call returned no arrays') == 1 and 'test_a.py::test_nothing_to_wait_for\n' in out.text


# --- the check ----------------------------------------------------------------------------------------------------------

SLOWER, GONE = value(12.0), value(10.0, test='test_other')
MATRIX = {      # what happened: (the tests now, options, exit code, exit code under --calibrax-strict, what is said)
    'pass': (value(10.1), [], 0, 0, 'PASS: no regressions'),
    'improvement': (value(5.0), [], 0, 0, '1 improved'),
    'regression': (SLOWER, [], 1, 1, '↑ test_value loss: 10.00 → 12.00 (+20.0%)'),
    'regression within the threshold': (SLOWER, ['--calibrax-check=0.3'], 0, 0, 'threshold 30%'),
    'threshold of zero': (value(10.1), ['--calibrax-check', '0'], 1, 1, '+1.0%'),
    'NaN': (value(10.0).replace('10.0', 'float("nan")'), [], 1, 1, 'NaN'),
    'a test fails': (value(10.0) + 'def test_no(): assert 0\n', [], 1, 1, 'PASS: no regressions'),
    'a test fails, and a regression': (SLOWER + 'def test_no(): assert 0\n', [], 1, 1, 'FAIL: 1 regression(s)'),
    'a test fails, and nothing is measured': ('def test_no(): assert 0\n', [], 1, 1, 'nothing was measured'),
    'nothing is measured': ('def test_yes(): pass\n', [], 4, 4, 'nothing was measured'),
    'nothing in common': (GONE, [], 4, 4, 'no metric in common'),
    'unit changed': (value(10.0).replace("'s'", "'ms'"), [], 4, 4, 'NOT COMPARABLE'),
    'no baseline of that name': (value(10.0), ['--calibrax-baseline=other'], 4, 4, 'No baseline'),
    'all is skipped': ('import pytest\n@pytest.mark.skip\n' + value(10.0), [], 4, 4, 'nothing was measured'),
    'no tests': ('', [], 5, 5, ''),
    'interrupted': (value(10.0) + 'def test_no(): raise KeyboardInterrupt\n', [], 2, 2, 'nothing was saved'),
    'wrong policy': (value(10.0), ['--calibrax-policy=paired'], 4, 4, 'choose from threshold, samples'),
    'wrong threshold': (value(10.0), ['--calibrax-check=-1'], 4, 4, 'is no threshold'),
    'a file for a threshold': (value(10.0), ['--calibrax-check', 'test_a.py'], 4, 4, 'write --calibrax-check=0.05, or put it after the files'),
    'wrong environment': (value(10.0), ['--other-machine'], 0, 1, 'warning: '),
}

@pytest.fixture(scope='module')
def checked_store(tmp_path_factory):
    "A store whose baseline is a run of the test, on this machine or on another one"
    place = tmp_path_factory.mktemp('stores')
    from calibrax.core.environment import capture_environment
    machine = dict(capture_environment(devices='jax' in sys.modules))
    for name, environment in (('same', machine), ('other', {**machine, 'cpu': 'another'})):
        run = Run(points=[Point(name='test_value', scenario='test_a.py', metrics={'loss': Metric(value=10.0)})], environment=environment,
                  metric_defs={'loss': MetricDef(name='loss', unit='s', direction='lower')})
        Store(place/name).save(run)
        Store(place/name).set_baseline(run.id)
    return place


@pytest.mark.parametrize('strict', [False, True], ids=['', 'strict'])
@pytest.mark.parametrize('case', MATRIX, ids=lambda case: case.replace(' ', '_'))
def test_exit_code(case, strict, session, checked_store):
    import shutil
    text, options, code, strict_code, says = MATRIX[case]
    shutil.copytree(checked_store/('other' if '--other-machine' in options else 'same'), session.path/'benchmark-data')
    options = [o for o in options if o != '--other-machine']
    out = session(*([] if any('-check' in o for o in options) else ['--calibrax-check']), *options, *(['--calibrax-strict'] if strict else []), text=text,
                  apart=case == 'interrupted')
    assert out.ret == (strict_code if strict else code), out.text
    assert says in out.text, out.text


def test_what_is_gone(session):
    assert session('--calibrax-set-baseline', text=value(10.0) + GONE).ret == 0
    out = session('--calibrax-check', '-k', 'test_value')
    assert out.ret == 1 and 'MISSING test_other loss' in out.text and 'hint: a session that runs only some of the tests needs --calibrax-allow-missing' in out.text
    out = session('--calibrax-check', '-k', 'test_value', '--calibrax-allow-missing')
    assert out.ret == 0 and '(allowed)' in out.text


def test_the_first_run(session):
    out = session('--calibrax-check', text=value(10.0))
    assert out.ret == 4 and 'No baseline set' in out.text
    assert '`calibrax baseline --data benchmark-data --run latest`' in out.text and '--calibrax-first-run accept' in out.text
    assert len(session.store().list_runs()) == 1        # saved all the same: it can be made the baseline
    out = session('--calibrax-check', '--calibrax-first-run=accept', text=value(10.0) + 'def test_no(): assert 0\n')
    assert out.ret == 1 and session.store().get_baseline() is None      # not a run in which something failed
    out = session('--calibrax-check', '--calibrax-first-run=accept', '--calibrax-baseline=nightly', text=value(10.0))
    assert out.ret == 0 and session.store().get_baseline('nightly').points
    assert session('--calibrax-check', '--calibrax-first-run=accept', '--calibrax-baseline=nightly', text=SLOWER).ret == 1


def test_setting_the_baseline(session):
    baseline(session)
    first = session.store().get_baseline().id
    out = session('--calibrax-set-baseline', text=value(20.0) + 'def test_no(): assert 0\n')
    assert out.ret == 1 and "the baseline 'main' stays as it is" in out.text and session.store().get_baseline().id == first
    assert session('--calibrax-set-baseline', '--calibrax-check', text=value(20.0)).ret == 1 and session.store().get_baseline().id == first
    assert session('--calibrax-set-baseline', '--calibrax-check', text=value(10.2)).ret == 0 and session.store().get_baseline().id != first


def test_changes_are_shown_without_a_check(session):
    baseline(session)
    out = session(text=value(15.0) + "def test_more(bench): bench.record('size', 1)\n")
    assert out.ret == 0 and len(session.store().list_runs()) == 1
    assert re.search(r'^test_value loss ↓ +15\.00 +s +\+50\.0%$', out.text, re.M) and re.search(r'^test_more size +1\.00 +new$', out.text, re.M), out.text


def test_a_damaged_store_that_nobody_asked_for(session):
    baseline(session)
    (session.path/'benchmark-data'/'baselines'/'main.json').write_text('{')
    out = session()
    assert out.ret == 0 and '! no changes are shown: ' in out.text and 'main.json' in out.text
    assert session('--calibrax-check').ret == 4


def test_a_slower_function_fails_the_session(session):
    slow = 'import time\ndef test_step(bench): bench(time.sleep, {})\n'
    assert session('--calibrax-set-baseline', text=slow.format(0.005)).ret == 0
    assert session('--calibrax-check=1.0', text=slow.format(0.005)).ret == 0
    out = session('--calibrax-check=1.0', text=slow.format(0.02))
    assert out.ret == 1 and 'FAIL: 1 regression(s) detected' in out.text and '↑ test_step latency_p50' in out.text


def test_policy_and_target(session):
    sampled = "def test_value(bench): bench.record('loss', samples={}, unit='s', direction='lower')\n"
    near, far = [10.0, 10.2, 9.9, 10.1, 9.8, 10.3, 10.0, 10.1], [10.6, 10.9, 10.4, 10.8, 10.5, 10.7, 10.9, 10.6]
    assert session('--calibrax-set-baseline', text=sampled.format(near)).ret == 0
    assert session('--calibrax-check', '--calibrax-policy=samples', text=sampled.format(near)).ret == 0
    out = session('--calibrax-check=0.02', '--calibrax-policy=samples', text=sampled.format([s + 1 for s in far]))
    assert out.ret == 1 and '16.2% worse than 1 earlier run' in out.text
    out = session('--calibrax-check', '--calibrax-target=main')     # there is no repository
    assert out.ret == 4 and 'ERROR' in out.text


# --- what is said -------------------------------------------------------------------------------------------------------

def test_quiet_and_verbose(session):
    baseline(session)
    usual, quiet, silent, verbose = (session('--calibrax-check', *options, text=value(10.0)).text for options in ([], ['-q'], ['-qq'], ['-v']))
    assert 'test_value loss' in usual and 'PASS' in usual and 'saved run' in usual
    assert 'test_value loss' not in quiet and 'PASS' in quiet
    assert 'PASS' not in silent and 'benchmarks' not in silent
    assert '= test_value loss: 10.00 → 10.00 (+0.0%) unchanged' in verbose
    assert 'calibrax' not in session('-q', text='def test_sum(bench): bench(sum, [1])\n').text.replace('calibrax.pytest_plugin', '')
    silent = session('--calibrax-check', '-qq', text=SLOWER)
    assert silent.ret == 1 and 'FAIL: 1 regression' in silent.text


def test_wide_and_long_names(session, monkeypatch):
    monkeypatch.setenv('COLUMNS', '70')
    out = session(text='''
import pytest
@pytest.mark.parametrize('名前', ['長いパラメータの値', 'x\\x1b[31m'])
def test_a_name_that_is_really_rather_long(bench, 名前): bench.record('loss', 1.5, unit='s', direction='lower')
''')
    rows = [l for l in out.text.splitlines() if l.startswith('test_a_')]
    assert out.ret == 0 and len(rows) == 2 and {_width(r) for r in rows} <= set(range(20, 71)) and '\x1b[31m' not in out.text.replace('\\x1b', '')
    assert len({_width(r[:r.index('1.50')]) for r in rows}) == 1


@given(st.lists(st.tuples(st.text(max_size=60).filter(str.isprintable), *[st.sampled_from(['', '1.00', '大'])]*6), min_size=1), st.integers(30, 120))
def test_columns_stand_below_each_other(rows, widest):
    lines = _aligned(rows, widest)
    assert len(lines) == len(rows) + 2 and all(_width(l) <= _width(lines[1]) for l in lines)


@given(st.text(), st.integers(3, 40))
def test_a_cut_text_fits(text, width): assert _width(_cut(text, width)) <= width and (_width(text) > width or _cut(text, width) == text)


def test_several_files_are_told_apart(session):
    session.write(value(1.0), 'test_b.py')
    out = session(text=value(2.0))
    assert out.text.index('\ntest_a.py\ntest_value') < out.text.index('\ntest_b.py\ntest_value')


def test_tags_of_objects():
    import enum
    import numpy as np
    class Color(enum.Enum): RED = 1
    assert [_tag(v, 'id', alone=False) for v in (3, 0.5, 'a', None, True, np.int64(4), np.float32(0.5), Path('a/b'), sorted, dict, Color.RED, np.dtype('float32'), object(), lambda: 0)] == \
        ['3', '0.5', 'a', 'None', 'True', '4', '0.5', 'a/b', 'sorted', 'dict', 'RED', 'float32', 'id', 'id']
    assert _tag(object(), 'small', alone=True) == 'small'


# --- choosing -----------------------------------------------------------------------------------------------------------

BOTH = value(1.0) + 'def test_plain(): pass\ndef helper(): pass\n'

def test_choosing(session):
    session('--calibrax-only', text=BOTH).assert_outcomes(passed=1, deselected=1)
    out = session('--calibrax-skip', '--calibrax-check')
    out.assert_outcomes(passed=1, deselected=1)
    assert out.ret == 0 and not (session.path/'benchmark-data').exists()
    assert session('--calibrax-skip', '--calibrax-only').ret == 4


def test_switched_off(session):
    text = '''
calls = []
def test_calls(bench):
    assert bench(lambda x: calls.append(x) or x, 3) == 3 and bench.time(lambda a, b: b, 1, setup=lambda: 2) == 2
    bench.record('loss', 1.0)
    assert calls == [3] and bench.timing is None
def test_raises(bench): bench(int, 'x')
'''
    out = session('--calibrax-disable', '--calibrax-check', text=text)
    out.assert_outcomes(passed=1, failed=1)
    assert 'benchmarks' not in out.text and not (session.path/'benchmark-data').exists() and 'pytest_plugin.py' not in out.text


@pytest.mark.parametrize('options, says', [(['--collect-only', '--calibrax-check'], 'test_value'), (['--help'], '--calibrax-check'), (['--markers'], '@pytest.mark.bench('),
                                           (['--fixtures', '--calibrax-check'], 'Time a function, or record any number'), (['--setup-plan', '--calibrax-check'], 'bench'),
                                           (['--strict-markers', '--strict-config'], '')], ids=lambda o: str(o[0]) if isinstance(o, list) else '')
def test_sessions_that_run_nothing(options, says, session):
    out = session(*options, text='import pytest\n@pytest.mark.bench(tags={})\n' + value(1.0))
    assert out.ret == 0 and says in out.text and not (session.path/'benchmark-data').exists()


# --- beside others ------------------------------------------------------------------------------------------------------

def test_costs_nothing_where_it_is_not_used(session):
    "Neither at import, nor in a session without such tests"
    code = 'import sys, pytest; before = set(sys.modules); import calibrax.pytest_plugin; print(*(set(sys.modules) - before))'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split()
    assert set(out) <= {'calibrax', 'calibrax.core', 'calibrax.core.lazy', 'calibrax.pytest_plugin', *(m for m in out if m.startswith('__editable__'))}
    out = session('-s', apart=True, text='''
import sys
def test_plain(request):
    assert not request.config.pluginmanager.has_plugin('calibrax-session')
    print('loaded', [m for m in sys.modules if m.startswith('calibrax.') or m in ('jax', 'numpy', 'msgspec', 'fastcore')])
''')
    assert re.search(r"loaded \['calibrax.core(.lazy)?', 'calibrax.core(.lazy)?', 'calibrax.pytest_plugin'\]", out.text), out.text


def test_import_is_quick():
    "The bar is 15 ms with bytecode on the disk; seconds of the processor, the least of several"
    code = 'import pytest, time; start = time.process_time(); import calibrax.pytest_plugin; print(time.process_time() - start)'
    took = min(float(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout) for _ in range(5))
    assert took < 0.015, f'{took*1e3:.1f} ms'


XDIST = '''
import os, pytest
@pytest.mark.parametrize('n', [pytest.param(n, marks=pytest.mark.xdist_group(f'g{n % 2}')) for n in range(6)])
def test_n(bench, n):
    bench(sum, range(n))
    bench.record('n', n, unit='', direction='info')
    bench.record('process', os.getpid())
'''

@needs('xdist')
def test_beside_xdist(session):
    out = session('-n2', '--dist=loadgroup', '--calibrax-save', text=XDIST, apart=True)
    assert out.ret == 0, out.text
    [run] = session.store().list_runs()
    assert [p.tags['n'] for p in run.points] == list('012345') and [p.metrics['n'].value for p in run.points] == list(range(6))
    assert len({p.metrics['process'].value for p in run.points}) == 2 and run.metadata['workers'] == 2 and run.environment['cpu']
    assert '2 processes measured at the same time' in out.text and out.text.count('test_n [n=3]') == 3


@needs('xdist')
def test_a_worker_that_dies_takes_only_its_own_test_along(session):
    out = session('-n2', '--calibrax-check', '--calibrax-first-run=accept', apart=True, text=XDIST + 'def test_dies(bench): os._exit(3)\n')
    assert out.ret == 1 and len(session.run().points) == 6 and session.store().get_baseline() is None


@needs('xdist')
@pytest.mark.parametrize('workers', ['-n0', '-n1'])
def test_one_worker_disturbs_nobody(workers, session):
    session.write('[pytest]\naddopts = --calibrax-data=kept\n', 'pytest.ini')
    out = session(workers, text=XDIST, apart=workers != '-n0')
    assert out.ret == 0 and 'at the same time' not in out.text and 'workers' not in session.run('kept').metadata


@needs('pytest_benchmark')
def test_beside_pytest_benchmark(session):
    text = '''
def test_both(bench, benchmark):
    assert bench(sum, [1, 2]) == benchmark(sum, [1, 2]) == 3
def test_theirs(benchmark): benchmark(sum, [1])
def test_ours(bench): bench(sum, [1])
'''
    out = session('--calibrax-save', '--benchmark-min-rounds=2', '--benchmark-max-time=0.01', text=text, apart=True)
    out.assert_outcomes(passed=3)
    assert [p.name for p in session.run().points] == ['test_both', 'test_ours'] and 'test_theirs' in out.text
    session('--calibrax-skip', '--benchmark-only', apart=True).assert_outcomes(passed=1, deselected=2)


@pytest.mark.skipif(not ENTRY_POINT, reason='calibrax was installed before it had an entry point: install it again')
def test_left_out(session):
    command = [sys.executable, '-m', 'pytest', '-p', 'no:calibrax', '-p', 'no:cacheprovider', 'test_a.py']
    session.write(BOTH)
    out = subprocess.run(command, cwd=session.path, capture_output=True, text=True)
    assert out.returncode == 1 and "fixture 'bench' not found" in out.stdout and '1 passed' in out.stdout


@needs('pytest_timeout')
def test_beside_pytest_timeout(session):
    out = session('--timeout=1', '--timeout-method=signal', text='import time\ndef test_slow(bench): bench(time.sleep, 0.4)\n' + value(1.0), apart=True)
    out.assert_outcomes(passed=1, failed=1)
    assert 'Timeout' in out.text and 'timing.py' not in out.text


def test_unittest_async_and_own_fixtures(session):
    asynchronous = "\n@pytest.mark.anyio\nasync def test_async(bench): assert bench(sum, [1]) == 1\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n"
    out = session('--calibrax-save', '--calibrax-only', text='''
import asyncio, pytest, unittest
class TestOld(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def measure(self, bench): self.bench = bench
    def test_old(self): self.assertEqual(self.bench(sum, [2]), 2)
async def later(): return 5
def test_coroutine(bench): assert bench(lambda: asyncio.run(later())) == 5
def test_not_by_itself(bench):
    with pytest.raises(ValueError, match='only makes a coroutine'): bench(later)
    bench.record('loss', 1)
def test_on_demand(request): pass
''' + (asynchronous if util.find_spec('anyio') else ''))
    assert out.ret == 0, out.text
    assert [p.name for p in session.run().points][:3] == ['TestOld::test_old', 'test_coroutine', 'test_not_by_itself']


def test_a_fixture_of_the_same_name_wins(session):
    session.write('import pytest\n@pytest.fixture\ndef bench(): return 7\n', 'conftest.py')
    out = session('--calibrax-save', text='import pytest\n@pytest.mark.bench(1, anything=2)\ndef test_own(bench): assert bench == 7\n')
    assert out.ret == 0 and not (session.path/'benchmark-data'/'runs').exists()


def test_doctests_and_fixtures_that_are_asked_for_later(session):
    out = session('--doctest-modules', '--calibrax-save', text="def f():\n    '''\n    >>> bench = getfixture('bench')\n    >>> bench.record('loss', 1)\n    '''\n"
                  "def test_later(request): request.getfixturevalue('bench').record('loss', 2)\n")
    assert out.ret == 0 and [p.name for p in session.run().points] == ['test_a.f', 'test_later']


def test_an_incomplete_run_is_no_first_baseline(session):
    "A value was left out, so the run is not what later ones are to be judged by"
    text = "def test_a(bench): bench.record('v', 1., unit='MB', direction='lower')\ndef test_b(bench): bench.record('v', 1., unit='kB', direction='lower')\n"
    out = session('--calibrax-data=bench', '--calibrax-check', '--calibrax-first-run=accept', text=text)
    assert out.ret == 4 and Store(session.path/'bench').get_baseline() is None, out.text

def test_commands_in_hints_can_be_pasted(session):
    out = session('--calibrax-data=my store', '--calibrax-check', text="def test_a(bench): bench.record('v', 1., unit='MB', direction='lower')\n")
    assert "`calibrax baseline --data 'my store'" in out.text and out.text.count("--data 'my store' --data") == 0, out.text

def test_a_wrong_threshold_in_the_ini_is_not_blamed_on_an_option(session):
    (session.path/'pytest.ini').write_text('[pytest]\ncalibrax_threshold = abc\n')
    out = session('--calibrax-check', text="def test_a(bench): bench.record('v', 1., unit='MB', direction='lower')\n")
    assert 'pytest.ini: calibrax_threshold' in out.text and 'after the files' not in out.text, out.text
