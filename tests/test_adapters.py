"Adapters: the right one for each object, NNX transformations work on it, and PyTorch is never imported."
import functools, subprocess, sys
from pathlib import Path
from types import ModuleType

import jax, jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from calibrax.core.adapters import (AdapterRegistry, BenchmarkAdapter, CallableAdapter, NNXBenchmarkAdapter, NoAdapterError, TorchAdapter, adapt,
                                    register_adapter)
from calibrax.core import adapters
from calibrax.core.errors import AdapterError


class Predictor(NNXBenchmarkAdapter):
    def predict(self, x): return self.model(x)

class Thing: pass

@pytest.fixture
def linear(): return nnx.Linear(3, 2, rngs=nnx.Rngs(0))

@pytest.fixture
def default(monkeypatch):
    "The default registry, with what a test adds taken back"
    before = list(adapters._default._classes)
    yield
    adapters._default._classes = before


# --- the base ------------------------------------------------------------------------------------------------------------

def named(**attributes): return type('Target', (), attributes)()

@pytest.mark.parametrize('target, name', [(named(name='a', model_name='b'), 'a'), (named(model_name='b'), 'b'), (named(name='', model_name='b'), 'b'),
                                          (named(name=None), 'unknown'), (object(), 'unknown'), ({'name': 'key'}, 'unknown')])
def test_names(target, name):
    adapter = BenchmarkAdapter(target)
    assert adapter.name == name and adapter.target is target and repr(adapter) == f"BenchmarkAdapter('{name}')"


def test_base_can_be_made_and_adapts_nothing():
    assert not BenchmarkAdapter.can_adapt(object())
    adapter = BenchmarkAdapter(target=3)
    for attribute in ('target', 'name'):
        with pytest.raises(AttributeError): setattr(adapter, attribute, 1)


def test_a_client_may_build_on_it():
    from abc import ABC, abstractmethod
    class Pipeline(BenchmarkAdapter, ABC):
        def __init__(self): super().__init__(target={'name': 'pipeline'})
        @property
        @abstractmethod
        def name(self): ...
    class Mine(Pipeline):
        @property
        def name(self): return 'mine'
    with pytest.raises(TypeError): Pipeline()
    assert Mine().name == 'mine'


# --- NNX -----------------------------------------------------------------------------------------------------------------

def test_is_a_module_that_holds_the_model(linear):
    adapter = NNXBenchmarkAdapter(linear)
    assert isinstance(adapter, nnx.Module) and adapter.model is linear and adapter.name == 'unknown'
    assert NNXBenchmarkAdapter.can_adapt(linear) and not NNXBenchmarkAdapter.can_adapt(3)
    with pytest.raises(TypeError, match='wants a Flax NNX module'): NNXBenchmarkAdapter(3)


def test_a_name_in_a_variable():
    class Named(nnx.Module):
        def __init__(self): self.model_name = nnx.Variable('my_model')
    assert NNXBenchmarkAdapter(Named()).name == 'my_model'


def test_transformations(linear):
    adapter, x = Predictor(linear), jnp.ones((4, 3))
    eager = adapter.predict(x)
    np.testing.assert_allclose(nnx.jit(Predictor.predict)(adapter, x), eager, rtol=1e-5)
    np.testing.assert_allclose(nnx.vmap(Predictor.predict, in_axes=(None, 0))(adapter, x), eager, rtol=1e-5)
    graph, state = nnx.split(adapter)
    np.testing.assert_array_equal(nnx.merge(graph, state).predict(x), eager)
    gradient = nnx.grad(lambda a, x: a.predict(x).sum())(adapter, x)
    np.testing.assert_allclose(jax.tree.leaves(nnx.to_pure_dict(gradient)['model']['bias'])[0], [4, 4])


# --- callables -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('function, name', [(len, 'len'), (functools.partial(max, 3), 'max'), ('text'.upper, 'upper'), (type('Call', (), {'__call__': lambda s: 1})(), 'Call')])
def test_callables_have_a_name(function, name): assert adapt(function).name == name


def test_callables_are_called():
    assert adapt(lambda a, *, b: a - b)(5, b=2) == 3


# --- registry ------------------------------------------------------------------------------------------------------------

def adapter_for(*kinds): return type('Made', (BenchmarkAdapter,), {'can_adapt': classmethod(lambda cls, t: isinstance(t, kinds)), '__qualname__': f'Made{kinds}'})

def test_newest_first():
    registry, general, special = AdapterRegistry(), adapter_for(object), adapter_for(int)
    registry.register(general); registry.register(special)
    assert type(registry.adapt(3)) is special and type(registry.adapt('x')) is general
    registry.register(general)
    assert type(registry.adapt(3)) is general and len(registry) == 2
    registry.reset()
    assert len(registry) == 0


def test_an_adapter_defined_anew_replaces_the_old_one():
    registry = AdapterRegistry()
    for _ in range(3): registry.register(new := adapter_for(int))
    assert len(registry) == 1 and type(registry.adapt(1)) is new


def test_nothing_fits():
    registry = AdapterRegistry()
    registry.register(adapter_for(int))
    with pytest.raises(ValueError, match='No adapter found for target of type str') as told: registry.adapt('x')
    assert isinstance(told.value, AdapterError) and isinstance(told.value, NoAdapterError) and 'Made' in told.value.hint
    with pytest.raises(ValueError, match='type str'): adapt('a text')
    with pytest.raises(ValueError, match='of type type') as told: adapt(Thing)
    assert 'make an object of Thing first' in told.value.hint
    with pytest.raises(ValueError, match='No adapter'): AdapterRegistry().adapt(1)


@pytest.mark.parametrize('wrong', [3, Thing, 'NNXBenchmarkAdapter', None])
def test_what_is_no_adapter(wrong):
    with pytest.raises(AdapterError, match='is no adapter class'): AdapterRegistry().register(wrong)


def test_default_registry(linear, default):
    assert type(adapt(linear)) is NNXBenchmarkAdapter and type(adapt(len)) is CallableAdapter
    special = type('Special', (NNXBenchmarkAdapter,), {})
    register_adapter(special)
    assert type(adapt(linear)) is special


def test_display():
    registry = AdapterRegistry()
    registry.register(adapter_for(int)); registry.register(CallableAdapter)
    assert repr(registry).index('CallableAdapter') < repr(registry).index('Made') and '<table>' in registry._repr_html_()


# --- PyTorch, by a stand-in that has what is used of it ----------------------------------------------------------------------

class Tensor:
    def __init__(self, array, dtype=None, device='cpu'): self.array, self.dtype, self.device, self.recorded = np.asarray(array), dtype or np.asarray(array).dtype.name, device, True
    def to(self, where):
        return Tensor(self.array, where) if where == 'bfloat16' else Tensor(self.array, self.dtype, where)
    def detach(self): return self
    def cpu(self): return Tensor(self.array, self.dtype)
    def float(self): return Tensor(self.array.astype(np.float32), 'float32')
    def numpy(self):
        assert self.dtype != 'bfloat16' and self.device == 'cpu'
        return self.array
    def __array__(self, *_, **__): raise TypeError('cannot convert a device tensor')

class Module:
    training = True
    def __init__(self, *parts): self.parts = parts
    def parameters(self): return iter([Tensor(0., device='gpu:1')])
    def modules(self): return [self, *self.parts]
    def eval(self):
        for m in self.modules(): m.training = False
        return self
    def __call__(self, *a, **k): return self.forward(*a, **k)

@pytest.fixture
def torch(monkeypatch):
    fake = ModuleType('torch')
    fake.nn, fake.bfloat16, fake.grad_off = ModuleType('torch.nn'), 'bfloat16', []
    fake.nn.Module = Module
    fake.is_tensor = lambda v: isinstance(v, Tensor)
    fake.tensor = lambda array, device: Tensor(array, device=device)
    class inference_mode:
        def __enter__(self): fake.grad_off.append('on')
        def __exit__(self, *_): fake.grad_off.append('off')
    fake.inference_mode = inference_mode
    monkeypatch.setitem(sys.modules, 'torch', fake)
    return fake


def test_torch_modules_are_found_and_called(torch):
    class Double(Module):
        def forward(self, x, *, scale):
            assert not self.training and not self.parts[0].training and torch.grad_off == ['on'] and x.device == 'gpu:1'
            return {'twice': Tensor(x.array*2, device=x.device), 'scale': scale, 'both': (x, [x])}
    frozen = Module()
    frozen.training = False
    model = Double(frozen, Module())
    adapter = adapt(model)
    assert type(adapter) is TorchAdapter and adapter.name == 'unknown'
    out = adapter(jnp.arange(3.), scale=2)
    assert isinstance(out['twice'], np.ndarray) and out['twice'].tolist() == [0, 2, 4] and out['scale'] == 2
    assert isinstance(out['both'], tuple) and isinstance(out['both'][1][0], np.ndarray)
    assert [m.training for m in model.modules()] == [True, False, True] and torch.grad_off == ['on', 'off']


def test_torch_mode_is_put_back_after_an_error(torch):
    class Broken(Module):
        def forward(self): raise RuntimeError('no kernel')
    model = Broken()
    with pytest.raises(RuntimeError, match='no kernel'): adapt(model)()
    assert model.training


def test_torch_bfloat16_goes_by_way_of_float32(torch):
    class Same(Module):
        def forward(self, x):
            assert x.dtype == 'bfloat16'
            return x
    assert adapt(Same())(jnp.ones(2, jnp.bfloat16)).dtype == np.float32


def test_without_torch_nothing_is_imported():
    code = '''import sys
from calibrax.core.adapters import TorchAdapter, adapt
class Module: __module__ = "torch.nn"
print(TorchAdapter.can_adapt(Module()), TorchAdapter.can_adapt(len), "torch" in sys.modules)'''
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout
    assert out.split() == ['False']*3


def test_half_imported_torch_is_no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', ModuleType('torch'))
    assert not TorchAdapter.can_adapt(Module())
    monkeypatch.setitem(sys.modules, 'torch', None)
    assert not TorchAdapter.can_adapt(Module())
