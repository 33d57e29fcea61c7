"Models of PyTorch and checkpoints of transformers: run where these are installed, with tiny networks made here and no network."
import copy, pickle

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed')

from calibrax.bench.adapters import ImageInput, labels_from_logits
from calibrax.bench.devices import resolve_device, synchronize
from calibrax.bench.invokers import TorchInvoker, count_parameters
from calibrax.bench.models import BenchmarkableModel, from_huggingface, from_torch
from calibrax.bench.samples import Sample
from calibrax.core.errors import AdapterError, ConfigError, DownloadError, ModelError
from calibrax.profiling.flops import count_flops

nn = torch.nn
cpu_only = pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')


def pictures(n, height=24, width=32, seed=0):
    rng = np.random.default_rng(seed)
    return [Sample(id=f's{i}', inputs={'rgb': rng.integers(0, 256, (height, width, 3), dtype=np.uint8)}) for i in range(n)]


class Net(nn.Module):
    "Two convolutions with dropout and batch normalisation; notes what it is called with"
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.drop, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(.5), nn.Conv2d(4, 2, 3, padding=1)
        self.calls = []

    def forward(self, x, bias=0.):
        self.calls.append((tuple(x.shape), x.dtype, self.training, torch.is_grad_enabled()))
        return self.last(self.drop(torch.relu(self.norm(self.first(x))))).permute(0, 2, 3, 1) + bias


def wrap(module, **options):
    return from_torch(module, task='object_segmentation', inputs=ImageInput(channels_first=True), output=labels_from_logits, **options)


def test_a_batch_is_one_call_in_evaluation_mode_without_gradients():
    module = Net().train()
    found = wrap(module).predict(pictures(5), batch_size=4)
    assert len(found) == 5 and all(p.shape == (24, 32) and p.dtype == np.int32 for p in found)
    assert module.calls == [((4, 3, 24, 32), torch.float32, False, False)]*2 and not module.training


def test_the_same_as_by_hand():
    module, samples = Net(), pictures(3)
    x = torch.tensor(np.stack([s.inputs['rgb'] for s in samples]).transpose(0, 3, 1, 2)/np.float32(255))
    with torch.no_grad(): expected = module.eval()(x, bias=torch.tensor([0., 9.])).argmax(-1).numpy()
    model = wrap(module, call={'bias': torch.tensor([0., 9.])})
    assert all(np.array_equal(p, e) for p, e in zip(model.predict(samples, 2), expected))


def test_training_meanwhile_does_not_matter():
    module = Net()
    model = wrap(module)
    first = model.predict(pictures(1))
    module.train()
    assert np.array_equal(model.predict(pictures(1))[0], first[0]) and not any(training for _, _, training, _ in module.calls)


def test_arrays_and_tensors_share_memory():
    seen = []
    class Look(nn.Module):
        def forward(self, x): seen.append(x.data_ptr()); return x
    model = from_torch(Look(), task='t')
    model.setup('cpu')
    batch = model.prepare(pictures(2), 2)
    output = model.invoke(batch)
    assert seen == [batch.payload.ctypes.data] and model.finalize(output, batch, pictures(2))[0].ctypes.data == seen[0]


def test_a_sample_is_never_changed():
    "Not by a module that works in place, nor where its array is read-only"
    class InPlace(nn.Module):
        def forward(self, x): return x.zero_()
    samples = pictures(1)
    samples[0].inputs['rgb'].flags.writeable = False
    before = samples[0].inputs['rgb'].copy()
    assert not from_torch(InPlace(), task='t').predict(samples)[0].any() and np.array_equal(samples[0].inputs['rgb'], before)


def test_several_inputs_are_keywords_and_several_outputs_stay_together():
    class Two(nn.Module):
        def forward(self, rgb, range): return {'sum': rgb.float().mean(-1) + range, 'both': (rgb, None, 'name')}
    samples = [Sample(id=str(i), inputs={'rgb': np.full((2, 3, 3), i, np.uint8), 'range': np.ones((2, 3), np.float32)}) for i in range(3)]
    found = from_torch(Two(), task='t', inputs=('rgb', 'range')).predict(samples, 2)
    assert [f['sum'][0, 0] for f in found] == [1, 2, 3] and found[2]['both'][0].shape == (2, 3, 3) and found[0]['both'][1:] == (None, 'name')


def test_half_precision():
    module = Net()
    model = wrap(module, dtype='bfloat16')
    model.predict(pictures(1))
    assert module.calls[0][1] == torch.bfloat16 and module.first.weight.dtype == torch.bfloat16
    class Half(nn.Module):
        def forward(self, x): return x.to(torch.bfloat16)
    assert from_torch(Half(), task='t').predict(pictures(1))[0].dtype == np.float32
    with pytest.raises(AdapterError, match="'int8' is no floating-point type"): wrap(Net(), dtype='int8')


def test_another_method():
    class Encoder(nn.Module):
        def embed(self, x): return x.float().flatten(1)[:, :4]
    assert from_torch(Encoder(), task='t', method='embed').predict(pictures(1))[0].shape == (4,)
    with pytest.raises(AdapterError, match="no method 'predict'"): from_torch(Encoder(), task='t', method='predict')


def test_parameters():
    module = Net()
    module.first.requires_grad_(False)
    tied = nn.ModuleList([module.last, module.last])
    found = count_parameters(module)
    assert (found.total, found.trainable) == (3*4*9 + 4 + 8 + 4*2*9 + 2, 8 + 4*2*9 + 2)
    assert count_parameters(tied).total == 4*2*9 + 2 and wrap(module).parameters == found.total
    lazy = count_parameters(nn.LazyLinear(3))
    assert lazy.total is None and 'first called' in lazy.reason


def test_operations_can_be_counted():
    model = wrap(Net())
    model.setup('cpu')
    batch = model.prepare(pictures(2), 4)
    function, arguments, keywords = model.program(batch)
    found = count_flops(function, *arguments, **keywords)
    assert found.source == 'torch' and found.counted_flops >= 4*2*(24*32*4*27 + 24*32*2*36)


def test_seed_and_hook():
    class Noise(nn.Module):
        def forward(self, x): return torch.rand(len(x), 2)
    told = []
    model = from_torch(Noise(), task='t', setup_hook=lambda model, seed: told.append((type(model), seed)))
    def drawn(seed):
        model.setup('cpu', seed=seed)
        return model.predict(pictures(1))[0].tolist()
    assert drawn(3) == drawn(3) != drawn(4) and told == [(Noise, 3), (Noise, 3), (Noise, 4)]


def test_errors_name_the_model_and_its_samples():
    with pytest.raises(ModelError, match=r"model 'Net' failed at batch 0 of 2 \(s0, s1\): RuntimeError") as caught: from_torch(Net(), task='t').predict(pictures(2))
    assert '2×24×32×3 uint8' in caught.value.hint and isinstance(caught.value.__cause__, RuntimeError)
    class Full(nn.Module):
        def forward(self, x): raise torch.OutOfMemoryError('CUDA out of memory')
    with pytest.raises(ModelError) as caught: from_torch(Full(), task='t').predict(pictures(2))
    assert 'batch size below 2' in caught.value.hint
    with pytest.raises(AdapterError, match='no module of PyTorch'): from_torch(lambda x: x, task='t')
    class Forgetful(nn.Module):
        def forward(self, x): return x[1:]
    with pytest.raises(AdapterError, match='3 predictions for 4 rows'): from_torch(Forgetful(), task='t').predict(pictures(4))


def test_a_module_is_recognised():
    model = BenchmarkableModel(task='t', name='net', model=Net(), input_adapter=ImageInput(channels_first=True))
    assert isinstance(model.invoker, TorchInvoker) and model.framework == 'torch' and model.predict(pictures(1))[0].shape == (24, 32, 2)


def test_a_wrapped_module_travels():
    model = from_torch(nn.Linear(3, 2), task='t', inputs=ImageInput())
    there = pickle.loads(pickle.dumps(model))
    assert np.array_equal(there.predict(pictures(1))[0], model.predict(pictures(1))[0])


def test_synchronize_finds_tensors():
    nested = {'a': (torch.ones(2), [torch.zeros(1)]), 'b': 3}
    assert synchronize(nested) is nested


@cpu_only
def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    found = resolve_device('cuda', framework='torch')
    assert (found.torch(), found.fell_back[:25]) == ('cpu', 'cuda was asked for, and P') and 'CUDA_VISIBLE_DEVICES' in found.fell_back
    with pytest.raises(ConfigError) as caught: resolve_device('cuda', strict=True, framework='torch')
    assert 'CUDA_VISIBLE_DEVICES' in caught.value.hint


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU that PyTorch can use')
def test_on_a_gpu():
    device = resolve_device('auto', framework='torch')
    assert device.platform == 'gpu' and device.kind == torch.cuda.get_device_name(0)
    module = Net()
    reference = wrap(copy.deepcopy(module))
    reference.setup('cpu')
    model = wrap(module)
    model.setup(device)
    assert next(module.parameters()).is_cuda
    agree = np.mean([np.mean(a == b) for a, b in zip(model.predict(pictures(3), 2), reference.predict(pictures(3), 2))])
    assert agree > .99
    with pytest.raises(ConfigError, match='no gpu of that number'): resolve_device('cuda:99', framework='torch')


# --- checkpoints ---------------------------------------------------------------------------------------------------------

try: import transformers
except ImportError: transformers = None
needs_transformers = pytest.mark.skipif(transformers is None, reason='transformers is not installed')


def tiny_depth():
    config = transformers.GLPNConfig(num_encoder_blocks=4, depths=[1]*4, sr_ratios=[1]*4, hidden_sizes=[8]*4, num_attention_heads=[1]*4, mlp_ratios=[1]*4, decoder_hidden_size=8)
    return transformers.GLPNForDepthEstimation(config), 'GLPNImageProcessor', {'size_divisor': 32}

def tiny_relative_depth():
    "A backbone with a DPT head: its processor has a size that does not follow the image's"
    config = transformers.DPTConfig(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16, backbone_out_indices=[0, 1, 2, 3],
                                    neck_hidden_sizes=[8]*4, fusion_hidden_size=8, reassemble_factors=[4, 2, 1, .5], is_hybrid=False)
    return transformers.DPTForDepthEstimation(config), 'DPTImageProcessor', {'size': {'height': 32, 'width': 32}, 'keep_aspect_ratio': False}

def tiny_semantic():
    config = transformers.SegformerConfig(depths=[1]*4, sr_ratios=[1]*4, hidden_sizes=[8]*4, num_attention_heads=[1]*4, mlp_ratios=[1]*4, decoder_hidden_size=8, num_labels=5)
    return transformers.SegformerForSemanticSegmentation(config), 'SegformerImageProcessor', {'size': {'height': 32, 'width': 32}}

def tiny_instances():
    config = transformers.Mask2FormerConfig(backbone_config=transformers.SwinConfig(image_size=32, embed_dim=8, depths=[1]*4, num_heads=[1]*4, window_size=2, out_features=['stage1', 'stage2', 'stage3', 'stage4']),
                                            hidden_dim=32, mask_feature_size=32, feature_size=32, num_queries=6, num_labels=3, encoder_layers=1, decoder_layers=2, num_attention_heads=2,
                                            encoder_feedforward_dim=16, dim_feedforward=16)
    return transformers.Mask2FormerForUniversalSegmentation(config), 'Mask2FormerImageProcessor', {'size': {'height': 64, 'width': 64}, 'num_labels': 3}

def tiny_classifier():
    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16, num_labels=7)
    return transformers.ViTForImageClassification(config), 'ViTImageProcessor', {'size': {'height': 32, 'width': 32}}

@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    "Saves a tiny random checkpoint once"
    made = {}
    def save(make):
        if make not in made:
            torch.manual_seed(0)
            folder = tmp_path_factory.mktemp(make.__name__)/make.__name__.replace('_', '-')
            model, processor, options = make()
            model.save_pretrained(folder)
            getattr(transformers, processor)(**options).save_pretrained(folder)
            made[make] = folder
        return str(made[make])
    return save


CASES = [(tiny_depth, 'monocular_depth', 'depth', np.float32), (tiny_relative_depth, 'monocular_depth', 'depth', np.float32), (tiny_semantic, 'object_segmentation', 'semantic', np.int32),
         (tiny_instances, 'object_segmentation', 'instance', np.int32), (tiny_classifier, 'image_classification', 'classification', np.float32)]

@needs_transformers
@pytest.mark.parametrize('make, task, kind, dtype', CASES, ids=[c[0].__name__ for c in CASES])
def test_a_checkpoint_in_one_line(saved, make, task, kind, dtype):
    model = from_huggingface(saved(make), task=task)
    found = model.predict(pictures(3, 40, 64), batch_size=2)
    assert len(found) == 3 and all(p.dtype == dtype for p in found)
    if kind == 'classification': assert all(p.shape == (7,) and p.sum() == pytest.approx(1) for p in found)
    else: assert all(p.shape == (40, 64) for p in found)
    assert model.metadata['kind'] == kind and model.metadata['architecture'].startswith(type(model.model).__name__[:4]) and 'revision' not in model.metadata
    assert model.name == make.__name__.replace('_', '-') and model.parameters == sum(p.numel() for p in model.model.parameters())


@needs_transformers
def test_one_sample_alone_is_as_in_a_batch(saved):
    model, samples = from_huggingface(saved(tiny_depth), task='monocular_depth'), pictures(3, 32, 64)
    for alone, together in zip(model.predict(samples, 1), model.predict(samples, 2)): assert np.allclose(alone, together, atol=1e-4)


@needs_transformers
def test_depth_is_what_transformers_gives(saved):
    sample = pictures(1, 40, 64)[0]
    path = saved(tiny_relative_depth)
    processor, network = transformers.AutoImageProcessor.from_pretrained(path), transformers.AutoModelForDepthEstimation.from_pretrained(path)
    with torch.no_grad(): outputs = network.eval()(**processor(images=sample.inputs['rgb'], return_tensors='pt'))
    expected = processor.post_process_depth_estimation(outputs, target_sizes=[(40, 64)])[0]['predicted_depth'].numpy()
    depth = from_huggingface(path, task='monocular_depth').predict([sample])[0]
    assert np.allclose(depth, expected, atol=1e-5)
    inverse = from_huggingface(path, task='monocular_depth', inverse=True, scale=2.)
    assert np.allclose(inverse.predict([sample])[0], 2/np.maximum(expected, 1e-6), rtol=1e-4) and inverse.metadata['inverse'] is True


@needs_transformers
def test_instances_are_numbered_from_one(saved):
    lenient = from_huggingface(saved(tiny_instances), task='object_segmentation', threshold=0.)
    found = lenient.predict(pictures(1, 40, 64))[0]
    assert found.min() >= 0 and found.max() >= 1
    strict = from_huggingface(saved(tiny_instances), task='object_segmentation', threshold=1.)
    assert not strict.predict(pictures(1, 40, 64))[0].any()


@needs_transformers
def test_kind_and_further_output(saved):
    model = from_huggingface(saved(tiny_instances), task='colours', kind='semantic', name='mine', output=lambda classes: classes + 100)
    assert model.predict(pictures(1))[0].min() >= 100 and (model.name, model.task, model.metadata['kind']) == ('mine', 'colours', 'semantic')


@needs_transformers
def test_gray_images_and_other_modalities(saved):
    model = from_huggingface(saved(tiny_classifier), task='image_classification', inputs='image')
    samples = [Sample(id='g', inputs={'image': np.zeros((8, 8), np.uint8)}), Sample(id='h', inputs={'image': np.zeros((9, 5, 1), np.uint8)})]
    assert len(model.predict(samples)) == 2
    with pytest.raises(AdapterError, match="no input 'image'"): model.predict(pictures(1))
    with pytest.raises(AdapterError, match='a picture has shape'): model.predict([Sample(id='f', inputs={'image': np.zeros((8, 8, 3), np.float32)})])


def test_a_class_is_no_model():
    with pytest.raises(AdapterError, match='Linear is a class, and a model is an object of it') as caught: from_torch(torch.nn.Linear, task='image_classification')
    assert 'model = Linear(' in caught.value.hint


@needs_transformers
def test_a_folder_that_is_not_there(tmp_path):
    for name in (str(tmp_path/'none'), './nofolder'):
        with pytest.raises(ModelError, match='there is no such folder'): from_huggingface(name, task='image_classification')


@needs_transformers
def test_half_precision_of_a_checkpoint(saved):
    model = from_huggingface(saved(tiny_classifier), task='image_classification', dtype='bfloat16')
    assert model.predict(pictures(2))[0].dtype == np.float32 and model.model.dtype == torch.bfloat16


@needs_transformers
def test_what_cannot_be_loaded(saved, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match='is a ViT, which is no model for depth') as caught: from_huggingface(saved(tiny_classifier), task='monocular_depth')
    assert caught.value.hint
    (tmp_path/'empty').mkdir()
    with pytest.raises(ModelError, match='empty is no checkpoint'): from_huggingface(str(tmp_path/'empty'), task='monocular_depth')
    with pytest.raises(ConfigError, match='no kind of checkpoint'): from_huggingface(saved(tiny_depth), task='tabular_regression')
    monkeypatch.setenv('CALIBRAX_OFFLINE', '1')
    with pytest.raises(DownloadError, match='is not in the cache, and CALIBRAX_OFFLINE forbids downloads') as caught:
        from_huggingface('calibrax-nobody/nothing', task='monocular_depth', cache_dir=str(tmp_path/'cache'))
    assert 'unset CALIBRAX_OFFLINE' in caught.value.hint


@needs_transformers
def test_the_commit_is_pinned_and_recorded(saved, tmp_path, monkeypatch):
    "A repository as the hub's cache holds it: a branch that names a commit, and files of that commit"
    import shutil
    commit = '0123456789abcdef0123456789abcdef01234567'
    base = tmp_path/'models--nobody--tiny'
    shutil.copytree(saved(tiny_classifier), base/'snapshots'/commit)
    (base/'refs').mkdir()
    (base/'refs'/'main').write_text(commit)
    monkeypatch.setenv('CALIBRAX_OFFLINE', '1')
    asked = []
    load = transformers.AutoModelForImageClassification.from_pretrained
    monkeypatch.setattr(transformers.AutoModelForImageClassification, 'from_pretrained', lambda *a, **k: (asked.append(k['revision']), load(*a, **k))[1])
    for revision in (None, 'main', commit):
        model = from_huggingface('nobody/tiny', task='image_classification', revision=revision, cache_dir=str(tmp_path))
        assert (model.name, model.metadata['revision']) == ('nobody/tiny', commit) and model.predict(pictures(1))[0].shape == (7,)
    assert asked == [commit]*3
