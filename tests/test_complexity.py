"""Layers, parameters and operations of models: sums, names inside transformations, and a model that stays as it was."""
import math, threading

import pytest

jax = pytest.importorskip('jax')
nnx = pytest.importorskip('flax.nnx')
import jax.numpy as jnp
import numpy as np

from calibrax.core.errors import ConfigError, ProfilingError
from calibrax.profiling.complexity import ComplexityResult, LayerComplexity, analyze_complexity
from calibrax.profiling.flops import program_flops
from calibrax.profiling.programs import trace_program

listed = getattr(nnx, 'List', list)


# --- models --------------------------------------------------------------------------------------------------------------

def rngs(): return nnx.Rngs(0)

class MLP(nnx.Module):
    def __init__(self, *sizes, dtype=jnp.float32):
        self.layers = listed([nnx.Linear(a, b, param_dtype=dtype, rngs=rngs()) for a, b in zip(sizes, sizes[1:])])

    def __call__(self, x):
        for layer in self.layers: x = nnx.relu(layer(x))
        return x

class CNN(nnx.Module):
    def __init__(self):
        streams = rngs()
        self.conv = nnx.Conv(3, 8, kernel_size=(3, 3), rngs=streams)
        self.norm = nnx.BatchNorm(8, rngs=streams)
        self.dropout = nnx.Dropout(0.3, rngs=streams)
        self.head = nnx.Linear(8, 5, rngs=streams)

    def __call__(self, x): return self.head(self.dropout(nnx.relu(self.norm(self.conv(x))).mean((1, 2))))

class Block(nnx.Module):
    def __init__(self, width, streams):
        self.attention = nnx.MultiHeadAttention(2, width, decode=False, rngs=streams)
        self.norm = nnx.LayerNorm(width, rngs=streams)
        self.mlp = nnx.Sequential(nnx.Linear(width, 2*width, rngs=streams), nnx.gelu, nnx.Linear(2*width, width, rngs=streams))

    def __call__(self, x, mask=None):
        y = self.norm(x)
        x = x + self.attention(y, mask=mask)
        return x + self.mlp(x)

class Transformer(nnx.Module):
    def __init__(self, depth=2):
        streams = rngs()
        self.embed = nnx.Embed(50, 16, rngs=streams)
        self.blocks = listed([Block(16, streams) for _ in range(depth)])

    def __call__(self, tokens, mask=None):
        x = self.embed(tokens)
        for block in self.blocks: x = block(x, mask)
        return self.embed.attend(x)

class Recurrent(nnx.Module):
    def __init__(self): self.rnn, self.head = nnx.RNN(nnx.LSTMCell(4, 8, rngs=rngs())), nnx.Linear(8, 2, rngs=rngs())
    def __call__(self, x): return self.head(self.rnn(x)[:, -1])

class Scanned(nnx.Module):
    "A stack of layers as one layer with stacked parameters"
    def __init__(self):
        @nnx.split_rngs(splits=4)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def make(streams): return nnx.Linear(6, 6, rngs=streams)
        self.layers = make(rngs())

    def __call__(self, x):
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        def forward(layer, x): return nnx.relu(layer(x))
        return forward(self.layers, x)

class Rematerialised(nnx.Module):
    def __init__(self): self.inner = MLP(6, 7, 8)
    def __call__(self, x): return nnx.remat(lambda m, x: m(x))(self.inner, x)

class Ensemble(nnx.Module):
    def __init__(self):
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def make(streams): return nnx.Linear(6, 5, rngs=streams)
        self.members = make(rngs())

    def __call__(self, x): return nnx.vmap(lambda m, x: m(x), in_axes=(0, None))(self.members, x).mean(0)

class Compiled(nnx.Module):
    "Equal layers, whose calls are compiled functions: each must be traced under its own name"
    def __init__(self): self.one, self.two = Inner(), Inner()
    def __call__(self, x): return self.two(self.one(x))

class Inner(nnx.Module):
    def __init__(self): self.linear = nnx.Linear(6, 6, rngs=rngs())
    @nnx.jit
    def __call__(self, x): return jnp.tanh(self.linear(x))

class Gradient(nnx.Module):
    "A model whose output is a derivative"
    def __init__(self): self.energy = MLP(6, 8, 1)
    def __call__(self, x): return jax.grad(lambda x: self.energy(x).sum())(x)

MODELS = {
    'linear': (lambda: nnx.Linear(6, 5, rngs=rngs()), (3, 6)),
    'mlp': (lambda: MLP(6, 7, 5), (3, 6)),
    'cnn': (CNN, (2, 8, 8, 3)),
    'transformer': (Transformer, jax.ShapeDtypeStruct((2, 5), 'int32')),
    'recurrent': (Recurrent, (2, 7, 4)),
    'scanned': (Scanned, (3, 6)),
    'remat': (Rematerialised, (3, 6)),
    'ensemble': (Ensemble, (3, 6)),
    'compiled': (Compiled, (3, 6)),
    'gradient': (Gradient, (3, 6)),
}
each_model = pytest.mark.parametrize('make, given', MODELS.values(), ids=MODELS)

def analyze(model, *inputs, **keywords): return analyze_complexity(model, *inputs, **{'compile': False, **keywords})

def layer(result, path): return next(o for o in result.layers if o.path == path)

def flops(result): return {o.path: o.flops for o in result.layers}


# --- sums ----------------------------------------------------------------------------------------------------------------

@each_model
def test_layers_add_up_to_the_program(make, given):
    model = make()
    result = analyze(model, given)
    example = jax.ShapeDtypeStruct(given, 'float32') if isinstance(given, tuple) else given
    assert result.total_estimated_operations == sum(flops(result).values()) == program_flops(trace_program(model, (example,))).total_flops > 0
    assert sum(result.operations.values()) == result.total_estimated_operations
    assert sum(o.share for o in result.layers) == pytest.approx(1)


@each_model
def test_parameters_are_those_of_the_state(make, given):
    model = make()
    result = analyze(model, given)
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert result.total_parameters == sum(o.parameters for o in result.layers) == sum(leaf.size for leaf in leaves)
    assert result.parameter_memory_mb*1024**2 == pytest.approx(sum(leaf.nbytes for leaf in leaves))
    others = jax.tree.leaves(nnx.state(model, nnx.Not(nnx.Param)))
    assert sum(result.state_memory_mb.values())*1024**2 == pytest.approx(sum(leaf.size*leaf.dtype.itemsize for leaf in others))


@each_model
def test_the_model_stays_as_it_was(make, given):
    model = make()
    before, methods = jax.tree.leaves(nnx.state(model)), {c: dict(vars(c)) for c in {type(m) for _, m in nnx.iter_graph(model) if isinstance(m, nnx.Module)}}
    graph = nnx.graphdef(model)
    analyze(model, given)
    assert all(a is b for a, b in zip(before, jax.tree.leaves(nnx.state(model)), strict=True))
    assert nnx.graphdef(model) == graph
    assert {c: dict(vars(c)) for c in methods} == methods


@each_model
def test_records_survive_a_file(make, given):
    result = analyze(make(), given)
    assert ComplexityResult.from_json(result.to_json()) == result
    assert all(LayerComplexity.from_dict(o.to_dict()) == o for o in result.layers)
    assert len(repr(result).splitlines()) > 3 and '<table>' in result._repr_html_()


# --- counts that one can check by hand -----------------------------------------------------------------------------------

def test_linear_and_convolution():
    result = analyze(MLP(6, 7, 5), (3, 6))
    assert flops(result) == {'': 3*7 + 3*5, 'layers/0': 2*3*6*7 + 3*7, 'layers/1': 2*3*7*5 + 3*5}
    assert [o.parameters for o in result.layers] == [0, 6*7 + 7, 7*5 + 5]
    assert [o.output_shapes for o in result.layers] == [((3, 5),), ((3, 7),), ((3, 5),)]
    assert (result.dominant_complexity, result.largest_layer_name, result.largest_layer_params, result.input_shape) == ('linear_operations', 'layers/0', 49, (3, 6))
    result = analyze(CNN(), (2, 8, 8, 3))
    assert layer(result, 'conv').flops == 2*2*8*8*8*3*3*3 + 2*8*8*8
    assert result.dominant_complexity == 'convolution_operations'
    assert layer(result, 'conv').activation_mb == 2*8*8*8*4/1024**2


def test_the_published_fault():
    "Published: the shape of the input decided all, and a dense model was convolutional"
    small, large = analyze(MLP(16, 2), (32, 16)), analyze(MLP(16, 2048, 16), (32, 16))
    assert small.total_estimated_operations < large.total_estimated_operations == 2*2*32*16*2048 + 2*32*(2048 + 16)
    assert small.dominant_complexity == large.dominant_complexity == 'linear_operations'


def test_a_loop_counts_as_often_as_it_runs():
    once, often = (analyze(Recurrent(), (2, n, 4)) for n in (1, 7))
    assert layer(often, 'rnn/cell/hi').flops == 7*layer(once, 'rnn/cell/hi').flops == 7*(2*2*8*8 + 2*8)
    assert layer(analyze(Scanned(), (3, 6)), 'layers').flops == 4*(2*3*6*6 + 3*6)


def test_memory_by_type_of_the_parameters():
    full, half = analyze(MLP(8, 8), (1, 8)), analyze(MLP(8, 8, dtype=jnp.bfloat16), (1, 8))
    assert full.parameter_memory_mb == 2*half.parameter_memory_mb == 72*4/1024**2
    assert full.total_parameters == half.total_parameters


# --- names ---------------------------------------------------------------------------------------------------------------

def test_names_inside_transformations():
    assert flops(analyze(Rematerialised(), (3, 6)))['inner/layers/0'] == 2*3*6*7 + 3*7
    assert flops(analyze(Ensemble(), (3, 6)))['members'] == 3*(2*3*6*5 + 3*5)
    compiled = flops(analyze(Compiled(), (3, 6)))
    assert compiled['one/linear'] == compiled['two/linear'] == 2*3*6*6 + 3*6
    gradient = flops(analyze(Gradient(), (3, 6)))
    assert gradient['energy/layers/0'] >= 2*2*3*6*8 and gradient['energy/layers/1'] >= 2*2*3*8      # forward and back


def test_compiled_layers_have_names_again_in_a_second_analysis():
    model = Compiled()
    first, second = analyze(model, (3, 6)), analyze(model, (3, 6))
    assert first == second and first.layers[-1].output_shapes == ((3, 6),)
    model(jnp.ones((3, 6)))
    assert analyze(model, (3, 6)) == first


def test_called_twice_counts_twice():
    class Twice(nnx.Module):
        def __init__(self): self.linear = nnx.Linear(6, 6, rngs=rngs())
        def __call__(self, x): return self.linear(self.linear(x))
    result = analyze(Twice(), (3, 6))
    assert layer(result, 'linear').flops == 2*(2*3*6*6 + 3*6)
    assert result.total_parameters == 42


def test_other_methods_belong_to_their_layer_and_private_ones_to_the_caller():
    result = analyze(Transformer(), jax.ShapeDtypeStruct((2, 5), 'int32'))
    assert layer(result, 'embed').flops == 2*2*5*16*50
    class Hidden(nnx.Module):
        def __init__(self): self.linear = nnx.Linear(6, 6, rngs=rngs())
        def _inside(self, x): return self.linear(x)
    class Outer(nnx.Module):
        def __init__(self): self.hidden = Hidden()
        def __call__(self, x): return self.hidden._inside(x)*2
    assert flops(analyze(Outer(), (3, 6))) == {'': 18, 'hidden': 0, 'hidden/linear': 2*3*6*6 + 18}


def test_methods_of_a_base_class_count_once():
    class Base(nnx.Module):
        def __init__(self): self.linear = nnx.Linear(6, 6, rngs=rngs())
        def __call__(self, x): return self.linear(x)
    class Derived(Base):
        def __call__(self, x): return super().__call__(x) + x
    class Both(nnx.Module):
        def __init__(self): self.base, self.derived = Base(), Derived()
        def __call__(self, x): return self.derived(self.base(x))
    assert flops(analyze(Both(), (3, 6))) == {'': 0, 'base': 0, 'base/linear': 234, 'derived': 18, 'derived/linear': 234}


def test_shared_parameters_and_modules_count_once():
    class Shared(nnx.Module):
        def __init__(self):
            self.embed = nnx.Embed(10, 4, rngs=rngs())
            self.block = MLP(4, 4)
            self.again = self.block
            self.head = nnx.Linear(4, 4, use_bias=False, rngs=rngs())
            self.head.kernel = self.block.layers[0].kernel
        def __call__(self, tokens): return self.head(self.again(self.block(self.embed(tokens))))
    result = analyze(Shared(), jnp.zeros((3,), int))
    assert [o.path for o in result.layers] == ['', 'embed', 'block', 'block/layers/0', 'head']
    assert (layer(result, 'head').parameters, dict(layer(result, 'head').shared)) == (0, {'kernel': 'block/layers/0/kernel'})
    assert layer(result, 'block').aliases == ('again',) and layer(result, 'block/layers/0').flops == 2*(2*3*4*4 + 12)
    assert result.total_parameters == 40 + 20
    assert 'block is also again' in repr(result) and 'kernel of head is shared' in result._repr_html_()


def test_names_of_layers_in_dictionaries_and_lists():
    class Nested(nnx.Module):
        def __init__(self):
            heads = {name: nnx.Linear(4, n, rngs=rngs()) for name, n in (('b', 2), ('a', 3))}
            self.heads = nnx.data(heads) if hasattr(nnx, 'data') else heads
            self.scale = nnx.Param(jnp.ones(4))
            self.table = jnp.ones((4, 4))
        def __call__(self, x): return {name: head(x*self.scale@self.table) for name, head in self.heads.items()}
    result = analyze(Nested(), (3, 4))
    assert {o.path: o.parameters for o in result.layers} == {'': 4, 'heads/a': 15, 'heads/b': 10}
    assert layer(result, '').output_shapes == ((3, 3), (3, 2)) and result.state_memory_mb == {'array': 64/1024**2}


def test_layers_stacked_by_hand():
    "Marks that differ would keep equal layers from being stacked; with equal ones the first takes the operations"
    class Stacked(nnx.Module):
        def __init__(self): self.layers = listed([nnx.Linear(6, 6, rngs=rngs()) for _ in range(3)])
        def __call__(self, x):
            graphs, states = zip(*(nnx.split(o) for o in self.layers))
            assert all(g == graphs[0] for g in graphs)
            stacked = jax.tree.map(lambda *a: jnp.stack(a), *states)
            return jax.lax.scan(lambda x, state: (nnx.merge(graphs[0], state)(x), None), x, stacked)[0]
    result = analyze(Stacked(), (3, 6))
    assert flops(result) == {'': 0, 'layers/0': 3*234, 'layers/1': 0, 'layers/2': 0}


# --- what goes in --------------------------------------------------------------------------------------------------------

def test_inputs_of_every_kind():
    class Several(nnx.Module):
        def __init__(self): self.linear = nnx.Linear(4, 4, rngs=rngs())
        def __call__(self, x, batch, *, deep=False, bias=None, name='x'):
            assert name in ('x', 'y')
            x = self.linear(x + batch['y'])
            if deep: x = self.linear(x)
            return x if bias is None else x + bias
    model, y = Several(), {'y': jnp.ones((3, 4))}
    base = analyze(model, (3, 4), y)
    assert base.input_shape == (3, 4)
    assert analyze(model, jnp.ones((3, 4)), y, name='y') == base == analyze(model, np.ones((3, 4)), y) == analyze(model, jax.ShapeDtypeStruct((3, 4), 'float32'), y)
    assert analyze(model, [3, 4], y) == base == analyze(model, (np.int64(3), 4), y)
    assert analyze(model, (3, 4), y, deep=True).layers[1].flops == 2*base.layers[1].flops
    assert analyze(model, (3, 4), y, bias=jnp.ones(4)).total_estimated_operations == base.total_estimated_operations + 12
    assert analyze(model, x=jnp.ones((3, 4)), batch=y).layers == base.layers
    assert analyze_complexity(nnx.Linear(4, 4, rngs=rngs()), input_shape=(3, 4)).input_shape == (3, 4)


def test_a_model_without_inputs_and_another_method():
    class Prior(nnx.Module):
        def __init__(self): self.table = nnx.Param(jnp.ones((4, 4)))
        def __call__(self): return self.table[...]@self.table[...]
        def encode(self, x): return x@self.table[...]
    assert analyze(Prior()).total_estimated_operations == 2*4*4*4
    assert analyze(Prior()).input_shape == () and not analyze(Prior()).scaling_characteristics
    assert analyze(Prior(), (3, 4), method='encode').total_estimated_operations == 2*3*4*4


def test_random_streams_as_an_argument_stay_as_they_are():
    class Noisy(nnx.Module):
        def __init__(self): self.dropout = nnx.Dropout(0.5)
        def __call__(self, x, *, rngs): return self.dropout(x, rngs=rngs)
    streams = nnx.Rngs(dropout=1)
    assert analyze(Noisy(), (3, 4), rngs=streams).layers[1].output_shapes == ((3, 4),)
    assert int(streams.dropout.count[...]) == 0


def test_training_and_evaluation_are_the_callers():
    model = CNN()
    training = analyze(model, (2, 8, 8, 3))
    model.eval()
    evaluation = analyze(model, (2, 8, 8, 3))
    assert layer(training, 'norm').flops > layer(evaluation, 'norm').flops
    assert layer(training, 'dropout').flops > layer(evaluation, 'dropout').flops == 0
    assert model.norm.use_running_average and model.dropout.deterministic


def test_an_abstract_model_is_enough():
    abstract = nnx.eval_shape(lambda: MLP(6, 7, 5))
    assert analyze(abstract, (3, 6)) == analyze(MLP(6, 7, 5), (3, 6))


def test_results_that_are_no_arrays():
    class Odd(nnx.Module):
        def __init__(self): self.linear = nnx.Linear(4, 4, rngs=rngs())
        def __call__(self, x): return {'y': self.linear(x), 'name': 'odd', 'n': 3, 'none': None}
    assert analyze(Odd(), (3, 4)).layers[0].output_shapes == ((3, 4),)


# --- growth and memory ---------------------------------------------------------------------------------------------------

def test_growth_is_measured():
    result = analyze(MLP(6, 7, 5), (3, 6))
    assert dict(result.scaling_characteristics) == {'batch': 'O(N^1.00)'}
    assert 'spatial' in result.unavailable
    result = analyze(CNN(), (2, 8, 8, 3))
    assert result.scaling_exponents['spatial'] == pytest.approx(1, abs=0.1)     # N is the number of pixels
    long = analyze(Transformer(), jax.ShapeDtypeStruct((1, 2048), 'int32'), mask=jax.ShapeDtypeStruct((1, 1, 2048, 2048), 'bool'))
    assert long.scaling_exponents['spatial'] > 1.8 and long.dominant_complexity == 'attention_operations'
    class Fourier(nnx.Module):
        def __call__(self, x): return jnp.fft.rfft(x).real
    result = analyze(Fourier(), (4, 1024))
    assert result.dominant_complexity == 'fft_operations' and 1 < result.scaling_exponents['spatial'] < 1.2


def test_memory_is_that_of_the_compiled_program():
    result = analyze_complexity(MLP(256, 512, 256), (64, 256))
    parameters, ends = 256*512*2 + 512 + 256, 2*64*256
    assert (parameters + ends)*4 <= result.estimated_memory_mb*1024**2 <= (parameters + ends + 3*64*512)*4
    assert 0 < result.scaling_exponents['batch_memory'] < 1
    assert 'estimated_memory_mb' not in result.unavailable
    bare = analyze(MLP(6, 7), (3, 6))
    assert bare.estimated_memory_mb is None and bare.unavailable['estimated_memory_mb'] == 'the program was not compiled'


class Opaque(nnx.Module):
    def __init__(self): self.linear, self.callback = nnx.Linear(4, 4, rngs=rngs()), Callback()
    def __call__(self, x): return self.callback(self.linear(x))

class Callback(nnx.Module):
    def __call__(self, x): return jax.pure_callback(np.tanh, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

def test_unknown_is_said_and_never_zero():
    result = analyze(Opaque(), (3, 4))
    assert (result.total_estimated_operations, result.dominant_complexity, layer(result, 'callback').flops) == (None, None, None)
    assert layer(result, 'linear').flops == 2*3*4*4 + 12 and 'pure_callback' in layer(result, 'callback').reason
    assert {'total_estimated_operations', 'dominant_complexity'} <= set(result.unavailable)
    assert not result.scaling_characteristics and all(o.share is None for o in result.layers)
    assert 'unknown' in repr(result) and ComplexityResult.from_json(result.to_json()) == result
    assert result.folded(0)[0].flops is None and 'pure_callback' in result.folded(0)[0].reason
    result.plot()


# --- faults --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('bad', [None, 3, jnp.ones(3), lambda x: x, MLP, 'model'])
def test_only_models(bad):
    with pytest.raises(ConfigError, match=r'a flax.nnx.Module is needed'): analyze(bad, (1, 2))


@pytest.mark.parametrize('shape', [(0, 6), (-1, 6), [3, 0], (2.5, 6), (float('nan'), 6), (True, 0)])
def test_only_shapes(shape):
    with pytest.raises(ConfigError, match='at least 1'): analyze(MLP(6, 7), shape)


def test_the_layer_that_does_not_fit_is_named():
    kept = dict(vars(nnx.Linear))
    with pytest.raises(ProfilingError, match=r"layer 'layers/0' \(Linear\) raised TypeError: dot_general") as e: analyze(MLP(6, 7), (3, 5))
    assert e.value.details['layer'] == 'layers/0' and 'ShapeDtypeStruct' in e.value.hint and isinstance(e.value.__cause__, TypeError)
    with pytest.raises(ProfilingError, match=r"layer 'embed' \(Embed\) raised"): analyze(Transformer(), (2, 5))
    assert dict(vars(nnx.Linear)) == kept


def test_a_model_that_raises():
    class Raising(nnx.Module):
        def __init__(self): self.fine = nnx.Linear(4, 4, rngs=rngs())
        def __call__(self, x):
            self.fine(x)
            raise KeyError('lost')
    kept = dict(vars(Raising))
    with pytest.raises(ProfilingError, match=r"the model \(Raising\) raised KeyError: 'lost'"): analyze(Raising(), (3, 4))
    assert dict(vars(Raising)) == kept
    with pytest.raises(ProfilingError, match=r"layer 'layers/0' \(Raising\) raised TypeError: .*positional arguments"): analyze(nnx.Sequential(Raising()), (3, 4), (3, 4))
    with pytest.raises(ConfigError, match="has no method 'encode'"): analyze(Raising(), (3, 4), method='encode')
    class Silent(nnx.Module): pass
    with pytest.raises(ConfigError, match="has no method '__call__'"): analyze(Silent(), (3, 4))


def test_an_error_that_the_model_handles_is_none():
    class Trying(nnx.Module):
        def __init__(self): self.wrong, self.right = nnx.Linear(5, 4, rngs=rngs()), nnx.Linear(4, 4, rngs=rngs())
        def __call__(self, x):
            try: return self.wrong(x)
            except TypeError: return self.right(x)
    assert flops(analyze(Trying(), (3, 4)))['right'] == 2*3*4*4 + 12


def test_other_threads_run_the_model_meanwhile():
    model, x, stop, faults = MLP(6, 7, 5), jnp.ones((3, 6)), threading.Event(), []
    expected, base, kept = model(x), analyze(MLP(6, 7, 5), (3, 6)), dict(vars(MLP))
    def run():
        while not stop.is_set():
            if not np.array_equal(model(x), expected): faults.append('a wrong result')
    def analyses():
        try:
            for _ in range(5):
                if analyze(MLP(6, 7, 5), (3, 6)) != base: faults.append('a wrong analysis')
        except Exception as e: faults.append(repr(e))
    runner, analysts = threading.Thread(target=run), [threading.Thread(target=analyses) for _ in range(3)]
    runner.start()
    for t in analysts: t.start()
    for t in analysts: t.join()
    stop.set()
    runner.join()
    assert not faults and dict(vars(MLP)) == kept


def test_an_analysis_within_a_traced_model():
    class Curious(nnx.Module):
        def __init__(self): self.inner = nnx.Linear(4, 4, rngs=rngs())
        def __call__(self, x):
            self.size = analyze(MLP(6, 7), (3, 6)).total_parameters
            return self.inner(x)
    assert flops(analyze(Curious(), (3, 4))) == {'': 0, 'inner': 2*3*4*4 + 12}


# --- looking at it -------------------------------------------------------------------------------------------------------

def test_deep_models_fold_to_a_glance():
    result = analyze(Transformer(depth=12), jax.ShapeDtypeStruct((2, 5), 'int32'))
    assert len(result.layers) > 80
    table = result.table()
    assert len(table.rows) <= 41 and 'folded at depth 1 of' in table.caption
    assert len(result.table(depth=9).rows) > 60
    for depth in range(5):
        folded = result.folded(depth)
        assert sum(o.flops for o in folded) == result.total_estimated_operations
        assert sum(o.parameters for o in folded) == result.total_parameters
    assert [o.path for o in result.folded(0)] == [''] and len(result.folded(1)) == 14
    assert result.folded(99) == result.layers


def test_pictures():
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    result = analyze(Transformer(), jax.ShapeDtypeStruct((2, 5), 'int32'))
    figure, axes = result.plot(top=3)
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert len(labels) == 4 and labels[-1].endswith('others') and axes.get_xlabel() == 'share of the model [%]'
    blue = [p.get_width() for p in axes.patches[:4]]
    assert math.isclose(sum(blue), 100)
    given = plt.figure().add_subplot()
    assert result.plot(given, depth=1)[1] is given and len(given.get_yticklabels()) == 3
    class Empty(nnx.Module):
        def __call__(self, x): return x
    analyze(Empty(), (3, 4)).plot()
    assert analyze(Empty(), (3, 4)).total_estimated_operations == 0 and analyze(Empty(), (3, 4)).dominant_complexity is None
    with pytest.raises(ConfigError, match='top must be'): result.plot(top=0)
    plt.close('all')
