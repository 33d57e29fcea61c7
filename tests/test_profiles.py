"One call that measures a function: what it measures, and what it says of bad input."
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from calibrax.analysis import compare_runs
from calibrax.core.errors import ConfigError, ProfilingError
from calibrax.core.measurements import GpuMemory, GpuPower
from calibrax.core.models import MetricDirection, Run
from calibrax.profiling import HardwareSpec, Profile, profile

X = jnp.ones((64, 64))
CHIP = HardwareSpec(name='chip', peak_flops=1e12, memory_bandwidth=1e11)
quick = partial(profile, warmup=1, iterations=3, hardware=CHIP)


def product(x): return x@x.T


def test_everything_at_once():
    p = quick(product, X)
    assert p.name == 'product' and p.calls == 3*p.timing.inner_loops and p.median_sec > 0
    assert p.compile_sec > 0 and p.lower_sec > 0 and p.trace_sec > 0
    assert p.flops.total_flops == 2*64**3 and p.flops.bytes_accessed >= 2*4*64*64
    assert p.memory_bytes['peak'] >= 2*4*64*64 and p.resources.peak_rss_mb > 10
    assert p.roofline.arithmetic_intensity == pytest.approx(p.flops.total_flops/p.flops.bytes_accessed) and p.hardware == CHIP
    assert p.roofline.execution_time_ms == pytest.approx(p.median_sec*1e3)
    text = repr(p)
    for says in ('product on', 'time per call', 'compiling', 'operations', 'device memory', 'limited by'): assert says in text
    for figure, why in p.unavailable.items(): assert why and f'– no {figure}: {why}' in text
    assert Profile.from_json(p.to_json()) == p and '<table>' in p._repr_html_()


def test_only_what_is_asked_for():
    p = quick(product, X, include=())
    assert (p.flops, p.resources, p.energy, p.roofline, p.memory_bytes, p.compile_sec) == (None,)*6 and not p.unavailable
    assert quick(product, X, include='flops').flops.total_flops == 2*64**3


@pytest.mark.parametrize('fn, args, kwargs', [
    (lambda x, mode: product(x) if mode == 'outer' else x, (X, 'outer'), {}),
    (lambda x, *, scale, power: (product(x)*scale)**power, (X,), {'scale': 2.0, 'power': 3}),
    (jax.jit(lambda x, mode: product(x) if mode == 'outer' else x, static_argnames='mode'), (X,), {'mode': 'outer'}),
    (jax.jit(lambda x, n: jnp.tile(product(x), n), static_argnums=1), (X, 2), {}),
    (lambda tree, fn: fn(tree['a'][0]), ({'a': [X, None]}, product), {}),
    (partial(lambda scale, x: product(x)*scale, 2.0), (X,), {}),
    (nnx.jit(lambda m, x: product(m(x))), (nnx.Linear(64, 64, rngs=nnx.Rngs(0)), X), {}),
], ids=['static string', 'keywords', 'static name', 'static number', 'pytree with a function', 'partial', 'nnx.jit'])
def test_all_kinds_of_arguments(fn, args, kwargs):
    p = quick(fn, *args, include=('compile', 'flops'), **kwargs)
    assert p.flops.total_flops >= 2*64**3 and p.compile_sec > 0 and not p.timing.warnings


def test_an_unknown_count_is_no_number():
    def converge(x): return jax.lax.while_loop(lambda y: jnp.abs(y).max() < 1e3, lambda y: y*1.5 + product(y)*0, x)
    p = quick(converge, X)
    assert p.flops.total_flops is None and 'operations' in p.unavailable and p.roofline is None and 'roofline' in p.unavailable


def test_doubts_of_the_roofline_are_shown():
    p = quick(jnp.linalg.inv, X + jnp.eye(64), include=('roofline',))      # XLA makes a loop of its own on a CPU, so the bytes are unknown there
    if p.flops.bytes_accessed is None: assert 'only the bytes of arguments' in p.doubts()[-1] and p.doubts()[-1] in repr(p) and 'only the bytes of arguments' in p._repr_html_()
    doubtful = quick(product, X, include=('roofline',), hardware=HardwareSpec(name='slow', peak_flops=1, memory_bandwidth=1))
    assert doubtful.roofline.warnings and f'! {doubtful.roofline.warnings[0]}' in repr(doubtful) and '⚠' in doubtful._repr_html_()


def test_without_jit_the_times_are_not_those_of_the_program():
    with jax.disable_jit(): p = quick(product, X, include=('flops',))
    assert p.flops.total_flops == 2*64**3 and 'jax_disable_jit' in p.doubts()[-1] and 'jax_disable_jit' in repr(p)
    assert not quick(product, X, include=('flops',)).doubts()


def test_include_must_be_names():
    for wrong in (None, 3, ('flops', 3), 'flop'):
        with pytest.raises(ConfigError, match='include'): profile(product, X, include=wrong)


def test_networks_are_left_alone():
    network = nnx.BatchNorm(64, rngs=nnx.Rngs(0))
    quick(network, X)
    np.testing.assert_array_equal(network.mean[...], 0)


def test_donated_arguments_are_copied():
    state = jnp.ones(1000)
    p = quick(jax.jit(lambda s: s*0.9, donate_argnums=0), state, include=('memory',))
    assert not state.is_deleted() and p.memory_bytes['aliased'] == 4000


def test_functions_without_arrays_are_called_as_they_are():
    calls = []
    compiled = jax.jit(product)
    def step():
        calls.append(1)
        time.sleep(0.01)
        return compiled(X)
    p = quick(step, warmup=2)
    assert len(calls) - p.calls <= 2 + 3
    assert p.flops.total_flops == 2*64**3 and p.roofline is not None


def test_few_calls_beside_those_it_times():
    calls = []
    def slow(x):
        calls.append(1)
        time.sleep(0.01)
        return x + 1
    quick(slow, X, warmup=2, iterations=5, jit=False)
    assert len(calls) <= 2 + 5 + 3


def test_a_function_that_returns_nothing_is_warned_of():
    def forgets(x): product(x)
    p = quick(forgets, X, include=())
    assert any('nothing was waited for' in w for w in p.timing.warnings) and 'nothing was waited for' in repr(p)


def test_what_jax_cannot_trace_is_timed():
    p = quick(lambda x: np.linalg.norm(np.asarray(x)), X)
    assert p.median_sec > 0 and p.flops is None
    for figure in ('compile time', 'operations', 'roofline'): assert p.unavailable[figure]
    assert 'cannot' in p.unavailable['operations'] or 'tracing' in p.unavailable['operations']
    with pytest.raises(ProfilingError, match='cannot compile'): quick(lambda x: np.linalg.norm(np.asarray(x)), X, jit=True)


def fails(x): raise ValueError('no such layer')
def fails_later(x, state=[]):
    state.append(1)
    if len(state) > 3: raise OSError('the disk is full')
    return x

@pytest.mark.parametrize('fn, says', [(fails, 'ValueError: no such layer'), (jax.jit(fails), 'no such layer'),
                                      (fails_later, 'OSError: the disk is full'), (lambda x: x@jnp.ones(3), 'contracting dimensions')])
def test_a_function_that_raises(fn, says):
    with pytest.raises(ProfilingError, match=says) as caught: quick(fn, X, jit=False)
    assert caught.value.hint


@pytest.mark.parametrize('arguments, says', [
    ((product, X, {'include': ('time',)}), "include has 'time'"), ((product, X, {'warmup': -1}), 'warmup must be'),
    ((product, X, {'iterations': 0}), 'iterations must be'), ((X, X, {}), 'a function is needed'),
    ((lambda x, *, iterations=3: x, X, {}), 'iterations is a keyword of profile and of'),
    ((product, jax.ShapeDtypeStruct((4, 4), 'float32'), {}), 'was given shapes'),
])
def test_wrong_arguments(arguments, says):
    fn, x, options = arguments
    with pytest.raises(ConfigError, match=says) as caught: profile(fn, x, **{'warmup': 1, 'iterations': 1, 'include': (), **options})
    assert caught.value.hint


class Gpu:
    "A GPU that can disappear"
    name, unavailable = 'card', {}
    def __init__(self, readings=10**9): self.left, self.start = readings, time.perf_counter()
    def _read(self, value):
        self.left -= 1
        if self.left < 0: raise ProfilingError('the GPU disappeared', hint='look at its driver')
        return value
    def memory(self): return self._read(GpuMemory(used_mb=1000, total_mb=8000))
    def utilization(self): return self._read(55.0)
    def clocks(self): return None
    def power(self): return self._read(GpuPower(draw_w=200, limit_w=300))


def test_readings_of_a_gpu():
    p = quick(lambda x: (time.sleep(0.2), product(x))[1], X, gpu=Gpu(), jit=False, iterations=4)
    assert p.resources.peak_gpu_mem_mb == 1000 and p.resources.mean_gpu_util == 55 and 'GPU memory' in repr(p)
    assert p.energy.total_gpu_energy_joules == pytest.approx(200*p.energy.duration_sec, rel=0.05)
    assert p.joules_per_call == pytest.approx(p.energy.total_combined_energy_joules/4)


def test_a_gpu_that_disappears_costs_its_figures_only():
    p = quick(lambda x: (time.sleep(0.2), product(x))[1], X, gpu=Gpu(readings=7), jit=False, iterations=4)
    assert p.median_sec > 0.19 and p.flops.total_flops == 2*64**3
    assert any('disappeared' in why for why in p.unavailable.values()), p.unavailable
    assert p.energy is None or p.energy.total_gpu_energy_joules is None


def test_too_short_for_joules():
    gpu = Gpu()
    gpu.power_resolution_sec = 0.1
    p = quick(product, X, gpu=gpu)
    assert p.joules_per_call is None and any('energy' in figure for figure in p.unavailable)


def test_a_run_that_a_check_can_judge():
    p = quick(product, X)
    run = p.to_run(name='step', tags={'device': 'cpu'})
    point, = run.points
    assert (point.name, point.scenario, dict(point.tags)) == ('step', 'profile', {'device': 'cpu'})
    assert set(point.metrics) == set(run.metric_defs) and run.metric_defs['device_memory'].direction == MetricDirection.LOWER
    assert point.metrics['total_flops'].value == 2*64**3 and Run.from_json(run.to_json()) == run
    bigger = quick(lambda x: product(jnp.concatenate([x, x, x])), X).to_run(name='step', tags={'device': 'cpu'})
    assert 'device_memory' in [r.metric for r in compare_runs(bigger, run).regressions]


def test_pictures():
    p = quick(product, X)
    figure, axes = p.plot()
    assert axes.get_xscale() == 'log'
    figure, axes = quick(product, X, include=()).plot()
    assert 'time per call' in axes.get_ylabel()


def test_torch_on_a_gpu_is_waited_for(monkeypatch):
    "With a torch of a few lines: the real one is large, and a GPU rare"
    from types import ModuleType, SimpleNamespace
    waited = []
    torch = ModuleType('torch')
    class Tensor: dtype = 'float32'
    torch.Tensor, torch.nn = Tensor, SimpleNamespace(Module=type('Module', (), {}))
    torch.cuda = SimpleNamespace(is_available=lambda: True, synchronize=lambda: waited.append(1))
    monkeypatch.setitem(__import__('sys').modules, 'torch', torch)
    p = quick(lambda t: time.sleep(0.005) or t, Tensor(), include=('compile',), warmup=2)
    assert len(waited) >= p.calls and p.unavailable['compile time'] == 'torch compiles nothing here'
