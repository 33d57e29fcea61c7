"Timing: what is waited for, what is compiled, what is counted, and what is said when it goes wrong."
import gc
import importlib
import inspect
import itertools
import os
import pickle
import subprocess
import sys
import time
import types
from unittest.mock import MagicMock, patch

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calibrax.core.errors import CalibraxError, ConfigError, ProfilingError
from calibrax.profiling import timing as module
from calibrax.profiling.timing import CallTiming, TimingCollector, TimingSample, time_calls, time_in_processes

LOG = 'calibrax.profiling.timing'


class Slow:
    "Counts how often it is waited for"
    def __init__(self): self.waited = 0
    def block_until_ready(self): self.waited += 1


# time_calls

def test_the_published_interface():
    signature = inspect.signature(time_calls).parameters
    assert {name: p.default for name, p in list(signature.items())[1:5]} == dict(warmup=3, iterations=10, percentiles=(50, 90, 99), sync=None)
    timing = time_calls(lambda: sum(range(100)), warmup=1, iterations=7, percentiles=[25, 75])
    assert type(timing) is CallTiming and len(timing.samples_sec) == 7 and set(timing.percentiles_sec) == {25, 75} and timing.warmup == 1
    assert timing.median_sec == np.median(timing.samples_sec) and timing.percentiles_sec[75] == np.percentile(timing.samples_sec, 75)
    assert CallTiming.from_dict(timing.to_dict()) == timing == pickle.loads(pickle.dumps(timing))


def test_a_slow_call_is_made_just_as_often_as_asked():
    calls = []
    timing = time_calls(lambda: (time.sleep(0.02), calls.append(1)), warmup=2, iterations=3, sync=lambda result: None)
    assert len(calls) == 5 and timing.inner_loops == 1 and 0.02 <= timing.median_sec


def test_without_warm_up_every_call_is_a_sample():
    calls = itertools.count()
    timing = time_calls(lambda: next(calls), warmup=0, iterations=4)
    assert next(calls) == 4 and (timing.inner_loops, timing.warmup) == (1, 0)


def test_short_calls_get_an_inner_loop_and_are_reported_per_call():
    calls = itertools.count()
    timing = time_calls(lambda: next(calls), warmup=1, iterations=5)
    assert timing.inner_loops > 5 and next(calls) > 5*timing.inner_loops
    assert min(timing.samples_sec)*timing.inner_loops > 10*module._clock_step()


def test_the_loops_asked_for_are_made():
    calls = itertools.count()
    assert time_calls(lambda: next(calls), warmup=2, iterations=3, loops=10).inner_loops == 10
    assert next(calls) == 2 + 30


def test_a_clock_that_stands_still_for_a_while(monkeypatch):
    ticks = itertools.count()
    coarse = types.SimpleNamespace(perf_counter=lambda: next(ticks)//1000*0.01)     # 10 ms steps, reached every 1000 readings
    monkeypatch.setattr(module, 'time', coarse)
    assert module._clock_step() == pytest.approx(0.01)
    assert module._find_loops(lambda: coarse.perf_counter(), lambda result: None, 1.0) > 1000


@pytest.mark.parametrize('arguments, message', [
    ({'iterations': 0}, 'iterations must be >= 1'), ({'iterations': 2.5}, 'iterations must be >= 1'), ({'warmup': -1}, 'warmup must be >= 0'),
    ({'percentiles': (50, 101)}, 'percentiles'), ({'percentiles': (-1,)}, 'percentiles'), ({'percentiles': ('90',)}, 'percentiles'), ({'loops': 0}, 'loops must be >= 1')])
def test_wrong_arguments_are_found_before_anything_is_called(arguments, message):
    def never(): raise AssertionError
    with pytest.raises(ValueError, match=message) as caught: time_calls(never, **arguments)
    assert isinstance(caught.value, ConfigError) and caught.value.hint


def test_what_cannot_be_called():
    with pytest.raises(ConfigError, match='a function is needed, found ArrayImpl'): time_calls(jnp.ones(3))


@pytest.mark.parametrize('at, place', [(1, 'warm-up call 1 of 2'), (2, 'warm-up call 2 of 2'), (3, 'sample 1 of 3'), (5, 'sample 3 of 3')])
def test_a_call_that_raises_is_placed(at, place):
    calls = itertools.count(1)
    def call():
        if next(calls) == at: raise KeyError('weights')
    with pytest.raises(ProfilingError, match=f"{place} raised KeyError: 'weights'") as caught: time_calls(call, warmup=2, iterations=3, loops=1)
    assert isinstance(caught.value.__cause__, KeyError) and caught.value.details['place'] == place and '\n' not in caught.value.message
    assert gc.isenabled()


def test_an_interrupt_is_not_an_error_of_the_call():
    with pytest.raises(KeyboardInterrupt): time_calls(lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert gc.isenabled()


# waiting

def test_every_leaf_is_waited_for():
    leaves = [Slow() for _ in range(4)]
    time_calls(lambda: {'loss': leaves[0], 'state': [leaves[1], (leaves[2],)], 'none': None, 'other': leaves[3]}, warmup=1, iterations=2, loops=1)
    assert [leaf.waited for leaf in leaves] == [3, 3, 3, 3]


def test_models_are_waited_for():
    from flax import nnx
    model = nnx.Linear(64, 64, rngs=nnx.Rngs(0))
    step = nnx.jit(lambda model, x: (model(x), model))
    assert time_calls(lambda: step(model, jnp.ones((4, 64))), iterations=2).warnings is None


def test_the_time_covers_the_computation_and_not_just_its_dispatch(no_disk_cache):
    x = jnp.ones(8)
    work = jax.jit(lambda x: jax.lax.fori_loop(0, 3_000_000, lambda i, y: y*0.999 + x, x))
    def by_hand():
        start = time.perf_counter()
        work(x).block_until_ready()
        return time.perf_counter() - start
    assert time_calls(lambda: work(x), warmup=1, iterations=3).median_sec > min(by_hand() for _ in range(5))/3


def test_a_result_whose_kind_changes_and_one_that_was_donated():
    results = itertools.cycle([jnp.ones(3), {'a': jnp.ones(3)}, 1.5, np.ones(2)])
    assert len(time_calls(lambda: next(results), warmup=1, iterations=8, loops=1).samples_sec) == 8
    gone = jnp.ones(3) + 1
    gone.delete()
    for result in (gone, [gone, jnp.ones(2)]): time_calls(lambda: result, iterations=2, loops=1)


def test_sync_gets_each_result_and_replaces_the_waiting():
    seen, result = [], Slow()
    time_calls(lambda: result, warmup=1, iterations=2, sync=seen.append, loops=1)
    assert seen == [result]*3 and result.waited == 0


def test_a_forgotten_return_is_warned_of(caplog):
    timing = time_calls(lambda: None, warmup=1, iterations=2)
    assert 'returned no arrays' in timing.warnings[0] and 'returned no arrays' in caplog.text
    for fine in (lambda: 2.5, lambda: np.ones(2), lambda: [jnp.ones(2)]): assert time_calls(fine, warmup=1, iterations=2).warnings is None
    assert time_calls(lambda: None, iterations=2, sync=lambda result: None).warnings is None


def test_jax_is_not_imported_for_a_function_that_does_not_use_it():
    code = ('import sys; from calibrax.profiling.timing import TimingCollector, time_calls; t = time_calls(lambda: None, iterations=2);'
            'TimingCollector().measure_iteration([1, 2]); print(t.warnings, {"jax", "numpy", "matplotlib"} & set(sys.modules))')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == 'None set()'


# compiling

def test_compiling_is_reported_apart_and_once(no_disk_cache):
    @jax.jit
    def step(x): return jnp.tanh(x @ x).sum()
    x = jnp.eye(32)
    first, second = time_calls(lambda: step(x), iterations=3), time_calls(lambda: step(x), iterations=3)
    assert first.compile_sec > 1e-3 and first.recompilations == second.recompilations == 0
    assert second.compile_sec is None and 'compile_sec' not in second.to_dict()


def test_compiling_is_not_counted_twice_where_reports_contain_each_other(no_disk_cache):
    inner = jax.jit(lambda x: jnp.sin(x) + 1)
    outer = jax.jit(lambda x: inner(inner(x)*2).sum())
    x = jnp.ones(7)
    start = time.perf_counter()
    with module._watch_compiling() as compiling: outer(x).block_until_ready()
    assert 0 < compiling.seconds() <= time.perf_counter() - start


def test_recompilation_is_flagged(no_disk_cache, caplog):
    step, sizes = jax.jit(lambda x: x*2 + 1), itertools.count(3)
    arrays = [jnp.ones(n) for n in range(30)]
    timing = time_calls(lambda: step(arrays[next(sizes)]), warmup=2, iterations=4, loops=1)
    assert timing.recompiled and timing.recompilations == 4 and '4 program(s) compiled' in timing.warnings[0] and 'while measuring' in caplog.text


def test_without_warm_up_the_first_sample_says_that_it_compiled(no_disk_cache):
    step, x = jax.jit(lambda x: x*3 - 1), jnp.ones(5)
    timing = time_calls(lambda: step(x), warmup=0, iterations=3)
    assert timing.compile_sec is None and timing.recompilations == 1 and 'warm up first' in timing.warnings[0]


def test_a_program_from_the_disk_cache_has_no_compile_time(tmp_path):
    (tmp_path/'m.py').write_text('import jax, jax.numpy as jnp\nfrom calibrax.profiling.timing import TimingCollector, _watch_compiling, time_calls\n'
                                 'x = jnp.ones(9)\ndef f(x): return jnp.tanh(x*2).sum()\ng = jax.jit(f)\nt = time_calls(lambda: g(x), iterations=2)\n'
                                 'with _watch_compiling() as anew:\n    for h in (f, g): TimingCollector().measure_compilation_time(h, x)\n'
                                 'print(t.compile_sec, anew.programs, anew.from_disk, jax.config.jax_enable_compilation_cache)')
    env = {**os.environ, 'JAX_COMPILATION_CACHE_DIR': str(tmp_path/'cache'), 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
           'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1', 'JAX_PLATFORMS': 'cpu'}
    first, second = (subprocess.run([sys.executable, 'm.py'], cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout.split() for _ in range(2))
    assert float(first[0]) > 1e-3 and second[0] == 'None'
    assert first[1:] == second[1:] == ['2', '0', 'True']     # compiled anew although it lies in the cache


@pytest.mark.skipif(not hasattr(jax.monitoring, 'unregister_event_duration_listener'), reason='this JAX cannot forget a listener; ours falls silent')
def test_no_listener_stays_behind():
    from jax._src import monitoring
    before = len(monitoring.get_event_duration_listeners())
    time_calls(lambda: 1, iterations=1)
    with pytest.raises(ProfilingError): time_calls(lambda: 1/0)
    assert len(monitoring.get_event_duration_listeners()) == before
    with module._watch_compiling(): jax.monitoring.clear_event_listeners()


def test_compile_time_twice_is_real_twice(no_disk_cache):
    def step(x): return jnp.tanh(x @ x.T).sum()
    x, collector = jnp.ones((16, 8)), TimingCollector()
    for fn in (step, jax.jit(step)):
        for _ in range(3):
            with module._watch_compiling() as compiling: seconds = collector.measure_compilation_time(fn, x)
            assert type(seconds) is float and compiling.programs == 1 and seconds >= compiling.seconds() > 1e-3
    assert collector.measure_compilation_time(step, jax.ShapeDtypeStruct((4, 4), jnp.float32)) > 0


def test_compile_time_goes_through_jit_lower_compile():
    fake = MagicMock()
    with patch.dict(sys.modules, jax=fake): seconds = TimingCollector().measure_compilation_time(lambda x: x, 'argument')
    fake.jit.assert_called_once()
    fake.jit.return_value.lower.assert_called_once_with('argument')
    fake.jit.return_value.lower.return_value.compile.assert_called_once()
    assert seconds >= 0


def test_what_does_not_compile():
    with pytest.raises(ProfilingError, match='compiling branchy raised TracerBoolConversionError') as caught:
        def branchy(x): return x if x > 0 else -x
        TimingCollector().measure_compilation_time(branchy, jnp.float32(1))
    assert '\n' not in caught.value.message


# the garbage collector

def test_collection_is_off_in_samples_and_back_on_after():
    states = []
    time_calls(lambda: states.append(gc.isenabled()), warmup=1, iterations=3, loops=1)
    assert states == [False]*4 and gc.isenabled()


def test_who_turned_collection_off_keeps_it_off():
    gc.disable()
    try:
        time_calls(lambda: 1, iterations=2)
        assert not gc.isenabled()
    finally: gc.enable()


def test_rubbish_in_circles_does_not_pile_up():
    class Node: alive = 0
    def finalize(): Node.alive -= 1
    import weakref
    def call():
        for _ in range(500):
            node = Node()
            node.me = node
            Node.alive += 1
            weakref.finalize(node, finalize).atexit = False
        return most.append(Node.alive)
    most = []
    time_calls(call, warmup=0, iterations=60, sync=lambda result: None)
    assert max(most) < 60*500/2


# fresh processes

@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path/'sample_module.py').write_text(
        'import os, time\nclass Model:\n    @staticmethod\n    def step(): time.sleep(0.001); return 1.0\n'
        'def chatty(): print("noise on stdout"); return os.getpid()\ndef bad(): raise ValueError("first line\\nsecond line")\n'
        'def dies(): os._exit(3)\ndef killed(): os.kill(os.getpid(), 9)\ndef slow(): time.sleep(30)\nnot_callable = 3\n')
    (tmp_path/'broken_module.py').write_text('def f(:\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('PYTHONPATH', raising=False)


def test_fresh_processes(folder):
    timing = time_in_processes('sample_module:Model.step', processes=3, warmup=1, iterations=4, percentiles=(10, 50))
    assert len(timing.process_medians_sec) == 3 and len(timing.samples_sec) == 12 and set(timing.percentiles_sec) == {10, 50}
    assert timing.median_sec >= 0.001 and timing.inner_loops == 1 and timing.warmup == 1
    assert CallTiming.from_json(timing.to_json()) == timing


def test_output_of_the_function_does_not_disturb(folder):
    timing = time_in_processes('sample_module:chatty', processes=2, iterations=2)
    assert len(timing.samples_sec) == 4 and timing.inner_loops >= 1


@pytest.mark.parametrize('target, message', [
    ('sample_module:bad', 'warm-up call 1 of 3 raised ValueError: first line'), ('sample_module:none', "has no attribute 'none'"),
    ('sample_module:not_callable', 'a function is needed, found int'), ('missing_module:f', "No module named 'missing_module'"),
    ('broken_module:f', 'SyntaxError'), ('sample_module:dies', 'ended with exit status 3'), ('sample_module:killed', 'ended with exit status -9')])
def test_a_process_that_fails(folder, target, message):
    with pytest.raises(ProfilingError) as caught: time_in_processes(target, processes=2)
    assert message in caught.value.message and target in caught.value.message and '\n' not in caught.value.message and caught.value.hint


def test_a_process_that_takes_too_long(folder):
    with pytest.raises(ProfilingError, match='took longer than 1 s'): time_in_processes('sample_module:slow', processes=1, timeout=1)


@pytest.mark.parametrize('target, options', [('sample_module', {}), (':f', {}), ('m:', {}), (None, {}), ('m:f', {'processes': 0}), ('m:f', {'percentiles': (200,)})])
def test_wrong_arguments_start_no_process(monkeypatch, target, options):
    monkeypatch.setattr(module.subprocess, 'run', lambda *a, **k: pytest.fail('started a process'))
    with pytest.raises(ConfigError): time_in_processes(target, **options)


def test_the_keywords_are_those_of_time_calls():
    ours, theirs = inspect.signature(time_in_processes).parameters, inspect.signature(time_calls).parameters
    assert set(theirs) - {'call', 'sync'} == set(ours) - {'target', 'processes', 'timeout'}
    assert all(ours[name].default == theirs[name].default for name in set(ours) & set(theirs))


# passes over batches

def test_a_pass_over_batches():
    sample = TimingCollector(warmup_iterations=2).measure_iteration(iter([[1, 2], [3], [4, 5, 6]]), count_fn=len, process_fn=sum)
    assert type(sample) is TimingSample and (sample.num_batches, sample.num_elements, sample.warmup_batches_excluded) == (3, 6, 2)
    assert len(sample.per_batch_times) == 1 and sample.wall_clock_sec >= sum(sample.per_batch_times) and sample.first_batch_time > 0


@pytest.mark.parametrize('n, most, warmup, batches, times', [(5, None, 0, 5, 5), (5, 3, 0, 3, 3), (5, 0, 0, 0, 0), (5, 4, 2, 4, 2), (2, 10, 0, 2, 2), (2, 10, 10, 2, 0), (0, None, 3, 0, 0)])
def test_how_many_batches_count(n, most, warmup, batches, times):
    stream = iter(range(n))
    sample = TimingCollector(warmup_iterations=warmup).measure_iteration(stream, most)
    assert (sample.num_batches, len(sample.per_batch_times), sample.num_elements) == (batches, times, batches)
    assert sample.warmup_batches_excluded == min(warmup, batches) and (sample.first_batch_time > 0) == (batches > 0)
    assert len(list(stream)) == n - batches     # nothing was taken beyond the limit


def test_a_short_iterator_is_told_in_the_log(caplog):
    TimingCollector().measure_iteration([1, 2], num_batches=10)
    assert 'ended after 2 of 10 batches' in caplog.text


def test_what_is_synced():
    sync = MagicMock()
    TimingCollector(sync, 1).measure_iteration([1, 2], process_fn=lambda b: f'out-{b}')
    assert [c.args for c in sync.call_args_list] == [('out-1',), ('out-2',)]
    leaf = Slow()
    TimingCollector().measure_iteration([0, 1], process_fn=lambda b: {'out': [leaf]})
    assert leaf.waited == 2


def test_fetching_counts_in_the_pass_and_not_in_the_batches():
    def loader():
        for _ in range(3):
            time.sleep(0.02)
            yield 1
    sample = TimingCollector().measure_iteration(loader())
    assert sample.first_batch_time >= 0.02 and sample.wall_clock_sec - sum(sample.per_batch_times) >= 0.06


def test_the_clock_is_read_no_more_than_needed():
    with patch.object(module, 'time') as fake:
        fake.perf_counter.side_effect = [0.0, 0.1, 0.2, 0.3]
        sample = TimingCollector().measure_iteration(iter([1]), num_batches=1)
    assert (sample.wall_clock_sec, sample.first_batch_time, sample.per_batch_times) == (0.3, 0.2, (pytest.approx(0.1),))


def test_errors_of_a_pass():
    def loader():
        yield 1
        raise OSError('disk on fire')
    with pytest.raises(ValueError, match='warmup_iterations must be >= 0'): TimingCollector(warmup_iterations=-1)
    with pytest.raises(ValueError, match='num_batches must be >= 0 or None'): TimingCollector().measure_iteration([1], num_batches=-1)
    with pytest.raises(ProfilingError, match='fetching batch 2 raised OSError: disk on fire'): TimingCollector().measure_iteration(loader())
    with pytest.raises(ProfilingError, match='processing batch 2 raised ZeroDivisionError'): TimingCollector().measure_iteration([1, 0], process_fn=lambda b: 1/b)
    with pytest.raises(CalibraxError): TimingCollector().measure_iteration([1], count_fn=lambda b: 1/0)


def test_compiling_in_a_pass(no_disk_cache, caplog):
    step = jax.jit(lambda b: b*2)
    batches = [jnp.ones(4)]*3 + [jnp.ones(5)]
    sample = TimingCollector(warmup_iterations=1).measure_iteration(batches, process_fn=step)
    assert sample.compilation_time_sec > 0 and '1 program(s) compiled after the warm-up' in caplog.text
    assert TimingCollector().measure_iteration(batches, process_fn=step).compilation_time_sec is None


# where the names are

def test_published_paths():
    assert importlib.import_module('calibrax.profiling.timing_records').CallTiming is CallTiming
    import calibrax
    import calibrax.profiling as profiling
    assert profiling.TimingSample is TimingSample and profiling.time_calls is time_calls is calibrax.time_calls
    assert set(profiling.__all__) <= set(dir(profiling)) and all(getattr(profiling, name) for name in profiling.__all__)
