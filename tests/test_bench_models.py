"Models of the benchmark toolkit: adapters, batches of fixed shape, devices, wrappers, and the registry."
import json, logging, os, pickle, subprocess, sys
from collections import namedtuple
from dataclasses import dataclass

import jax, jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings, strategies as st

from calibrax.bench import devices
from calibrax.bench.adapters import (IMAGENET_MEAN, IMAGENET_STD, ImageInput, InputAdapter, Modalities, OutputAdapter, Prepared, ResizeToInput, crop_image, finalize_batch,
                                     input_adapter, labels_from_logits, map_arrays, named_arrays, output_adapter, pad_image, prepare_batch, probabilities_from_logits,
                                     resize_image, split_output, stack_payloads, to_numpy)
from calibrax.bench.checkpoints import CHECKPOINT_KINDS, load_checkpoint
from calibrax.bench.devices import Device, resolve_device, synchronize
from calibrax.bench.invokers import FlaxInvoker, Invoker, count_parameters
from calibrax.bench.models import BenchmarkableModel, ModelEntry, from_flax, from_function, from_huggingface, from_torch, get_model, list_models, register_model
from calibrax.bench import models
from calibrax.bench.samples import Sample
from calibrax.core.errors import AdapterError, CalibraxError, ConfigError, DatasetError, ModelError, RegistryError
from calibrax.profiling.flops import count_flops


def pictures(n, height=6, width=8, **inputs):
    rng = np.random.default_rng(n)
    return [Sample(id=f's{i}', inputs={'rgb': rng.integers(0, 256, (height, width, 3), dtype=np.uint8), **{k: v(i) for k, v in inputs.items()}}) for i in range(n)]

def refuses(error, text, function, *args, **kwargs):
    "The call raises one of our errors, with a hint"
    with pytest.raises(error, match=text) as caught: function(*args, **kwargs)
    assert isinstance(caught.value, CalibraxError) and caught.value.hint
    return caught.value

class Heard(logging.Handler):
    "What a logger says while this is entered"
    def __init__(self, name):
        super().__init__()
        self.records, self.logger = [], logging.getLogger(name)
    def emit(self, record): self.records.append(f'{record.levelname} {record.getMessage()}')
    def __enter__(self): self.logger.addHandler(self); return self
    def __exit__(self, *error): self.logger.removeHandler(self)

class Net(nnx.Module):
    "A convolution with dropout and batch normalisation, which notes each trace"
    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.conv, self.norm, self.drop = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(.5, rngs=rngs)
    def __call__(self, rgb):
        Net.traces.append(rgb.shape)
        return self.drop(self.norm(self.conv(rgb/255.)))
    traces = []

@pytest.fixture
def traces():
    Net.traces.clear()
    return Net.traces


# --- the way in ----------------------------------------------------------------------------------------------------------

def test_names_of_modalities():
    sample = Sample(id='a', inputs={'rgb': np.zeros((2, 2, 3)), 'depth': np.ones((2, 2))}, pose=np.eye(4), intrinsics=np.eye(3))
    assert input_adapter('rgb').prepare(sample).payload is sample.inputs['rgb']
    assert list(input_adapter(['depth', 'pose', 'intrinsics']).prepare(sample).payload) == ['depth', 'pose', 'intrinsics']
    assert list(input_adapter(('rgb',)).prepare(sample).payload) == ['rgb']
    error = refuses(AdapterError, "sample 'a' has no input 'thermal'", input_adapter('thermal').prepare, sample)
    assert error.hint == 'its inputs are rgb, depth, pose, intrinsics' and error.details == {'samples': ['a'], 'modality': 'thermal'}
    assert 'none at all' in refuses(AdapterError, 'has no input', input_adapter('rgb').prepare, Sample(id='b', inputs={})).hint


@pytest.mark.parametrize('wrong', [3, None, (), ['rgb', 3], Modalities])
def test_what_is_no_input_adapter(wrong):
    with pytest.raises((AdapterError, TypeError)) as caught: prepare_batch(input_adapter(wrong), pictures(1))
    assert isinstance(caught.value, AdapterError) and caught.value.hint


def test_adapters_are_told_by_their_methods():
    class Both:
        def prepare(self, sample): return Prepared(payload=sample.inputs['rgb'], context=1)
        def finalize(self, output, context, sample): return output
    assert isinstance(Both(), InputAdapter) and isinstance(Both(), OutputAdapter) and input_adapter(both := Both()) is both and output_adapter(both) is both


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.sampled_from([None, 1, 3]), st.sampled_from([np.uint8, np.float32, np.int32, bool]))
@settings(max_examples=60, deadline=None)
def test_resizing_keeps_type_range_and_constants(height, width, new_height, new_width, channels, dtype):
    shape = (height, width) if channels is None else (height, width, channels)
    image = (np.random.default_rng(0).random(shape)*9).astype(dtype)
    for method in ('bilinear', 'nearest'):
        found = resize_image(image, (new_height, new_width), method)
        assert found.shape == (new_height, new_width, *shape[2:]) and found.dtype == dtype and image.min() <= found.min() and found.max() <= image.max()
        assert np.array_equal(resize_image(np.full(shape, 3, dtype), (new_height, new_width), method), np.full(found.shape, 3, dtype))
    assert set(np.unique(resize_image(image, (new_height, new_width), 'nearest'))) <= set(np.unique(image))


def test_resizing_by_halves_is_the_usual_bilinear_filter():
    image = np.arange(64, dtype=np.float32).reshape(8, 8)
    expected = jax.image.resize(jnp.asarray(image), (4, 4), 'bilinear', antialias=True)
    assert np.allclose(resize_image(image, (4, 4)), expected, atol=1e-4) and np.allclose(resize_image(image, (16, 16)), jax.image.resize(jnp.asarray(image), (16, 16), 'bilinear'), atol=1e-4)
    refuses(AdapterError, 'an image has shape', resize_image, np.zeros(3), (2, 2))
    refuses(AdapterError, 'no method of resizing', resize_image, image, (2, 2), 'cubic')


def test_image_input():
    sample = Sample(id='a', inputs={'rgb': np.full((4, 6, 3), 255, np.uint8), 'gray': np.full((4, 6), 65535, np.uint16), 'float': np.full((4, 6, 3), .5), 'row': np.zeros(4)})
    made = ImageInput().prepare(sample)
    assert made.payload.dtype == np.float32 and (made.payload == 1).all() and made.context == (4, 6)
    assert ImageInput(name='gray').prepare(sample).payload.shape == (4, 6, 1) and (ImageInput(name='gray').prepare(sample).payload == 1).all()
    assert (ImageInput(name='float').prepare(sample).payload == .5).all()
    made = ImageInput(size=(2, 3), mean=IMAGENET_MEAN, std=IMAGENET_STD, channels_first=True).prepare(sample)
    assert made.payload.shape == (3, 2, 3) and made.context == (4, 6) and np.allclose(made.payload[:, 0, 0], (1 - np.array(IMAGENET_MEAN))/np.array(IMAGENET_STD))
    assert np.allclose(ImageInput(mean=(.5,)).prepare(sample).payload, .5) and ImageInput(gray=True).prepare(sample).payload.shape == (4, 6, 1)
    refuses(AdapterError, '1 channels, and mean and std are for 3 and 3', ImageInput(gray=True, mean=IMAGENET_MEAN, std=IMAGENET_STD).prepare, sample)
    refuses(AdapterError, 'has shape', ImageInput(name='row').prepare, sample)


# --- batches -------------------------------------------------------------------------------------------------------------

def test_a_batch_is_filled_with_its_last_row():
    batch = prepare_batch(input_adapter('rgb'), pictures(3), 5, number=7)
    assert batch.payload.shape == (5, 6, 8, 3) and (batch.count, batch.rows, batch.ids, batch.contexts) == (3, 5, ('s0', 's1', 's2'), (None,)*3)
    assert all(np.array_equal(batch.payload[i], batch.payload[2]) for i in (3, 4)) and str(batch) == 'batch 7 of 3 (s0, s1, s2)'
    assert '2 more for padding' in repr(batch) and str(prepare_batch(input_adapter('rgb'), pictures(6))) == 'a batch of 6 (s0, s1, …, s5)'


def test_the_samples_are_copied():
    "What a model does to its batch never reaches the dataset"
    samples = pictures(1)
    batch = prepare_batch(input_adapter('rgb'), samples)
    batch.payload[:] = 0
    assert samples[0].inputs['rgb'].any()


def test_stacking_mappings_and_tuples():
    stacked = stack_payloads([{'a': (np.array(i), np.ones(2))} for i in range(2)], 3, ['x', 'y'])
    assert stacked['a'][0].tolist() == [0, 1, 1] and stacked['a'][1].shape == (3, 2)


@pytest.mark.parametrize('other, found', [(np.zeros((2, 3)), '2×3 float64'), (np.zeros(2, np.float32), '2 float32'), ({'x': np.zeros(2)}, 'x 2 float64'), (np.zeros(()), 'scalar float64')])
def test_payloads_that_do_not_stack(other, found):
    error = refuses(AdapterError, f"sample 'b' has the payload {found}, and 'a' of the same batch has 2 float64", stack_payloads, [np.zeros(2), other], 2, ['a', 'b'])
    assert error.details['samples'] == ['b'] and 'pad_to' in error.hint


@pytest.mark.parametrize('payload, text', [(None, 'is nothing: is a return missing'), ({}, 'is empty'), (object(), 'is an object of type object'), ((np.zeros(2), None), 'is nothing'),
                                           ({'x': [1, [2]]}, 'is no array: ValueError')])
def test_payloads_that_are_no_arrays(payload, text):
    error = refuses(AdapterError, text, prepare_batch, input_adapter(lambda sample: payload), pictures(2))
    assert error.details['samples'] == ['s0', 's1'] and set(error.details['reasons']) == {'s0', 's1'}


def test_an_adapter_that_fails_names_all_its_samples():
    def picky(sample):
        if sample.id in ('s1', 's3'): raise KeyError('mask')
        return sample.inputs['rgb']
    error = refuses(AdapterError, "the input adapter failed at sample 's1': KeyError", prepare_batch, input_adapter(picky), pictures(4))
    assert error.details['samples'] == ['s1', 's3'] and isinstance(error.__cause__, KeyError) and 'the inputs rgb' in error.hint
    def sample_error(sample): return sample.input('thermal')
    assert refuses(DatasetError, "has no input 'thermal'", prepare_batch, input_adapter(sample_error), pictures(2)).details['samples'] == ['s0', 's1']


def test_sizes_of_batches():
    refuses(ConfigError, '0 samples', prepare_batch, input_adapter('rgb'), [])
    refuses(ConfigError, '3 samples do not make a batch of 2', prepare_batch, input_adapter('rgb'), pictures(3), 2)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 9), st.integers(0, 9), st.sampled_from(['HW', 'HWC', 'CHW']))
@settings(max_examples=60, deadline=None)
def test_padding_and_cropping_are_inverse(height, width, more_height, more_width, layout):
    if layout == 'CHW' and width <= 4: return      # told by the short axis
    image = np.random.default_rng(0).random({'HW': (height, width), 'HWC': (height, width, 3), 'CHW': (3, height, width)}[layout])
    target = (height + more_height, width + more_width)
    padded, size = pad_image({'image': image, 'other': np.zeros(5)}, target)
    assert size == (height, width) and padded['other'].shape == (5,)
    assert padded['image'].shape == {'HW': target, 'HWC': (*target, 3), 'CHW': (3, *target)}[layout]
    assert np.array_equal(crop_image(padded, size, target)['image'], image)
    assert set(np.unique(padded['image'])) == set(np.unique(image))       # continued, not filled with a value of its own


def test_images_of_many_sizes_go_through_one_shape():
    samples = [Sample(id=str(i), inputs={'rgb': np.full((4 + i, 9 - i, 3), i, np.uint8)}) for i in range(4)]
    model = from_function(lambda rgb: {'sum': rgb.sum(-1), 'maps': rgb.transpose(0, 3, 1, 2), 'score': rgb.mean((1, 2, 3))}, task='t', pad_to=(8, 10))
    for i, found in enumerate(model.predict(samples, 2)):
        assert found['sum'].shape == (4 + i, 9 - i) and found['maps'].shape == (3, 4 + i, 9 - i) and found['score'] == i
    error = refuses(AdapterError, "model 'small': sample '1': an image of 5×8 does not fit into pad_to=8×7", from_function(np.copy, task='t', name='small', pad_to=(8, 7)).predict, samples[1:])
    assert error.details['samples'] == ['1']
    refuses(AdapterError, 'of the same batch', from_function(np.copy, task='t', name='copy').predict, samples)
    for wrong in ((3,), (0, 4), ('a', 'b'), 480, (8., 8.)): refuses(ConfigError, 'pad_to is height and width', from_function, np.copy, task='t', pad_to=wrong)


@given(st.integers(1, 9), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_the_size_of_a_batch_changes_nothing(count, size):
    samples = pictures(count)
    model = from_function(lambda rgb: rgb.astype(float).mean((1, 2)), task='t', name='mean')
    assert np.array_equal(model.predict(samples, size), [s.inputs['rgb'].mean((0, 1)) for s in samples])


# --- the way out ---------------------------------------------------------------------------------------------------------

Boxes = namedtuple('Boxes', 'corners scores')

@dataclass
class Found:
    boxes: object
    label: object

def test_outputs_come_apart():
    output = {'boxes': Boxes(np.arange(6).reshape(3, 2), (np.arange(3), 'name')), 'temperature': np.float32(2), 'none': None, 'found': Found(np.ones((3, 1)), 'cup')}
    parts = split_output(output, 3, 2)
    assert len(parts) == 2 and parts[1]['boxes'].corners.tolist() == [2, 3] and parts[1]['boxes'].scores == (1, 'name') and parts[0]['temperature'] == 2
    assert parts[0]['none'] is None and parts[0]['found'] == {'boxes': np.ones(1), 'label': 'cup'}
    assert split_output(['a', 'b', 'c'], 3, 2) == ['a', 'b']


@pytest.mark.parametrize('output, text', [(np.zeros((2, 3)), r'gave 2 predictions for 4 rows: shape 2×3'), (None, 'gave nothing'), (np.float64(3), 'a single value of type float64'),
                                          ([1, 2], 'gave 2 predictions'), ({'a': np.zeros(4), 'b': (np.zeros(5),)}, r'gave 5 predictions for 4 rows in b\[0\]'), ('text', 'an object of type str'), ({}, 'of type dict')])
def test_outputs_that_do_not(output, text): refuses(AdapterError, text, split_output, output, 4, 3)


def test_jax_arrays_become_numpy_once():
    found = to_numpy({'a': (jnp.ones((2, 3), jnp.bfloat16), 'x'), 'b': [jnp.zeros(2)]})
    assert found['a'][0].dtype == np.float32 and type(found['b'][0]) is np.ndarray and found['a'][1] == 'x'
    assert [n for n, _ in named_arrays(found)] == ['a[0]', 'b[0]'] and map_arrays(np.sum, found)['b'] == [0]


@pytest.mark.parametrize('function, expected', [(np.sum, 6), (lambda o: o.sum(), 6), (lambda o, c, s: (o.sum(), c, s.id), (6, 'context', 'id')), (lambda o, sample: sample.id, 'id'),
                                                (lambda o, context=None: context, 'context'), (lambda o, axis=0: axis, 0), ([np.sqrt, np.sum], np.sqrt([1, 2, 3]).sum()), (None, [1, 2, 3]), (len, 3)])
def test_plain_functions_on_the_way_out(function, expected):
    found = output_adapter(function).finalize(np.array([1, 2, 3]), 'context', Sample(id='id', inputs={}))
    assert np.all(np.asarray(found) == np.asarray(expected))


def test_what_is_no_output_adapter():
    refuses(AdapterError, 'cannot fill in colour', output_adapter, lambda output, colour: 1)
    refuses(AdapterError, 'is no output adapter', output_adapter, 3)


def test_ready_made_outputs():
    logits = np.array([[[0., 5], [1, 0]]])
    assert labels_from_logits(logits).tolist() == [[1, 0]] and labels_from_logits(logits).dtype == np.int32
    p = probabilities_from_logits(np.array([1000., 1000, -1000]))
    assert np.allclose(p, [.5, .5, 0]) and probabilities_from_logits(np.array([1, 2], np.int32)).dtype == np.float32
    sample = pictures(1)[0]
    assert ResizeToInput().finalize(np.zeros((3, 4)), None, sample).shape == (6, 8)
    refuses(AdapterError, "no input 'lidar'", ResizeToInput(name='lidar').finalize, np.zeros((3, 4)), None, sample)


def test_an_output_adapter_that_fails():
    samples = pictures(3)
    batch = prepare_batch(input_adapter('rgb'), samples)
    def picky(output, sample): return 1/(sample.id != 's1')
    error = refuses(AdapterError, "the output adapter failed at sample 's1': ZeroDivisionError", finalize_batch, output_adapter(picky), batch.payload, batch, samples)
    assert error.details['samples'] == ['s1'] and '6×8×3 uint8' in error.hint and isinstance(error.__cause__, ZeroDivisionError)
    refuses(AdapterError, "gave nothing for sample 's0'", finalize_batch, output_adapter(lambda o: None), batch.payload, batch, samples)
    refuses(ConfigError, '2 samples are given', finalize_batch, output_adapter(None), batch.payload, batch, samples[:2])


def test_values_that_are_not_finite_are_not_an_error_here():
    assert np.isnan(from_function(lambda rgb: np.full(len(rgb), np.nan), task='t', name='nan').predict(pictures(1))[0])


# --- functions -----------------------------------------------------------------------------------------------------------

def test_a_function_sees_whole_batches():
    shapes = []
    def mean(rgb): shapes.append(rgb.shape); return rgb.mean((1, 2, 3))
    model = from_function(mean, task='t')
    assert len(model.predict(pictures(7), 3)) == 7 and shapes == [(3, 6, 8, 3)]*3 and (model.name, model.framework, model.parameters) == ('mean', 'numpy', None)
    assert 'pass parameters=' in model.parameter_count.reason and model.compilations is None


def test_one_sample_at_a_time_may_differ_in_shape():
    samples = [Sample(id=str(i), inputs={'rgb': np.full((2 + i, 3), i)}) for i in range(3)]
    model = from_function(lambda rgb: rgb*2, task='t', name='twice', batched=False)
    found = model.predict(samples, 2)
    assert [f.shape for f in found] == [(2, 3), (3, 3), (4, 3)] and found[2][0, 0] == 4
    assert model.prepare(samples[:1], 2).rows == 1      # nothing is computed for padding


def test_mappings_are_keywords_and_tuples_positions():
    samples = pictures(2, depth=lambda i: np.full((6, 8), float(i)))
    assert from_function(lambda *, depth, rgb: depth.mean((1, 2)), task='t', name='a', inputs=('rgb', 'depth')).predict(samples) == [0, 1]
    assert from_function(lambda a, b, scale: scale*b[:, 0, 0], task='t', name='b', inputs=lambda s: (s.inputs['rgb'], s.inputs['depth']), call={'scale': 3}).predict(samples) == [0, 3]


def test_a_compiled_function_is_known_to_be_jax():
    traced = []
    @jax.jit
    def mean(rgb): traced.append(rgb.shape); return rgb.mean((1, 2, 3))
    model = from_function(mean, task='t')
    assert model.framework == 'jax' and model.name == 'mean' and len(model.predict(pictures(5), 2)) == 5 and traced == [(2, 6, 8, 3)]
    batch = model.prepare(pictures(2), 2)
    function, arguments, keywords = model.program(batch)
    assert count_flops(function, *arguments, **keywords).total_flops > 0
    assert from_function(np.copy, task='t').framework == 'numpy' and from_function(np.copy, task='t', framework='jax').framework == 'jax'


def test_a_plain_function_that_computes_with_jax():
    "Stays on the processor, as is said of it, and a warning says how to change that"
    heard = Heard('calibrax.bench.invokers')
    model = from_function(lambda rgb: jnp.asarray(rgb).mean((1, 2, 3)), task='t', name='mean')
    with heard: model.predict(pictures(4), 2)
    assert len(heard.records) == 1 and 'pass framework="jax"' in heard.records[0] and model.framework == 'numpy'
    with heard: from_function(lambda rgb: jnp.asarray(rgb).mean((1, 2, 3)), task='t', name='mean', framework='jax').predict(pictures(1))
    assert len(heard.records) == 1


def test_anything_with_an_invoker():
    class Neighbours:
        def predict(self, x): return x.reshape(len(x), -1).sum(1)
    model = BenchmarkableModel(task='t', name='knn', model=Neighbours(), invoker=lambda model, payload: model.predict(payload), parameters=12, metadata={'k': 3})
    assert model.predict(pictures(2))[1] == pictures(2)[1].inputs['rgb'].sum() and model.parameters == 12 and model.metadata['k'] == 3
    assert model.program(model.prepare(pictures(1))) is None and '<lambda>' not in repr(model) and 'Neighbours' in repr(model) and 'knn' in model._repr_html_()
    refuses(AdapterError, 'cannot be called', BenchmarkableModel, task='t', name='knn', model=Neighbours())
    refuses(AdapterError, 'is no invoker', BenchmarkableModel, task='t', name='knn', model=Neighbours(), invoker=3)
    refuses(ConfigError, 'the name of a model', BenchmarkableModel, task='t', name='', model=np.copy)
    refuses(ConfigError, 'the task of a model', BenchmarkableModel, task=None, name='a', model=np.copy)


def test_before_and_after_setup():
    model = from_function(np.copy, task='t')
    batch = model.prepare(pictures(1))
    refuses(ModelError, 'is not set up', model.invoke, batch)
    refuses(ModelError, 'is not set up', model.program, batch)
    told = []
    hooked = from_function(np.copy, task='t', setup_hook=lambda **given: told.append(sorted(given)))
    hooked.setup('cpu', seed=3)
    assert told == [['device', 'model', 'seed']] and hooked.device.requested == 'cpu'
    error = refuses(ModelError, 'could not be set up on cpu:0: ZeroDivisionError', from_function(np.copy, task='t', setup_hook=lambda seed: 1/0).setup, 'cpu')
    assert isinstance(error.__cause__, ZeroDivisionError)
    for size in (0, 1.5, 'all'): refuses(ConfigError, 'batch_size: expected a whole number', hooked.predict, pictures(1), size)
    assert hooked.predict([]) == []


def test_a_model_that_was_set_up_travels_to_another_process():
    for model in (from_flax(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), task='t'), from_function(np.copy, task='t')):
        expected = model.predict(pictures(2))
        again = pickle.loads(pickle.dumps(model))
        refuses(ModelError, 'is not set up', again.invoke, again.prepare(pictures(2)))
        assert all(np.array_equal(a, b) for a, b in zip(again.predict(pictures(2)), expected)) and model.device is not None


def test_texts_of_any_length_make_a_batch():
    model = from_function(np.char.upper, task='t', inputs='text')
    samples = [Sample(id=t, inputs={'text': np.asarray(t)}) for t in ('a', 'grünes', 'no')]
    assert [str(p) for p in model.predict(samples, batch_size=2)] == ['A', 'GRÜNES', 'NO']


def test_a_function_that_calls_a_flax_module_runs_where_jax_does(monkeypatch):
    network = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    def given(invoker, model=network): return BenchmarkableModel(task='t', name='m', model=model, invoker=invoker)
    assert given(lambda model, payload: model(payload)).framework == 'jax'
    assert given(jax.jit(lambda model, payload: payload), model={}).framework == 'jax' and given(lambda model, payload: payload, model={}).framework == 'numpy'


def test_a_model_that_raises_is_named_with_its_samples():
    def choosy(rgb):
        if rgb[0, 0, 0, 0] == pictures(5)[2].inputs['rgb'][0, 0, 0]: raise ValueError('no\nwork today')
        return rgb
    error = refuses(ModelError, r"model 'choosy' failed at batch 1 of 2 \(s2, s3\): ValueError: no\n", from_function(choosy, task='t').predict, pictures(5), 2)
    assert error.details == {'model': 'choosy', 'batch': 1, 'samples': ['s2', 's3']} and isinstance(error.__cause__, ValueError) and '2×6×8×3 uint8' in error.hint
    def full(rgb): raise MemoryError
    assert 'batch size below 2' in refuses(ModelError, 'no message', from_function(full, task='t').predict, pictures(2)).hint
    def stopped(rgb): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): from_function(stopped, task='t').predict(pictures(1))


def test_errors_name_the_model():
    error = refuses(AdapterError, "model 'mine': sample 's0' has no input 'thermal'", from_function(np.copy, task='t', name='mine', inputs='thermal').predict, pictures(2))
    assert error.details['model'] == 'mine' and error.details['samples'] == ['s0', 's1']
    refuses(AdapterError, "model 'mine': the model gave 1 predictions for 2 rows", from_function(lambda rgb: rgb[1:], task='t', name='mine').predict, pictures(2))


def double(rgb): return rgb*2

def test_a_model_of_a_function_travels():
    model = from_function(double, task='t', inputs=ImageInput())
    model.predict(pictures(1))
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(pictures(2))[1], model.predict(pictures(2))[1])


# --- Flax ----------------------------------------------------------------------------------------------------------------

def test_compiled_once_also_for_the_partial_last_batch(traces):
    model = from_flax(Net(), task='t')
    assert len(model.predict(pictures(10), 4)) == 10 and traces == [(4, 6, 8, 3)] and model.compilations == 1
    assert model.predict(pictures(3), 4)[0].shape == (6, 8, 4) and len(traces) == 1
    model.predict(pictures(2), 2)
    assert traces == [(4, 6, 8, 3), (2, 6, 8, 3)] and model.compilations == 2


def test_images_of_many_sizes_compile_once(traces):
    samples = [Sample(id=str(i), inputs={'rgb': np.zeros((3 + i, 5, 3), np.uint8)}) for i in range(5)]
    assert [p.shape for p in from_flax(Net(), task='t', pad_to=(8, 8)).predict(samples, 2)] == [(3 + i, 5, 4) for i in range(5)] and len(traces) == 1


def test_inference_mode_without_touching_the_module():
    module = Net()
    module.train()
    samples = pictures(3)
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)))
    found = from_flax(module, task='t').predict(samples, 2)
    assert not module.drop.deterministic and not module.norm.use_running_average
    assert jax.tree.all(jax.tree.map(np.array_equal, before, jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)))))
    other = Net()
    other.eval()
    expected = other(jnp.asarray(np.stack([s.inputs['rgb'] for s in samples])))
    assert np.allclose(found, expected, atol=1e-5)


def test_the_arrays_are_shared_and_split_once(monkeypatch):
    module, count = Net(), []
    split = nnx.split
    monkeypatch.setattr(nnx, 'split', lambda *a, **k: (count.append(1), split(*a, **k))[1])
    model = from_flax(module, task='t')
    model.setup('cpu')
    first = len(count)
    batch = model.prepare(pictures(2), 2)
    for _ in range(5): model.invoke(batch)
    assert len(count) == first
    held = [v for v in model.invoker._state if v.shape == (3, 3, 3, 4)]
    assert held[0].unsafe_buffer_pointer() == module.conv.kernel[...].unsafe_buffer_pointer()      # not copied


def test_setting_up_again_takes_new_weights():
    module = nnx.Linear(2, 1, use_bias=False, rngs=nnx.Rngs(0))
    samples = [Sample(id='a', inputs={'x': np.ones(2, np.float32)})]
    model = from_flax(module, task='t', inputs='x')
    first = model.predict(samples)[0]
    module.kernel[...] = module.kernel[...]*2
    model.setup('cpu')
    assert np.allclose(model.predict(samples)[0], 2*first)


def test_methods_and_further_keywords():
    class Two(nnx.Module):
        def __init__(self): self.scale = nnx.Param(jnp.array(2.))
        def embed(self, rgb, train): return rgb.mean((1, 2, 3))*self.scale*(-1 if train else 1)
    assert np.isclose(from_flax(Two(), task='t', method='embed', call={'train': False}).predict(pictures(1))[0], 2*pictures(1)[0].inputs['rgb'].mean())
    refuses(AdapterError, "Two has no method 'predict'", from_flax, Two(), task='t', method='predict')
    refuses(AdapterError, 'wants a Flax NNX module', from_flax, np.copy, task='t', name='copy')
    assert from_flax(Two(), task='t', method='embed').name == 'Two' and BenchmarkableModel(task='t', name='n', model=nnx.Linear(3, 2, rngs=nnx.Rngs(0))).framework == 'jax'


def test_several_inputs_of_a_module(traces):
    class Both(nnx.Module):
        def __call__(self, rgb, depth): return {'near': depth.min((1, 2)), 'bright': rgb.mean((1, 2, 3))}
    found = from_flax(Both(), task='t', inputs=('rgb', 'depth')).predict(pictures(3, depth=lambda i: np.full((6, 8), i, np.float32)), 2)
    assert [f['near'] for f in found] == [0, 1, 2]


def test_the_name_of_a_module():
    class Named(nnx.Module):
        name = 'depth-net'
        def __call__(self, x): return x
    assert from_flax(Named(), task='t').name == 'depth-net' and from_flax(Named(), task='t', name='mine').name == 'mine'


def test_a_module_that_fails_while_tracing():
    class Wrong(nnx.Module):
        def __call__(self, rgb): return rgb @ jnp.ones((5, 2))
    error = refuses(ModelError, "model 'Wrong' failed at batch 0 of 1", from_flax(Wrong(), task='t').predict, pictures(1))
    assert isinstance(error.__cause__, TypeError)


def test_operations_of_a_module(traces):
    model = from_flax(Net(), task='t')
    model.setup('cpu')
    batch = model.prepare(pictures(1), 4)
    function, arguments, keywords = model.program(batch)
    assert count_flops(function, *arguments, **keywords).total_flops >= 4*2*6*8*27*4*.5 and model.compilations == 0


def test_parameters_of_a_module():
    class Tied(nnx.Module):
        def __init__(self):
            self.a = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
            self.b = self.a
            self.fixed = nnx.Variable(jnp.zeros(10))
            self.norm, self.drop = nnx.BatchNorm(4, rngs=nnx.Rngs(0)), nnx.Dropout(.1, rngs=nnx.Rngs(0))
    found = count_parameters(Tied())
    assert (found.total, found.trainable, found.reason) == (3*4 + 4 + 10 + 8, 3*4 + 4 + 8, None)
    assert count_parameters(3).total is None and count_parameters(3).reason


def test_a_module_travels(traces):
    model = from_flax(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), task='t', inputs=ImageInput())
    expected = model.predict(pictures(1))[0]
    there = pickle.loads(pickle.dumps(model))
    there.setup('cpu')
    assert np.allclose(there.predict(pictures(1))[0], expected)


# --- devices -------------------------------------------------------------------------------------------------------------

@pytest.fixture
def machine(monkeypatch):
    "A machine with the given devices, for JAX and PyTorch alike"
    def make(**kinds):
        monkeypatch.setattr(devices, '_kinds', lambda platform, framework: kinds.get(platform, []) if framework != 'numpy' or platform == 'cpu' else [])
        monkeypatch.setattr(devices, '_best', lambda framework: 'cpu' if framework == 'numpy' else next(p for p in ('tpu', 'gpu', 'cpu') if p in kinds))
        monkeypatch.setattr(devices, '_driver_sees_gpu', lambda: False)
        for name in ('JAX_PLATFORMS', 'CUDA_VISIBLE_DEVICES'): monkeypatch.delenv(name, raising=False)
    return make


@pytest.mark.parametrize('asked, platform, index', [('auto', 'gpu', 0), ('gpu', 'gpu', 0), ('cuda:1', 'gpu', 1), (' CUDA:1 ', 'gpu', 1), ('cpu', 'cpu', 0), ('cpu:0', 'cpu', 0), ('gpu:0', 'gpu', 0)])
def test_devices_that_are_there(machine, asked, platform, index):
    machine(cpu=['cpu'], gpu=['NVIDIA A', 'NVIDIA B'])
    found = resolve_device(asked, strict=True)
    assert (found.platform, found.index, found.fell_back, found.kind) == (platform, index, None, ['cpu'][index] if platform == 'cpu' else ['NVIDIA A', 'NVIDIA B'][index])
    assert found.torch() == ('cpu' if platform == 'cpu' else f'cuda:{index}') and str(found) == f'{platform}:{index}'


@pytest.mark.parametrize('asked, framework', [('gpu', 'jax'), ('cuda:1', 'jax'), ('tpu', 'jax'), ('mps', 'jax'), ('cuda', 'torch'), ('tpu', 'torch'), ('gpu', 'numpy')])
def test_devices_that_are_not(machine, asked, framework):
    machine(cpu=['cpu'])
    found = resolve_device(asked, framework=framework)
    assert (found.platform, found.index, found.requested) == ('cpu', 0, asked) and asked in found.fell_back and 'fell back' in repr(found)
    error = refuses(ConfigError, f'{asked} was asked for', resolve_device, asked, strict=True, framework=framework)
    assert 'cpu' in error.hint and error.hint in found.fell_back


def test_falling_back_is_logged(machine):
    machine(cpu=['cpu'])
    with Heard('calibrax.bench.devices') as heard: resolve_device('gpu')
    assert len(heard.records) == 1 and heard.records[0].startswith('WARNING the processor is used: gpu was asked for')


def test_hints_say_what_hides_a_device(machine, monkeypatch):
    machine(cpu=['cpu'])
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    assert 'JAX_PLATFORMS=cpu hides it' in refuses(ConfigError, 'gpu', resolve_device, 'gpu', strict=True).hint
    monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert "CUDA_VISIBLE_DEVICES='' hides every GPU" in refuses(ConfigError, 'gpu', resolve_device, 'cuda', strict=True).hint
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
    monkeypatch.setattr(devices, '_driver_sees_gpu', lambda: True)
    assert 'jax[cuda12]' in refuses(ConfigError, 'gpu', resolve_device, 'gpu', strict=True).hint
    assert 'pytorch.org' in refuses(ConfigError, 'gpu', resolve_device, 'gpu', strict=True, framework='torch').hint
    assert 'framework="jax"' in refuses(ConfigError, 'gpu', resolve_device, 'gpu', strict=True, framework='numpy').hint


@pytest.mark.parametrize('wrong', ['', 'fast', 'cuda:', 'cuda:x', 'cuda:-1', 'auto:0', 'cpu:0:1', None, 3])
def test_words_that_are_no_device(wrong): refuses(ConfigError, 'is no device', resolve_device, wrong)


def test_numbers_are_checked(machine):
    machine(cpu=['cpu'], gpu=['NVIDIA A'])
    for strict in (False, True): assert 'gpu:0 (NVIDIA A)' in refuses(ConfigError, 'no gpu of that number', resolve_device, 'cuda:1', strict=strict).hint
    refuses(ConfigError, 'no cpu of that number', resolve_device, 'cpu:7')
    refuses(ConfigError, 'is no framework', resolve_device, 'cpu', framework='mxnet')


def test_the_real_devices():
    found = resolve_device('auto')
    assert found.jax() == jax.local_devices()[0] and found.kind == jax.local_devices()[0].device_kind and found.framework == 'jax'
    assert resolve_device('cpu').jax().platform == 'cpu' and resolve_device('auto', framework='numpy').platform == 'cpu'
    refuses(ConfigError, 'JAX has no cpu:99', Device(requested='cpu:99', platform='cpu', index=99).jax)
    refuses(ConfigError, 'PyTorch has no device', Device(requested='tpu', platform='tpu').torch)


def test_arrays_go_where_the_model_was_set_up():
    "Eight processors, as JAX sees them, in another process"
    code = '''
import numpy as np, jax
from flax import nnx
from calibrax.bench.models import from_flax, from_function
from calibrax.bench.samples import Sample
from calibrax.bench.devices import resolve_device
device = resolve_device('cpu:5', strict=True)
model = from_flax(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), task='t', inputs='x')
model.setup(device)
batch = model.prepare([Sample(id='a', inputs={'x': np.ones(3, np.float32)})])
where = [next(iter(model.invoke(batch).devices())).id]
function = from_function(jax.jit(lambda x: x*2), task='t', name='twice', inputs='x')
function.setup(device)
where.append(next(iter(function.invoke(batch).devices())).id)
print(where, str(model.device))
'''
    env = {**os.environ, 'XLA_FLAGS': '--xla_force_host_platform_device_count=8', 'JAX_PLATFORMS': 'cpu'}
    assert subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, check=True).stdout.strip() == '[5, 5] cpu:5'


def test_waiting_finds_arrays_wherever_they_are():
    class Array:
        def __init__(self): self.waited = 0
        def block_until_ready(self): self.waited += 1; return self
    a = [Array() for _ in range(6)]
    loop = {'a': a[0]}
    loop['again'] = loop
    output = (loop, [a[1], (a[2], None, 'text', 3)], Found(a[3], {'x': a[4]}), {a[5]})
    assert synchronize(output) is output and [x.waited for x in a] == [1]*6
    gone = jnp.ones(2)*2
    gone.delete()
    synchronize([gone, nnx.Linear(2, 2, rngs=nnx.Rngs(0)), object()])


def test_invoke_gives_what_is_computed(monkeypatch):
    waited = []
    monkeypatch.setattr(models, 'synchronize', lambda output: (waited.append(output), output)[1])
    model = from_function(np.copy, task='t')
    model.setup()
    output = model.invoke(model.prepare(pictures(1)))
    assert waited[0] is output


# --- the registry --------------------------------------------------------------------------------------------------------

@pytest.fixture
def registry(monkeypatch):
    fresh = models._ModelRegistry()
    monkeypatch.setattr(models, '_models', fresh)
    monkeypatch.setattr(fresh, '_fetch', lambda name: None)
    return fresh


def make_double(factor: float = 2., *, seed: int = 0):
    "Twice as much."
    return from_function(lambda rgb: rgb*factor + seed, task='t', name='anything')


def test_registering_and_making(registry):
    assert register_model('double', task='t')(make_double) is make_double
    model = get_model('double', task='t', seed=4, factor=3.)
    assert (model.name, model.task, dict(model.options)) == ('double', 't', {'factor': 3.}) and model.predict(pictures(1))[0].max() == pictures(1)[0].inputs['rgb'].max()*3. + 4
    entry, = list_models()
    assert isinstance(entry, ModelEntry) and (entry.name, entry.task, entry.description, dict(entry.options)) == ('double', 't', 'Twice as much.', {'factor': 2.})
    assert list_models('other') == [] and 'factor=2.0' in repr(list_models('t')) and '<table>' in list_models('t')._repr_html_()


def test_names_taken(registry):
    register_model('double', task='t')(make_double)
    register_model('double', task='t')(make_double)      # a module loaded again
    def other(): return None
    refuses(RegistryError, "'double' is registered already", register_model('double', task='t'), other)
    register_model('double', task='t', replace=True, description='new')(other)
    assert list_models()[0].description == 'new'
    refuses(RegistryError, 'makes no model', register_model('x', task='t'), 3)
    refuses(RegistryError, 'the task of a model', register_model, 'x', task='')
    refuses(RegistryError, 'a name is a text', register_model('', task='t'), make_double)


def test_names_that_are_not_there(registry):
    register_model('double', task='t')(make_double)
    register_model('triple', task='u')(lambda: None)
    error = refuses(RegistryError, "'doubel' is no registered model", get_model, 'doubel', task='t')
    assert isinstance(error, KeyError) and "did you mean 'double'" in error.hint and 'models for t: double' in error.hint and 'register_model' in error.hint
    assert 'there is no model for v' in refuses(RegistryError, 'no registered model', get_model, 'doubel', task='v').hint
    assert refuses(RegistryError, "'double' is a model for t, not for u", get_model, 'double', task='u').hint == 'models for u: triple'


def test_options_are_checked(registry):
    register_model('double', task='t')(make_double)
    error = refuses(ConfigError, "model 'double' has no option 'size', 'depth'", get_model, 'double', size=3, depth=2)
    assert error.hint == 'its options are factor'
    def needs(size): return from_function(np.copy, task='t')
    register_model('needs', task='t')(needs)
    refuses(ConfigError, "model 'needs' has to be told size", get_model, 'needs')
    assert get_model('needs', size=3).options['size'] == 3
    def free(device, **options): return from_function(np.copy, task='t', metadata={'device': device, **options})
    register_model('free', task='t')(free)
    assert dict(get_model('free', device='cpu', anything=1).metadata) == {'device': 'cpu', 'anything': 1}
    def none(): return from_function(np.copy, task='t')
    register_model('none', task='t')(none)
    assert refuses(ConfigError, 'has no option', get_model, 'none', size=3).hint == 'it has no options at all' and get_model('none', device='cpu', seed=3)


def test_factories_that_do_not_make_a_model(registry):
    register_model('broken', task='t')(lambda: 1/0)
    assert isinstance(refuses(ModelError, "model 'broken' could not be made: ZeroDivisionError", get_model, 'broken').__cause__, ZeroDivisionError)
    register_model('bare', task='t')(lambda: np.copy)
    refuses(ModelError, "the factory of 'bare' gave an object of type", get_model, 'bare')
    register_model('other', task='u')(make_double)
    refuses(ModelError, "'other' is registered for u, and its factory gave a model for t", get_model, 'other')
    register_model('ours', task='t')(lambda: resolve_device('fast'))
    refuses(ConfigError, 'is no device', get_model, 'ours')


def test_a_look_up_discovers_what_there_is(monkeypatch):
    fresh, asked = models._ModelRegistry(), []
    monkeypatch.setattr(models, '_models', fresh)
    def discover():
        asked.append(1)
        register_model('found', task='t')(make_double)
    monkeypatch.setattr('calibrax.bench.plugins.discover', discover)
    assert get_model('found').name == 'found' and asked == [1] and get_model('found') and asked == [1]
    assert [e.name for e in list_models()] == ['found']


def test_one_file_is_enough(tmp_path):
    "A file outside the package with a model, loaded as a plugin"
    file = tmp_path/'mine.py'
    file.write_text('''
import numpy as np
from calibrax.bench.models import from_function, register_model

@register_model('from-a-file', task='brightness')
def make(gain: float = 1.):
    "The mean of the picture."
    return from_function(lambda rgb: gain*rgb.mean((1, 2, 3)), task='brightness')
''')
    code = f'''
import json, numpy as np
from calibrax.bench.plugins import load_plugin
from calibrax.bench.models import get_model, list_models
from calibrax.bench.samples import Sample
load_plugin({str(file)!r})
model = get_model('from-a-file', task='brightness', gain=2.)
print(json.dumps([float(model.predict([Sample(id='a', inputs={{'rgb': np.full((2, 2, 3), 3, np.uint8)}})])[0]), [e.name for e in list_models('brightness')]]))
'''
    assert json.loads(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout) == [6., ['from-a-file']]


# --- what is optional ----------------------------------------------------------------------------------------------------

def test_importing_costs_little():
    code = 'import sys; import calibrax.bench.models, calibrax.bench.checkpoints; print(sorted({"jax", "flax", "torch", "transformers", "PIL", "matplotlib", "scipy", "pandas", "huggingface_hub"} & set(sys.modules)))'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'


def test_numpy_models_never_load_jax():
    code = '''
import sys, numpy as np
from calibrax.bench.models import from_function
from calibrax.bench.samples import Sample
print(from_function(lambda x: x*2, task='t', name='double', inputs='x').predict([Sample(id='a', inputs={'x': np.ones(2)})])[0].tolist(), 'jax' in sys.modules)
'''
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[2.0, 2.0] False'


def test_without_the_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', None)
    assert 'calibrax[hub]' in refuses(ModelError, 'need PyTorch, which is not installed', from_huggingface, 'owner/name', task='monocular_depth').hint
    refuses(AdapterError, 'is no module of PyTorch', from_torch, np.copy, task='t', name='copy')
    from types import ModuleType
    monkeypatch.setitem(sys.modules, 'torch', ModuleType('torch'))
    monkeypatch.setitem(sys.modules, 'transformers', None)
    assert 'calibrax[hub]' in refuses(ModelError, 'need transformers, which is not installed', load_checkpoint, 'owner/name', task='monocular_depth').hint
    refuses(ConfigError, 'is no kind of checkpoint', load_checkpoint, 'owner/name', task='monocular_depth', kind='audio')
    assert {t for k in CHECKPOINT_KINDS for t in k.tasks} == {'monocular_depth', 'object_segmentation', 'image_classification'}


@pytest.mark.parametrize('name', ['./nofolder', '../nofolder', '/no/folder', '~/no/folder/of/mine', 'a/b/c'])
def test_a_folder_that_is_not_there(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'torch', None)     # the folder is looked for first
    monkeypatch.chdir(tmp_path)
    assert 'save_pretrained' in refuses(ModelError, f'{name}: there is no such folder', from_huggingface, name, task='monocular_depth').hint
    refuses(ModelError, 'need PyTorch', from_huggingface, '.', task='monocular_depth')      # this one is there


def test_a_file_is_no_folder_of_a_checkpoint(tmp_path):
    (tmp_path/'weights.bin').write_bytes(b'x')
    refuses(ModelError, 'a checkpoint is a folder, and this is a file', from_huggingface, str(tmp_path/'weights.bin'), task='monocular_depth')


@pytest.mark.parametrize('wrap', [from_flax, from_torch])
def test_a_class_is_no_model(wrap):
    error = refuses(AdapterError, 'Linear is a class, and a model is an object of it', wrap, nnx.Linear, task='t')
    assert 'Linear(' in error.hint


@pytest.mark.parametrize('wrap', [from_function, from_flax, from_torch])
def test_help_explains_every_parameter(wrap):
    import inspect
    said = inspect.getdoc(wrap)
    for name in inspect.signature(wrap).parameters: assert f'`{name}' in said, name
    assert 'Raises `AdapterError`' in said and '(N, …)' in said and len(said.splitlines()[0]) < 90


def test_parts_can_be_used_alone():
    invoker = Invoker(call={'axis': 0})
    invoker.prepare(np.sum)
    assert invoker.framework == 'numpy' and invoker.invoke(np.sum, np.ones((2, 3))).tolist() == [2, 2, 2] and FlaxInvoker().framework == 'jax'
