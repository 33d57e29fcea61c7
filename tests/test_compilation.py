"Compilation: what counts as a miss is what JAX did, each one has its cause, and the profiled function stays what it was."
import copy
import functools
import inspect
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrax.core.errors import CalibraxError, ConfigError, ProfilingError
from calibrax.profiling import compilation as module
from calibrax.profiling.compilation import Compilation, CompilationProfiler, CompilationResult, Compilations, XLAOptimizationResult, _health
from calibrax.profiling.kernels import _computations, _kernels, _kind, _opcode, _optimization


pytestmark = pytest.mark.usefixtures('no_disk_cache')


@pytest.fixture
def profiler(): return CompilationProfiler()


@pytest.fixture(scope='module')
def compiled_by_jax():
    "What JAX says it compiled, in a list that grows"
    names = []
    def hear(event, duration, **kwargs):
        if event.endswith('backend_compile_duration'): names.append(kwargs.get('fun_name'))
    jax.monitoring.register_event_duration_secs_listener(hear)
    return names


def counts(profiler): return (r := profiler.get_result()).cache_hits, r.cache_misses
def ones(*shape, dtype='float32'): return jnp.asarray(np.ones(shape, dtype))       # compiles nothing itself


# counting

def test_shapes_inside_a_dict_are_signatures(profiler):
    "The fault of calibrax 0.1: one miss, three hits, excellent"
    f = profiler.profile_jit_compilation(lambda batch: batch['x'].sum())
    for n in (1, 2, 3, 4): f({'x': ones(n)})
    result = profiler.get_result()
    assert (result.cache_hits, result.cache_misses, result.unique_signatures, result.cache_hit_rate) == (0, 4, 4, 0.0)
    assert result.health_level != 'excellent' and any('bucket' in r for r in result.recommendations)
    assert result.causes == ("argument batch['x']: shape (1,) → (2,)", "argument batch['x']: shape (2,) → (3,)", "argument batch['x']: shape (3,) → (4,)")


def test_times_are_of_the_compiling_and_add_up(profiler):
    f = profiler.profile_jit_compilation(lambda x: jnp.linalg.norm(jnp.tanh(x@x)))
    for _ in range(3): f(ones(4, 4))
    f(ones(5, 5))
    result = profiler.get_result()
    assert counts(profiler) == (2, 2) and len(result.compilations) == 2
    for c in result.compilations: assert min(c.trace_sec, c.lower_sec, c.compile_sec) > 0 and c.programs >= 1
    assert result.avg_compilation_time_ms == pytest.approx((result.trace_sec + result.lower_sec + result.compile_sec)*1e3/2)
    assert result.max_compilation_time_ms == pytest.approx(max(c.total_sec for c in result.compilations)*1e3)
    assert result.unavailable is None and result.from_disk == 0


@settings(max_examples=25)
@given(st.lists(st.sampled_from(['a', 'b', 'c', 'd', 'e', 'clear']), max_size=12))
def test_misses_are_the_calls_in_which_jax_compiled(compiled_by_jax, calls):
    arguments = {'a': ({'w': ones(2)}, 1), 'b': ({'w': ones(3)}, 1), 'c': ({'w': ones(2)}, 2), 'd': ({'w': ones(2), 'v': 1.0}, 1), 'e': ({'w': np.ones(2, 'f')}, 1)}
    jitted, profiler, misses = jax.jit(lambda tree, n: jax.tree.map(lambda x: x*n, tree), static_argnums=1), CompilationProfiler(), 0
    profiled = profiler.profile_jit_compilation(jitted)
    for call in calls:
        if call == 'clear':
            jitted.clear_cache()
            continue
        before = len(compiled_by_jax)
        profiled(*arguments[call])
        misses += len(compiled_by_jax) > before
    made = sum(call != 'clear' for call in calls)
    assert counts(profiler) == (made - misses, misses)
    assert len(profiler.causes) == max(0, misses - 1)


def test_what_another_compiled_already_is_a_hit(profiler):
    jitted = jax.jit(lambda x: x*3)
    jitted(ones(2))
    f = profiler.profile_jit_compilation(jitted)
    f(ones(2))
    assert counts(profiler) == (1, 0)
    result = profiler.get_result()
    assert result.health_level == 'excellent' and result.avg_compilation_time_ms is None and 'nothing was compiled' in result.unavailable['avg_compilation_time_ms']
    jitted.clear_cache()
    f(ones(2))
    assert counts(profiler) == (1, 1) and 'dropped' in profiler.causes[0]


def test_ahead_of_time_programs_never_miss(profiler):
    program = jax.jit(lambda x: x - 1).lower(ones(3)).compile()
    f = profiler.profile_jit_compilation(program)
    assert f(ones(3)).sum() == 0 and counts(profiler) == (1, 0)


def test_numpy_and_jax_arrays_share_a_program(profiler):
    f = profiler.profile_jit_compilation(lambda x: x + 1)
    f(ones(3)); f(np.ones(3, 'float32'))
    assert counts(profiler) == (1, 1) and profiler.get_result().unique_signatures == 1


def test_other_programs_are_not_counted(profiler):
    f = profiler.profile_jit_compilation(lambda x: x + 1)
    f(ones(3))
    jax.jit(lambda x: x*7)(ones(3))
    f(ones(3))
    assert counts(profiler) == (1, 1)


def test_calls_inside_another_program_are_counted_apart(profiler):
    f = profiler.profile_jit_compilation(lambda x: jnp.sin(x))
    for _ in range(2): jax.jit(lambda x: f(x)*2)(ones(3))
    jax.jit(lambda: f(np.ones(3, 'f')))()
    result = profiler.get_result()
    assert (result.total_calls, result.inlined_calls) == (0, 3)
    f(ones(3))
    jax.vmap(f)(ones(2, 3))
    jax.grad(lambda x: f(x).sum())(ones(3))
    assert 'dropped' not in ' '.join(profiler.causes) and profiler.get_result().cache_hits == 0


def test_a_listener_that_was_lost_comes_back(profiler):
    f = profiler.profile_jit_compilation(lambda x: x + 5)
    f(ones(2))
    if hasattr(jax.monitoring, 'unregister_event_duration_listener'): jax.monitoring.unregister_event_duration_listener(module._hear)
    f(ones(3))
    assert counts(profiler) == (0, 2)


def test_reset_forgets_the_calls_and_not_the_programs(profiler):
    f = profiler.profile_jit_compilation(lambda x: x + 6)
    f(ones(2))
    profiler.reset()
    assert profiler.get_result().total_calls == 0 and profiler.causes == () and list(profiler.recompilations) == []
    f(ones(2))
    assert counts(profiler) == (1, 0)


def test_threads(profiler):
    f = profiler.profile_jit_compilation(lambda x: jnp.cos(x).sum())
    barrier = threading.Barrier(4)
    def work(i):
        barrier.wait()
        for n in range(1, 9): f(ones(n + 10*i))
        for n in range(1, 9): f(ones(n + 10*i))
    with ThreadPoolExecutor(4) as pool: list(pool.map(work, range(4)))
    assert counts(profiler) == (32, 32) and profiler.get_result().unique_signatures == 32
    assert sorted(c.call for c in profiler.get_result().compilations) == sorted({c.call for c in profiler.get_result().compilations})


def test_threads_with_the_same_signature(profiler):
    f = profiler.profile_jit_compilation(lambda x: jnp.cos(x).sum()*2)
    barrier = threading.Barrier(4)
    def work(_):
        barrier.wait()
        return float(f(ones(77)))
    with ThreadPoolExecutor(4) as pool: assert len(set(pool.map(work, range(4)))) == 1
    result = profiler.get_result()
    assert result.total_calls == 4 and result.unique_signatures == 1 and result.cache_misses >= 1


# the profiled function stays what it was

@pytest.mark.parametrize('args, kwargs', [((1.0, 2), {}), ((np.ones(3),), {'b': 2}), (({'x': [1, 2.5]},), {}), ((None,), {}), (((),), {'b': 1.5})])
def test_results_are_those_of_the_function(profiler, args, kwargs):
    def f(a, b=3): return jax.tree.map(lambda x: x*b, a)
    expected, found = jax.jit(f)(*args, **kwargs), profiler.profile_jit_compilation(f)(*args, **kwargs)
    assert jax.tree.structure(expected) == jax.tree.structure(found)
    assert all((a == b).all() and a.dtype == b.dtype for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found)))


def test_decorators(profiler):
    @profiler.profile_jit_compilation
    def plain(x): "Doubles."; return 2*x

    @profiler.profile_jit_compilation(static_argnames=('mode',))
    def moded(x, mode): return x + 1 if mode == 'up' else x - 1

    assert plain.__name__ == 'plain' and plain.__doc__ == 'Doubles.' and list(inspect.signature(moded).parameters) == ['x', 'mode']
    assert plain(2) == 4 and moded(1, 'up') == 2 and moded(1, mode='down') == 0
    assert 'profiled plain' in repr(plain)
    assert plain.lower(1.0).compile()(2.0) == 4        # what the jitted function has, the wrapper has
    with pytest.raises(AttributeError): plain.no_such_attribute
    copy.copy(plain)


@pytest.mark.parametrize('options, call', [({'static_argnums': 1}, lambda f: f(1, 'a')), ({'static_argnums': -1}, lambda f: f(1, 'a')), ({'static_argnums': (1,)}, lambda f: f(1, mode='a')),
                                           ({'static_argnames': 'mode'}, lambda f: f(1, 'a')), ({'static_argnames': ['mode']}, lambda f: f(1, mode='a'))])
def test_static_arguments(profiler, options, call):
    f = profiler.profile_jit_compilation(lambda x, mode: x if mode == 'a' else -x, **options)
    call(f); call(f)
    assert counts(profiler) == (1, 1) and "mode: 'a'" in next(iter(profiler.get_result().calls_per_signature))


def test_static_arguments_of_a_jit_of_its_own(profiler):
    for jitted in (jax.jit(lambda x, n: x*n, static_argnums=1), nnx.jit(lambda x, n: x*n, static_argnums=1)):
        profiler.reset()
        f = profiler.profile_jit_compilation(jitted)
        for n in (2, 2, 3): f(ones(2), n)
        assert counts(profiler) == (1, 2) and profiler.causes == ('argument n: static value 2 → 3',)


def test_dynamic_numbers_share_a_program(profiler):
    f = profiler.profile_jit_compilation(lambda x, n: x*n)
    for n in (2, 3, 4): f(ones(2), n)
    assert counts(profiler) == (2, 1) and profiler.get_result().unique_signatures == 1


def test_donated_arguments_are_used_once(profiler):
    f = profiler.profile_jit_compilation(lambda x: x*2, donate_argnums=0)
    x = ones(4) + 1
    assert f(x).sum() == 16 and x.is_deleted()
    with pytest.raises((RuntimeError, ValueError)): f(x)       # JAX says so itself
    result = profiler.get_result()
    assert (result.total_calls, result.failed_calls) == (1, 1)
    already = profiler.profile_jit_compilation(jax.jit(lambda x: x*2, donate_argnames='x'))
    y = ones(4) + 1
    already(x=y)
    assert y.is_deleted()


def test_errors_are_the_functions_own_and_no_hits(profiler):
    error = KeyError('mine')
    def f(x):
        if x.shape[0] == 3: raise error
        return x
    f = profiler.profile_jit_compilation(f)
    f(ones(2))
    for _ in range(2):
        with pytest.raises(KeyError) as caught: f(ones(3))
        assert caught.value is error
    result = profiler.get_result()
    assert (result.total_calls, result.failed_calls, result.unique_signatures) == (1, 2, 1)
    f(ones(2))
    assert counts(profiler) == (1, 1)


@pytest.mark.filterwarnings('ignore:Python iterable')
@pytest.mark.parametrize('bad', ['text', object(), print, iter([1])])
def test_what_is_no_array_is_refused_by_jax(profiler, bad):
    with pytest.raises(TypeError): profiler.profile_jit_compilation(lambda x: x)(bad)
    assert profiler.get_result().failed_calls == 1


def test_unhashable_static_values(profiler):
    f = profiler.profile_jit_compilation(lambda x, axes: x.sum(tuple(axes)), static_argnums=1)
    with pytest.raises(ValueError, match='[Nn]on-hashable static'): f(ones(2), [0])
    f(ones(2), (0,))
    assert counts(profiler) == (0, 1)


def test_what_cannot_be_flattened(profiler):
    f = profiler.profile_jit_compilation(lambda x: x)
    with pytest.raises(ValueError): f({1: ones(2), 'a': ones(2)})
    assert profiler.get_result().failed_calls == 1


@pytest.mark.parametrize('bad', [3, 'f', [1], np.ones(2)])
def test_what_is_no_function(profiler, bad):
    with pytest.raises(ConfigError): profiler.profile_jit_compilation(bad)


def test_generators_and_coroutines_are_refused(profiler):
    def generator(x): yield x
    async def coroutine(x): return x
    for f in (generator, coroutine):
        with pytest.raises(ConfigError, match='generator'): profiler.profile_jit_compilation(f)


def test_options_that_come_too_late(profiler):
    for f in (jax.jit(lambda x: x), nnx.jit(lambda x: x), profiler.profile_jit_compilation(lambda x: x)):
        with pytest.raises(ConfigError, match='jit already'): profiler.profile_jit_compilation(f, static_argnums=0)
    with pytest.raises(ConfigError, match='network'): profiler.profile_jit_compilation(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), static_argnums=0)


def test_methods(profiler):
    class Scale:
        def __init__(self, factor): self.factor = factor
        def times(self, x): return x*self.factor
        @profiler.profile_jit_compilation(static_argnums=0)
        def decorated(self, x): return x*self.factor
    scale = Scale(3.0)
    assert profiler.profile_jit_compilation(scale.times)(ones(2)).sum() == 6
    assert scale.decorated(ones(2)).sum() == 6 and Scale.decorated(scale, ones(2)).sum() == 6
    assert counts(profiler) == (1, 2)


def test_networks_and_their_methods(profiler):
    norm, x = nnx.BatchNorm(3, rngs=nnx.Rngs(0)), ones(4, 3)
    for f in (profiler.profile_jit_compilation(norm), profiler.profile_jit_compilation(norm.__call__)):
        profiler.reset()
        before = np.asarray(norm.mean[...])
        f(x)
        assert not np.allclose(before, np.asarray(norm.mean[...]))       # changes of the state come back
    norm.eval()
    f(x)
    assert profiler.causes == ('argument self.use_running_average: static value False → True',)
    assert not any('unreadable' in s for s in profiler.get_result().calls_per_signature)

    @nnx.jit
    def step(model, x): return model(x).sum()
    g = profiler.profile_jit_compilation(step)
    profiler.reset()
    for width in (3, 3, 5): g(nnx.Linear(3, width, rngs=nnx.Rngs(0)), x)
    assert counts(profiler) == (1, 2) and 'argument model.kernel: shape (3, 3) → (3, 5)' in profiler.causes[0]


def test_a_profiled_function_can_be_profiled_and_transformed(profiler):
    f = profiler.profile_jit_compilation(lambda x: (x**2).sum())
    outer = CompilationProfiler()
    g = outer.profile_jit_compilation(f)
    g(ones(3))
    assert counts(profiler) == counts(outer) == (0, 1)
    assert np.allclose(jax.grad(f)(ones(3)), 2.0)


# causes

CHANGES = {
    'shape': ((ones(8, 4),), (ones(16, 4),), 'argument x: shape (8, 4) → (16, 4)'),
    'dtype': (({'w': ones(2)},), ({'w': ones(2, dtype='float16')},), "argument x['w']: dtype float32 → float16"),
    'weak type': ((2.0,), (np.float32(2),), 'argument x: weak type, as of a Python number → dtype of its own'),
    'structure': (({'a': ones(2)},), ({'a': ones(2), 'b': ones(2)},), "argument x: structure, ['b'] added"),
    'tuple': (((ones(2),),), ([ones(2)],), 'argument x: structure (*,) → [*]'),
    'placement': ((ones(2),), (jax.device_put(np.ones(2, 'f'), jax.devices()[0]),), 'argument x: placed nowhere in particular →'),
}

@pytest.mark.parametrize('kind', CHANGES)
def test_causes(profiler, kind):
    before, after, sentence = CHANGES[kind]
    f = profiler.profile_jit_compilation(lambda x: jax.tree.map(lambda leaf: leaf + 1, x))
    f(*before); f(*after); f(*before)
    assert profiler.causes[0].startswith(sentence) and len(profiler.causes) == 1
    assert profiler.recompilations[0].changed == (kind if kind != 'tuple' else 'structure',)
    assert profiler.get_result().recommendations


def test_a_keyword_instead_of_a_position(profiler):
    f = profiler.profile_jit_compilation(lambda x, y: x + y)
    f(ones(2), ones(2)); f(ones(2), y=ones(2))
    assert profiler.causes == ('y passed by keyword instead of by position',)


def test_static_keywords(profiler):
    f = profiler.profile_jit_compilation(lambda x, *, training=True: x*training, static_argnames='training')
    for training in (False, True): f(ones(2), training=training)
    f(ones(2))
    assert profiler.causes[0] == 'keyword training: static value False → True'
    assert profiler.causes[1].startswith('keyword training: ') and profiler.causes[1].endswith('→ not given')


def test_a_jit_made_in_a_loop(profiler):
    for k in range(3): profiler.profile_jit_compilation(lambda x: x*k)(ones(3))
    assert len(profiler.causes) == 2 and all('another jit of <lambda>' in c for c in profiler.causes)
    assert any('outside the loop' in r for r in profiler.get_result().recommendations)
    profiler.reset()
    for k in range(2): profiler.profile_jit_compilation(jax.jit(functools.partial(lambda k, x: x*k, k)))(ones(3))
    assert 'another jit' in profiler.causes[0]


def test_settings_of_jax(profiler):
    f = profiler.profile_jit_compilation(lambda x: x@x)
    f(ones(2, 2))
    with jax.default_matmul_precision('float32'): f(ones(2, 2))
    assert profiler.causes == ("setting default_matmul_precision: None → 'float32'",)


def test_the_nearest_signature_is_compared_with(profiler):
    f = profiler.profile_jit_compilation(lambda x, y: x.sum() + y.sum())
    f(ones(2), ones(2)); f(ones(9), ones(8)); f(ones(2), ones(3))
    assert profiler.causes[1] == 'argument y: shape (2,) → (3,)'


def test_many_changes_are_shortened(profiler):
    f = profiler.profile_jit_compilation(lambda state: jax.tree.map(jnp.tanh, state))
    for n in (2, 3): f({f'layer{i}': ones(n) for i in range(12)})
    assert profiler.causes[0].endswith('; and 9 more') and '7 more' in profiler.get_result().compilations[0].signature


# results

def test_the_published_interface():
    published = ['cache_hit_rate', 'total_calls', 'cache_hits', 'cache_misses', 'avg_compilation_time_ms', 'max_compilation_time_ms', 'unique_signatures',
                 'health_score', 'health_level', 'recommendations']
    bare = CompilationResult(**dict.fromkeys(published[:-2], 1), health_level='good')
    assert list(bare.to_dict()) == published and CompilationResult.from_dict(bare.to_dict()) == bare
    assert (bare.causes, bare.from_disk, bare.trace_sec, bare.lower_sec, bare.compile_sec) == ((), None, None, None, None)
    names = ['optimization_score', 'fusion_ratio', 'arithmetic_ratio', 'memory_ratio', 'total_kernels', 'recommendations']
    assert list(XLAOptimizationResult(**dict.fromkeys(names[:-1], 1)).to_dict()) == names
    with pytest.raises(CalibraxError): CompilationResult.from_dict({})


@pytest.mark.parametrize('rate, seconds, level', [(1.0, 0.0, 'excellent'), (0.6, 0.0, 'good'), (0.61, 0.0, 'excellent'), (0.2, 0.0, 'moderate'), (0.0, 2.0, 'poor'), (0.0, 99.0, 'poor')])
def test_health(rate, seconds, level):
    score, found = _health(rate, seconds)
    assert found == level and score == pytest.approx(0.5*rate + 0.5*max(0, 1 - seconds/10))


def test_results_survive_json_and_pickle(profiler):
    f = profiler.profile_jit_compilation(lambda x: x + 1)
    for n in (1, 2, 2): f(ones(n))
    result = profiler.get_result()
    assert CompilationResult.from_json(result.to_json()) == result == pickle.loads(pickle.dumps(result))
    assert result.calls_per_signature == {'x: float32[1]': 1, 'x: float32[2]': 2}
    assert type(profiler.recompilations) is Compilations and all(type(c) is Compilation for c in profiler.recompilations)


def test_nothing_called_is_unknown(profiler):
    result = profiler.get_result()
    assert (result.total_calls, result.cache_hit_rate, result.health_score, result.health_level, result.recommendations) == (0, None, None, 'unknown', ())
    assert set(result.unavailable) == {'cache_hit_rate', 'health_score', 'avg_compilation_time_ms', 'max_compilation_time_ms'}
    with pytest.raises(ProfilingError, match='nothing was compiled'): result.plot()


def test_programs_from_the_disk_have_no_compile_time(profiler, tmp_path):
    from jax.experimental.compilation_cache.compilation_cache import reset_cache
    names = ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs', 'jax_persistent_cache_min_entry_size_bytes')
    saved = {name: getattr(jax.config, name) for name in names}
    try:
        for name, value in zip(names, (str(tmp_path), 0.0, -1)): jax.config.update(name, value)
        reset_cache()
        jitted = jax.jit(lambda x: jnp.arctan(x)*3)
        jitted(ones(5))
        jitted.clear_cache()
        profiler.profile_jit_compilation(jitted)(ones(5))
    finally:
        for name, value in saved.items(): jax.config.update(name, value)
        reset_cache()
    result = profiler.get_result()
    assert (result.cache_misses, result.from_disk, result.compile_sec, result.avg_compilation_time_ms, result.health_level) == (1, 1, None, None, 'unknown')
    assert 'disk' in result.unavailable['avg_compilation_time_ms'] and 'from disk' in repr(Compilations(result.compilations))
    assert CompilationResult.from_json(result.to_json()) == result


def test_what_is_shown(profiler):
    f = profiler.profile_jit_compilation(lambda x: x['<b>'] + 1)
    for n in (1, 2): f({'<b>': ones(n)})
    result = profiler.get_result()
    assert '<b>' not in result._repr_html_().replace('<b>first', '') and '&lt;b&gt;' in result._repr_html_()
    assert all(len(line) < 130 for line in repr(result.table()).splitlines())
    figure, axes = result.plot()
    assert len(axes.patches) == 6 and axes.get_xlabel() == 'time [ms]'
    assert result.plot(axes)[1] is axes
    import matplotlib.pyplot as plt
    plt.close(figure)


# XLA

HLO = '''HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%fused_add_mul (param_0.1: f32[4], p: f32[4]) -> f32[4] {
  %param_0.1 = f32[4]{0} parameter(0)
  %c = f32[] constant(2)
  %b = f32[4]{0} broadcast(%c), dimensions={}
  ROOT %m = f32[4]{0} multiply(%param_0.1, %b), metadata={op_name="jit(f)/copy(transpose) = gather(x)"}
}

%wrapped_transpose (param_0: f32[4,2]) -> f32[2,4] {
  %param_0 = f32[4,2]{1,0} parameter(0)
  ROOT %t = f32[2,4]{1,0} transpose(%param_0), dimensions={1,0}
}

body.7 (state: (s32[], f32[4])) -> (s32[], f32[4]) {
  state = (s32[], /*index=1*/f32[4]{0:T(128)}) parameter(0)
  inner = f32[4]{0} get-tuple-element(state), index=1
  add.1 = f32[4]{0} add(inner, inner)
  ROOT out = (s32[], f32[4]{0}) tuple(inner, add.1)
}

%cond.8 (state.1: (s32[], f32[4])) -> pred[] {
  %state.1 = (s32[], f32[4]{0}) parameter(0)
  ROOT %lt = pred[] compare(%state.1, %state.1), direction=LT
}

ENTRY %main.9 (x: f32[4], y: f32[4,2]) -> (f32[4], f32[2,4]) {
  %x = f32[4]{0} parameter(0)
  %y = f32[4,2]{1,0} parameter(1)
  %fusion.dot = f32[4]{0} fusion(%x, %x), kind=kLoop, calls=%fused_add_mul
  %wrapped = f32[2,4]{1,0} fusion(%y), kind=kLoop, calls=%wrapped_transpose
  %loop = (s32[], f32[4]{0}) while(%x), condition=%cond.8, body=body.7
  %start = (f32[4]{0}, f32[4]{0}, u32[]) copy-start(%x)
  %done = f32[4]{0} copy-done(%start)
  %gemm = (f32[4]{0}, s8[1024]{0}) custom-call(%x), custom_call_target="__cublas$gemm"
  %host = f32[4]{0} custom-call(%x), custom_call_target="xla_python_cpu_callback"
  %sum = f32[4]{0} all-reduce(%x), to_apply=%cond.8
  ROOT %result = (f32[4]{0}, f32[2,4]{1,0}) tuple(%fusion.dot, %wrapped)
}
'''

def test_instructions_are_read_by_their_opcode():
    "Words in names and metadata decide nothing"
    computations, entry = _computations(HLO)
    assert entry == 'main.9' and list(computations) == ['fused_add_mul', 'wrapped_transpose', 'body.7', 'cond.8', 'main.9']
    assert [k.opcode for k in _kernels(computations, entry)] == ['fusion', 'fusion', 'compare', 'add', 'copy-start', 'custom-call', 'custom-call', 'all-reduce']
    assert [_kind(k, computations) for k in _kernels(computations, entry)] == [
        ('arithmetic', True), ('memory', False), ('arithmetic', False), ('arithmetic', False), ('memory', False), ('arithmetic', False), ('other', False), ('other', False)]
    result = _optimization(HLO, 'f')
    assert (result.total_kernels, result.fusion_ratio, result.arithmetic_ratio, result.memory_ratio) == (8, 1/8, 4/8, 2/8)
    assert result.optimization_score == pytest.approx(0.4*2/8 + 0.3*4/8 + 0.3*6/8)
    assert result.kernels == {'fusion': 2, 'custom-call': 2, 'compare': 1, 'add': 1, 'copy-start': 1, 'all-reduce': 1}


@pytest.mark.parametrize('line', ['', '}', 'ENTRY %main (p: f32[2]) -> f32[2] {', '1 {file_name_id=1 function_name_id=1 line=20}', '1 "/tmp/a = add(b).py"', 'x = y'])
def test_other_lines_are_no_instructions(line): assert _opcode(line) is None


def mlp(x, w): return jax.nn.softmax(jnp.tanh(x@w))

def test_a_real_program(profiler):
    for f in (mlp, jax.jit(mlp), profiler.profile_jit_compilation(mlp)):
        result = profiler.estimate_xla_optimization(f, ones(32, 32), ones(32, 32))
        assert 1 <= result.total_kernels < 30 and result.arithmetic_ratio > 0 and result.arithmetic_ratio + result.memory_ratio <= 1
        assert 0 <= result.optimization_score <= 1 and sum(result.kernels.values()) == result.total_kernels
        assert XLAOptimizationResult.from_json(result.to_json()) == result
    assert profiler.get_result().total_calls == 0       # looking is not calling
    keyword = profiler.estimate_xla_optimization(mlp, jax.ShapeDtypeStruct((8, 8), 'float32'), w=ones(8, 8))
    assert keyword.total_kernels >= 1
    network = profiler.profile_jit_compilation(nnx.Linear(8, 8, rngs=nnx.Rngs(0)))
    assert profiler.estimate_xla_optimization(network, ones(8, 8)).arithmetic_ratio > 0


def test_what_only_moves_data_is_not_arithmetic(profiler):
    result = profiler.estimate_xla_optimization(lambda x: jnp.concatenate([x.T, x]), ones(16, 16))
    assert result.arithmetic_ratio == 0 and result.memory_ratio == 1 and 'move data' in result.recommendations[0]


def test_a_failure_is_an_error_and_not_zeros(profiler):
    for f, args in ((mlp, (ones(3, 3), ones(4, 4))), (lambda: np.linalg.norm(object()), ())):
        with pytest.raises(ProfilingError) as caught: profiler.estimate_xla_optimization(f, *args)
        assert caught.value.hint
    for text in ('', 'HloModule nothing', 'ENTRY %main (p: f32[]) -> f32[] {\n  ROOT %p = f32[] parameter(0)\n}'):
        with pytest.raises(ProfilingError): _optimization(text, 'f')


def test_the_wrapper_costs_little(profiler):
    import time
    jitted = jax.jit(lambda x: x + 1)
    f, x = profiler.profile_jit_compilation(jitted), ones(4)
    def once(g):
        start = time.perf_counter()
        for _ in range(200): g(x)
        return (time.perf_counter() - start)/200
    for g in (f, jitted): once(g)
    assert min(once(f) for _ in range(5)) - min(once(jitted) for _ in range(5)) < 1e-3
