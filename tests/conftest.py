"Every test runs on the CPU, draws to memory, and touches neither the user's caches nor the user's settings."
import os
import signal

import pytest

# before anything imports jax or matplotlib; what the caller set stands
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('MPLBACKEND', 'agg')
for name in ('CALIBRAX_LOG_LEVEL', 'CALIBRAX_CACHE_DIR', 'WANDB_API_KEY'): os.environ.pop(name, None)


# In the background of a script and under nohup these are ignored, and so they would be in all programs that the tests start and
# interrupt. What is caught is not inherited: this process goes on ignoring them, its children do not.
for ignored in (signal.SIGINT, getattr(signal, 'SIGHUP', signal.SIGINT)):
    if signal.getsignal(ignored) is signal.SIG_IGN: signal.signal(ignored, lambda *_: None)


def pytest_configure(config):
    "Property tests have no deadline (the first example compiles), and the same examples on every run in CI"
    try: from hypothesis import settings
    except ImportError: return
    settings.register_profile('calibrax', deadline=None, derandomize=bool(os.environ.get('CI')))
    settings.load_profile('calibrax')


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    "With several processes, all laws of a metric go to one: what it has compiled for the first serves the others"
    if config.getvalue('dist') != 'load': return None
    from xdist.scheduler import LoadScopeScheduling
    class ByMetric(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, case = nodeid.partition('::')
            return case.partition('[')[2].rstrip(']').partition('-')[0] if file.endswith('test_metric_laws.py') and '[' in case else nodeid
    return ByMetric(config, log)


@pytest.fixture(scope='session', autouse=True)
def own_cache_folder(tmp_path_factory):
    "The index of a store goes to a folder of this test process; its subprocesses inherit that"
    os.environ['CALIBRAX_CACHE_DIR'] = str(tmp_path_factory.mktemp('cache'))
    yield
    del os.environ['CALIBRAX_CACHE_DIR']


_held = [0]     # bytes that were resident when programs were last forgotten

@pytest.fixture(autouse=True)
def bounded_memory():
    "Thousands of compiled programs need many gigabytes: they are forgotten from time to time"
    yield
    import sys
    if 'jax' not in sys.modules: return
    import psutil
    resident = psutil.Process().memory_info().rss
    if resident > _held[0] + 1.5e9:
        import ctypes
        import gc
        sys.modules['jax'].clear_caches()
        gc.collect()
        # what was freed stays with the process until it is asked for; else the next 1.5 GB would come on top of it
        if trim := getattr(ctypes.CDLL(None), 'malloc_trim', None): trim(0)
        _held[0] = psutil.Process().memory_info().rss


@pytest.fixture
def no_disk_cache():
    "A cache on disk, as check.sh sets one, would hide the compiling that some tests look for"
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update('jax_compilation_cache_dir', None)
    reset_cache()
    yield
    jax.config.update('jax_compilation_cache_dir', folder)
    reset_cache()
