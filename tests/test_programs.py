"Programs: what goes in, what stays as it was, and what is refused."
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from calibrax.core.errors import ConfigError, ProfilingError
from calibrax.profiling.programs import trace_program

X = jnp.arange(12.0).reshape(3, 4)


def shapes(program): return [jnp.shape(leaf) for leaf in program.inputs]

def add(tree, *, by=1.0, mode='plus'): return jax.tree.map(lambda leaf: leaf + by if mode == 'plus' else leaf - by, tree)


@pytest.mark.parametrize('fn', [add, partial(add, by=1.0), lambda tree, **kwargs: add(tree, **kwargs)])
def test_only_arrays_go_in(fn):
    program = trace_program(fn, ({'a': X, 'b': [np.ones(2), None]},), {'mode': 'minus'})
    assert shapes(program) == [(3, 4), (2,)]
    np.testing.assert_allclose(program.call()['a'], X - 1)


def test_numbers_are_held_fixed_where_nothing_says_otherwise():
    program = trace_program(lambda x, layers: x*2 if layers > 3 else x, (X, 5))
    np.testing.assert_allclose(program.call(), X*2)


def test_numbers_are_inputs_of_a_compiled_function():
    program = trace_program(jax.jit(lambda x, n: jax.lax.fori_loop(0, n, lambda _, y: y + 1, x)), (X, 7))
    assert program.inputs[1] == 7 and len(program.jaxpr.jaxpr.invars) == 2
    np.testing.assert_allclose(program.call(), X + 7)


@pytest.mark.parametrize('kwargs', [{'static_argnums': 1}, {'static_argnames': 'mode'}])
def test_static_arguments(kwargs):
    program = trace_program(jax.jit(lambda x, mode: x + 1 if mode == 'plus' else x, **kwargs), (X, 'plus'))
    assert shapes(program) == [(3, 4)]
    np.testing.assert_allclose(program.call(), X + 1)


def test_static_numbers_hide_the_inputs():
    program = trace_program(jax.jit(lambda x, n: x*n, static_argnums=1), (X, 3))
    assert program.inputs is None and len(program.jaxpr.jaxpr.invars) == 1
    np.testing.assert_allclose(program.call(), X*3)


def test_closed_over_arrays_become_inputs():
    program = trace_program(lambda: X@X.T)
    assert shapes(program) == [(3, 4)] and program.jaxpr.consts in ((), [])
    np.testing.assert_allclose(program.call()[0], X@X.T)


def test_networks_stay_as_they_were():
    class Noisy(nnx.Module):
        def __init__(self, rngs): self.linear, self.norm, self.dropout = nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        def __call__(self, x): return self.dropout(self.norm(self.linear(x)))
    network = Noisy(nnx.Rngs(0))
    def values(): return [np.asarray(jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v) for v in jax.tree.leaves(nnx.state(network))]
    before = values()
    for program in (trace_program(network, (X,)), trace_program(lambda m, *, x: m(x), (network,), {'x': X})):
        program.call()
        program.call()
    for a, b in zip(before, values(), strict=True): np.testing.assert_array_equal(a, b)


def test_a_changing_network_must_be_an_argument():
    network = nnx.BatchNorm(4, rngs=nnx.Rngs(0))
    with pytest.raises(ProfilingError, match='must be an argument'): trace_program(lambda: network(X))


def test_networks_of_compiled_functions():
    network = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    program = trace_program(nnx.jit(lambda m, x: m(x)), (network, X))
    result = program.call()[0]
    np.testing.assert_allclose(result, network(X), rtol=1e-5)


def test_a_shared_network_goes_in_once():
    network = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
    assert shapes(trace_program(lambda a, b, x: a(b(x)), (network, network, X))) == [(4,), (4, 4), (3, 4)]


def test_random_keys_go_in():
    assert len(trace_program(lambda key: jax.random.normal(key, (3,)), (jax.random.key(0),)).inputs) == 1


def test_donated_arguments_survive():
    x = jnp.ones(5)
    program = trace_program(jax.jit(lambda x: x + 1, donate_argnums=0), (x,))
    assert program.donates
    np.testing.assert_allclose(program.call() + program.call(), 4)
    assert not x.is_deleted() and not trace_program(jax.jit(lambda x: x + 1), (x,)).donates


def test_times_only_when_made_anew():
    @jax.jit
    def f(x): return jnp.sin(x)@x.T
    f(X)
    cached = trace_program(f, (X,))
    assert (cached.trace_sec, cached.lower_sec, cached.compile_sec) == (None, None, None)
    for _ in range(2):
        program = trace_program(f, (X,), anew=True)
        assert program.compile_sec > 1e-3 and program.trace_sec > 0 and program.lower_sec > 0


def test_memory_is_what_goes_in_and_comes_out():
    memory = trace_program(lambda a, b: a@b, (jnp.ones((64, 32)), jnp.ones((32, 16)))).memory()
    assert memory['arguments'] == 4*(64*32 + 32*16) and memory['outputs'] == 4*64*16
    assert memory['peak'] >= memory['arguments'] + memory['outputs']


def test_parameters_are_no_results():
    memory = trace_program(nnx.Linear(256, 256, rngs=nnx.Rngs(0)), (jnp.ones((2, 256)),)).memory()
    assert memory['outputs'] == 4*2*256 and memory['arguments'] == 4*(256*256 + 256 + 2*256)


def test_shapes_may_stand_for_arrays():
    program = trace_program(jnp.dot, (jax.ShapeDtypeStruct((8, 4), 'float32'), jax.ShapeDtypeStruct((4,), 'float32')))
    assert program.cost()['flops'] >= 56
    with pytest.raises(ConfigError, match='shapes'): program.call()


def fails(x): raise ValueError('no such layer')

@pytest.mark.parametrize('fn, error, says', [
    (fails, ProfilingError, r'tracing fails raised ValueError: no such layer \(test_programs\.py, line \d+\)'),
    (jax.jit(fails), ProfilingError, 'no such layer'),
    (lambda x: np.asarray(x), ProfilingError, 'use jax.numpy'),
    (lambda x: 1 if x.sum() > 0 else 0, ProfilingError, 'TracerBoolConversionError'),
    (lambda x: 'text', ProfilingError, 'str'),
    (lambda x, y: x, ProfilingError, 'missing 1 required positional argument'),
    (X, ConfigError, 'a function is needed, found ArrayImpl'), (None, ConfigError, 'found NoneType'),
])
def test_what_cannot_be_traced_is_explained(fn, error, says):
    with pytest.raises(error) as caught: trace_program(fn, (X,))
    import re
    assert re.search(says, str(caught.value)) and caught.value.hint


def test_coroutines_are_refused():
    async def later(x): return x
    with pytest.raises(ConfigError, match='coroutine'): trace_program(later, (X,))


class Compiled(nnx.Module):
    "Has a method that Flax compiles, and what it changes"
    def __init__(self): self.layer, self.norm, self.count = nnx.Linear(4, 4, rngs=nnx.Rngs(0)), nnx.BatchNorm(4, rngs=nnx.Rngs(0)), 3
    @nnx.jit
    def step(self, x): return self.norm(self.layer(x))


def test_a_method_under_nnx_jit_is_traced_with_its_network():
    model, x = Compiled(), jnp.ones((8, 4))
    mean = model.norm.mean[...]
    for fn in (model.step, partial(Compiled.step, model)):
        program = trace_program(fn, (x,))
        assert program.name == 'step' and any(v.aval.shape == (4, 4) for v in program.jaxpr.jaxpr.invars)
        program.call()
        assert jnp.array_equal(model.norm.mean[...], mean)


def test_a_network_survives_tracing_that_fails(): # nnx.jit takes its attributes away and does not give them back
    model, x = Compiled(), jnp.ones((8, 4))
    def over_global(x): return SURVIVOR.step(x)     # noqa: F821
    globals()['SURVIVOR'] = other = Compiled()
    for fn in (lambda x: model.step(x), over_global):
        with pytest.raises(ProfilingError, match='TraceContextError'): trace_program(fn, (x,))
    for network in (model, other):
        assert {'layer', 'norm', 'count'} <= set(vars(network)) and network.step(x).shape == (8, 4)
