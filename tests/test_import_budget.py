"""What a cold process may load and how long that may take: a gate that runs on every commit must start at once.

Times are CPU seconds of the child process, as the operating system counts them: waiting for a busy machine costs nothing
there. The smallest of several rounds counts, and more rounds are made while that is over the bar, so that only code that is
really slow fails."""
import importlib.util, os, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ['jax', 'jaxlib', 'flax', 'matplotlib', 'wandb', 'scipy', 'pandas', 'mlflow']
WHEN_NEEDED = ['fastcore', 'fsspec', 's3fs', 'sqlite3', 'tqdm']         # light, but not free
PACKAGES = ['core', 'storage', 'analysis', 'statistics', 'ci', 'cli']   # of the design's import budget


def there(name):
    try: return importlib.util.find_spec(name) is not None
    except ImportError: return False

def modules(*packages):
    "All modules in these packages that exist by now"
    found = sorted(f for p in packages for f in (ROOT/'calibrax'/p).glob('*.py'))
    return ['.'.join(f.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__') for f in found]

def loaded_by(code, unwanted):
    "Which of the `unwanted` packages are loaded in a fresh process once `code` has run"
    code += f'\nimport sys; print("loaded:", *[m for m in {unwanted!r} if m in sys.modules])'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stderr
    return out.stdout.rpartition('loaded:')[2].split()


@pytest.mark.parametrize('module', ['calibrax', *modules(*PACKAGES)])
def test_nothing_heavy_is_loaded(module): assert not loaded_by(f'import {module}', HEAVY + WHEN_NEEDED)


@pytest.mark.parametrize('module', modules('profiling'))
def test_measuring_loads_jax_only_when_it_measures(module): assert not loaded_by(f'import {module}', HEAVY)


command = pytest.mark.skipif(not there('calibrax.cli.main'), reason='there is no command line yet')

@command
@pytest.mark.parametrize('arguments', [['--help'], ['--version'], ['check', '--help'], ['profile', '--help'], ['demo', '--help']], ids=' '.join)
def test_help_loads_nothing_heavy(arguments):
    assert not loaded_by(f'from calibrax.cli.main import main\nmain({arguments!r}, standalone_mode=False)', HEAVY + WHEN_NEEDED)


# --- seconds -----------------------------------------------------------------------------------------------------------

def cpu_seconds(arguments):
    "What one child process costs, user and system time together"
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(sys.executable, [sys.executable, *arguments], {**os.environ, 'PYTHONPATH': str(ROOT)}, file_actions=quiet)
    _, status, used = os.wait4(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f'python {" ".join(arguments)} failed'
    return used.ru_utime + used.ru_stime

def least(*commands, within, rounds=7, at_most=40):
    "The least CPU seconds of each command, in interleaved rounds; further rounds while `within` does not hold yet"
    for arguments in commands: cpu_seconds(arguments)       # writes the bytecode, warms the disk cache
    best = [float('inf')] * len(commands)
    for n in range(at_most):
        best = [min(b, cpu_seconds(c)) for b, c in zip(best, commands)]
        if n + 1 >= rounds and within(*best): break
    return best


def test_a_run_costs_little_more_than_numpy():
    bare, ours = least(['-c', 'import numpy'], ['-c', 'import numpy; from calibrax.core import Run'], within=lambda bare, ours: ours - bare <= 0.060)
    assert ours - bare <= 0.060, f'`from calibrax.core import Run` costs {ours - bare:.3f} s over Python with NumPy ({bare:.3f} s); the bar is 0.060 s'


@command
def test_help_comes_at_once():
    took, = least(['-m', 'calibrax', '--help'], within=lambda took: took <= 0.25)
    assert took <= 0.25, f'calibrax --help takes {took:.3f} s; the bar is 0.25 s'


@pytest.fixture
def small_store(tmp_path):
    "A store with a baseline and five runs like it"
    from calibrax import Metric, MetricDef, Point, Run, Store
    store = Store(tmp_path/'benchmark-data')
    for n in range(6):
        points = [Point(name=f'case-{i}', scenario='small', tags={'framework': 'ours'}, metrics={'throughput': Metric(value=100.0 + n/10 + i)}) for i in range(5)]
        definition = MetricDef(name='throughput', unit='1/s', direction='higher', group='speed')
        run = Run(points=points, metric_defs={'throughput': definition})
        store.save(run)
        if n == 0: store.set_baseline(run.id)
    return tmp_path/'benchmark-data'


@command
def test_check_comes_at_once(small_store):
    check = ['-m', 'calibrax', 'check', '--data', str(small_store)]
    took, = least(check, within=lambda took: took <= 0.25)
    assert took <= 0.25, f'calibrax check takes {took:.3f} s on a small store; the bar is 0.25 s'


@command
def test_check_loads_nothing_heavy(small_store):
    code = f'from calibrax.cli.main import main\ntry: main(["check", "--data", {str(small_store)!r}])\nexcept SystemExit as e: assert not e.code, e.code'
    assert not loaded_by(code, HEAVY + ['fsspec', 's3fs'])


@pytest.mark.peers
@pytest.mark.parametrize('rival', ['asv', 'metrax', 'pyperf', 'pytest_benchmark.plugin', 'sklearn.metrics'])
def test_imports_faster_than(rival):
    "The library and its command, against what a rival needs before it does anything"
    if not there(rival): pytest.skip(f'{rival} is not installed; make peers installs it')
    theirs, ours = least(['-c', f'import {rival}'], ['-c', 'import calibrax; from calibrax.core import Run'], within=lambda theirs, ours: ours <= theirs)
    assert ours <= theirs, f'ours {ours:.3f} s, {rival} {theirs:.3f} s'
