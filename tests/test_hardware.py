"Hardware: the published figures, names that never match the wrong device, measuring that is bounded, and what is kept of it."
import copy
import inspect
import json
import pickle
import sys
from collections.abc import Mapping
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calibrax.core.errors import ConfigError, ProfilingError, RecordError
from calibrax.core.files import cache_folder
from calibrax.core.models import Metric, Point, Run
from calibrax.profiling import hardware as module
from calibrax.profiling.hardware import (HARDWARE_SPECS, HardwareSpec, UnknownHardwareError, detect_hardware_specs, measure_execution_time,
                                         measure_hardware_spec, resolve_hardware_spec, spec_for_device_kind)

SMALL = {'matmul_size': 32, 'triad_length': 1000, 'progress': False}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv('CALIBRAX_CACHE_DIR', str(tmp_path))
    monkeypatch.setattr(module, '_resolved', {})


@pytest.fixture
def measured(monkeypatch):
    "Replaces measuring, and counts it"
    calls = []
    def measure(*, dtype, progress=None):
        calls.append(dtype)
        return HardwareSpec(name=f'measured:cpu:{dtype}', peak_flops=1e11, memory_bandwidth=len(calls)*1e10, peak_flops_by_dtype={dtype: 1e11}, measured=True)
    monkeypatch.setattr(module, 'measure_hardware_spec', measure)
    return calls


def device(kind, platform='gpu', **more): return SimpleNamespace(platform=platform, device_kind=kind, **more)


# the table

PUBLISHED = {'a100_sxm4_40gb': (312e12, 1555e9), 'a100_pcie_40gb': (312e12, 1555e9), 'a100_sxm4_80gb': (312e12, 2039e9), 'a100_pcie_80gb': (312e12, 1935e9),
             'h100_sxm': (989.4e12, 3350e9), 'h100_pcie': (756e12, 2000e9), 'rtx_4090': (165.2e12, 1008e9), 'tpu_v4': (275e12, 1200e9),
             'tpu_v5e': (197e12, 819e9), 'tpu_v5p': (459e12, 2765e9), 'tpu_v6e': (918e12, 1638e9),
             'a100_80g': (312e12, 2039e9), 'h100': (989.4e12, 3350e9), 'cpu_generic': (2e12, 200e9)}

@pytest.mark.parametrize('name', PUBLISHED)
def test_published_names_have_the_published_figures(name):
    spec = HARDWARE_SPECS[name]
    assert (spec.peak_flops, spec.memory_bandwidth) == PUBLISHED[name]
    assert spec['critical_intensity'] == spec.critical_intensity == spec.peak_flops/spec.memory_bandwidth
    assert spec['peak_flops'] == spec.get('peak_flops_bf16') == spec.peak_flops and spec.get('nothing') is None
    if name.startswith(('a100', 'h100', 'rtx')): assert spec.tensor_core_shapes == ((16, 16, 16), (32, 8, 16), (8, 32, 16), (16, 16, 8))


@pytest.mark.parametrize('start', ('v100', 't4', 'a10g', 'l4', 'l40s', 'a100', 'h100_nvl', 'h200_sxm', 'h200_nvl', 'b200', 'gb200', 'rtx_3090', 'rtx_5090', 'mi300x',
                                   'tpu_v7x', 'trainium1', 'trainium2'))
def test_devices_in_common_use_are_there(start):
    assert any(name.startswith(start) for name in HARDWARE_SPECS)


def test_every_line_of_the_table_is_plausible():
    for name, spec in HARDWARE_SPECS.items():
        assert spec.source and not spec.measured and 10 <= spec.critical_intensity <= 1000, name
        peaks = spec.peak_flops_by_dtype
        if name == 'cpu_generic': continue
        assert spec.peak_flops == peaks.get('bfloat16', peaks.get('float16')) and 16 <= spec.memory_gb <= 512, name
        # narrower types are never slower, and nothing is printed "with sparsity": twice the next is the most
        order = [peaks[d] for d in ('float64', 'float32', 'tensorfloat32', 'float16', 'float8') if d in peaks]
        assert order == sorted(order), name
        if 'float16' in peaks and 'bfloat16' in peaks: assert peaks['float16'] == peaks['bfloat16'], name
        if 'float8' in peaks: assert peaks['float8'] <= 4*peaks['bfloat16'], name
        if 'int8' in peaks: assert peaks['int8'] <= 4.1*spec.peak_flops, name


def test_the_table_is_read_only_and_an_unknown_name_names_the_nearest():
    with pytest.raises(TypeError): HARDWARE_SPECS['mine'] = HARDWARE_SPECS['t4']
    with pytest.raises(KeyError, match='h100_sxm'): HARDWARE_SPECS['h100-sxm5']
    with pytest.raises(LookupError): HARDWARE_SPECS['zzzzzz']
    assert 'mine' not in HARDWARE_SPECS and HARDWARE_SPECS.get('mine') is None
    assert len(HARDWARE_SPECS.table().rows) == len(HARDWARE_SPECS) and '<table>' in HARDWARE_SPECS._repr_html_()


# HardwareSpec

def test_a_spec_is_a_record():
    spec = HARDWARE_SPECS['h100_sxm']
    assert HardwareSpec.from_dict(json.loads(spec.to_json())) == spec == pickle.loads(pickle.dumps(spec)) == copy.deepcopy(spec)
    assert {'name', 'peak_flops', 'memory_bandwidth', 'tensor_core_shapes', 'simd_width'} <= set(spec.to_dict())
    assert dict(spec)['peak_flops'] == spec.peak_flops and set(spec.keys()) == set(spec)
    assert '989.40 TFLOP/s' in repr(spec) and 'FLOP/byte' in spec._repr_html_()


def test_a_spec_is_an_environment(): # DiffBio: Run(points=points, environment=detect_hardware_specs())
    spec = HARDWARE_SPECS['a100_sxm4_80gb']
    run = Run(points=(Point(name='p', scenario='s', metrics={'m': Metric(value=1)}),), environment=spec)
    assert run.environment['peak_flops'] == 312e12 and Run.from_json(run.to_json()) == run
    assert isinstance(spec, Mapping) and len(spec) == len(dict(spec)) == 6 and dict(spec.items()) == dict(spec) and list(spec.values()) == list(dict(spec).values())

def test_a_warning_is_shown():
    spec = HardwareSpec(name='x', peak_flops=1, memory_bandwidth=1, warnings=('too <low>',))
    assert '! too <low>' in repr(spec) and '&lt;low&gt;' in spec._repr_html_()


@pytest.mark.parametrize('dtype', [jnp.bfloat16, 'bfloat16', 'bf16', np.dtype(jnp.bfloat16), jnp.ones(1, jnp.bfloat16).dtype])
def test_peak_understands_every_spelling_of_a_dtype(dtype):
    assert HARDWARE_SPECS['l4'].peak(dtype) == 121e12


def test_peak_is_never_guessed():
    with pytest.raises(UnknownHardwareError, match='no peak is known for bfloat16') as e: HARDWARE_SPECS['t4'].peak('bfloat16')
    assert 'float16' in e.value.hint and isinstance(e.value, ProfilingError)
    assert HARDWARE_SPECS['t4'].peak() == 65e12
    assert HardwareSpec(name='old', peak_flops=5, memory_bandwidth=1).peak('float32') == 5      # an older dict knows one figure


@pytest.mark.parametrize('bad', [0, -1, float('nan'), float('inf')])
def test_figures_must_be_positive(bad):
    for wrong in ({'peak_flops': bad, 'memory_bandwidth': 1}, {'peak_flops': 1, 'memory_bandwidth': bad}, {'peak_flops': 1, 'memory_bandwidth': 1, 'peak_flops_by_dtype': {'x': bad}}):
        with pytest.raises(RecordError, match='expected a positive number'): HardwareSpec(name='x', **wrong)


# device kinds

@pytest.mark.parametrize('kind, name', [
    ('NVIDIA A100-SXM4-40GB', 'a100_sxm4_40gb'), ('A100-SXM4-40GB', 'a100_sxm4_40gb'), ('NVIDIA A100-PCIE-40GB', 'a100_pcie_40gb'),
    ('NVIDIA A100 80GB PCIe', 'a100_pcie_80gb'), ('NVIDIA H100 80GB HBM3', 'h100_sxm'), ('NVIDIA H100 PCIe', 'h100_pcie'), ('NVIDIA H100 NVL', 'h100_nvl'),
    ('NVIDIA H200', 'h200_sxm'), ('NVIDIA H200 NVL', 'h200_nvl'), ('NVIDIA B200', 'b200'), ('NVIDIA GB200', 'gb200'), ('Tesla T4', 't4'), ('NVIDIA T4', 't4'),
    ('Tesla V100-SXM2-16GB', 'v100_sxm2_16gb'), ('NVIDIA A10G', 'a10g'), ('NVIDIA A10', 'a10'), ('NVIDIA L4', 'l4'), ('NVIDIA L40', 'l40'), ('NVIDIA L40S', 'l40s'),
    ('NVIDIA GeForce RTX 4090', 'rtx_4090'), ('nvidia geforce rtx 3090', 'rtx_3090'), ('AMD Instinct MI300X', 'mi300x'),
    ('TPU v4', 'tpu_v4'), ('TPU v5 lite', 'tpu_v5e'), ('TPU v5', 'tpu_v5p'), ('TPU v5p', 'tpu_v5p'), ('TPU v6 lite', 'tpu_v6e'), ('TPU7x', 'tpu_v7x')])
def test_known_devices(kind, name): assert spec_for_device_kind(kind).name == name


@pytest.mark.parametrize('kind', [
    'NVIDIA GeForce RTX 4090 Laptop GPU', 'NVIDIA GeForce RTX 4090 D', 'NVIDIA GeForce RTX 3090 Ti', 'NVIDIA A100-SXM4-40GB MIG 1g.5gb', 'GRID A100-10C',
    'NVIDIA H100', 'NVIDIA H100 80GB HBM3 MIG 1g.10gb', 'NVIDIA H800', 'NVIDIA H20', 'NVIDIA A800-SXM4-80GB', 'NVIDIA T4G', 'NVIDIA A10M', 'NVIDIA L40G',
    'AMD Instinct MI300A', 'TPU v2', 'TPU v3', 'TPU v4 lite', 'TPU', 'cpu', 'Host', ''])
def test_a_variant_is_not_taken_for_its_sister(kind): assert spec_for_device_kind(kind) is None


# measuring

def test_measuring_finds_plausible_figures():
    spec = measure_hardware_spec(matmul_size=256, triad_length=2**20, progress=False)
    assert spec.measured and spec.name == 'measured:cpu:float32' and spec.peak('float32') == spec.peak_flops
    assert 1e7 < spec.peak_flops < 1e15 and 1e7 < spec.memory_bandwidth < 1e14
    assert '256 × 256' in spec.source
    # the same product by NumPy's library: not the same figure, the same world
    a = np.ones((256, 256), np.float32)
    seconds = min(module.time_calls(lambda: a @ a, sync=lambda result: None).samples_sec)
    assert 1e-4 < spec.peak_flops/(2*256**3/seconds) < 1e4


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'int8', jnp.float32])
def test_measuring_in_other_dtypes(dtype):
    spec = measure_hardware_spec(dtype=dtype, **SMALL)
    assert list(spec.peak_flops_by_dtype) == [module._dtype_name(dtype)] and spec.peak_flops > 0


@pytest.mark.parametrize('wrong', [{'matmul_size': 0}, {'matmul_size': -4}, {'triad_length': 0}, {'triad_length': 1.5}, {'matmul_size': '8'}])
def test_sizes_must_be_positive(wrong):
    with pytest.raises(ValueError, match='must be >= 1') as e: measure_hardware_spec(**wrong)
    assert isinstance(e.value, ConfigError)


def test_a_dtype_that_cannot_be_measured_is_refused():
    with pytest.raises(ConfigError, match='float64 is off'): measure_hardware_spec(dtype='float64')
    with pytest.raises(ConfigError, match='dtype must be one of'): measure_hardware_spec(dtype='int32')


def test_the_product_is_neither_folded_nor_dropped(monkeypatch):
    "Eight times the work takes longer: the program computes when it is called"
    # counted in the compiled program, not timed
    seen = []
    monkeypatch.setattr(module, '_best_median', lambda call, seconds: seen.append(call()) or 1.0)
    module._product_seconds(64, 'float32', 0.1)
    row = (np.arange(64) % 7 - 3).astype(np.float32)
    a = np.broadcast_to(row, (64, 64))
    np.testing.assert_allclose(seen[0], a @ a, rtol=1e-5)
    module._triad_seconds(10, 0.1)
    np.testing.assert_allclose(seen[1], 1.5*row[:10], rtol=1e-6)


def test_growing_sizes_stop_before_they_take_too_long(monkeypatch):
    clock = [0.0]
    def product(size, dtype, seconds):
        took = 1e-9*size**3/10
        clock[0] += 10*took
        return took
    monkeypatch.setattr(module, '_product_seconds', product)
    monkeypatch.setattr(module, 'time', SimpleNamespace(perf_counter=lambda: clock[0]))
    peak, size = module._peak((256, 512, 1024, 2048, 4096), 'float32', lambda label: None)
    assert size <= 1024 and 0 < clock[0] < 5
    monkeypatch.setattr(module, '_product_seconds', lambda size, dtype, seconds: 1.0)
    assert module._peak((256, 512), 'float32', lambda label: None)[1] == 256      # the first is always measured


def test_a_device_that_fails_is_reported(monkeypatch):
    def broken(*args): raise RuntimeError('RESOURCE_EXHAUSTED: out of memory')
    monkeypatch.setattr(module, '_triad_seconds', broken)
    with pytest.raises(ProfilingError, match='measuring cpu raised .*RESOURCE_EXHAUSTED'): measure_hardware_spec(**SMALL)


def test_other_programs_leave_a_warning(monkeypatch):
    readings = iter([(0.0, 0.0, 2), (1e9, 1.0, 2)])
    monkeypatch.setattr(module, '_cpu_seconds', lambda: next(readings))
    spec = measure_hardware_spec(**SMALL)
    assert len(spec.warnings) == 1 and 'other programs' in spec.warnings[0]
    readings = iter([(0.0, 0.0, 2), (5.0, 6.0, 2)])
    assert measure_hardware_spec(**SMALL).warnings is None


def test_progress_is_shown_where_somebody_looks(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, 'tqdm', None)
    monkeypatch.setitem(sys.modules, 'tqdm.auto', None)
    measure_hardware_spec(**{**SMALL, 'progress': True})
    assert 'measuring this device: 32 × 32 float32' in capfd.readouterr().err
    measure_hardware_spec(**{**SMALL, 'progress': None})
    assert capfd.readouterr().err == ''


def test_a_progress_bar(capfd):
    pytest.importorskip('tqdm')
    measure_hardware_spec(**{**SMALL, 'progress': True})
    assert 'measuring this device' in capfd.readouterr().err


def test_cache_and_vector_size_are_read_or_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(module.os, 'sched_getaffinity', lambda pid: {0, 1, 2}, raising=False)
    for core, shared in ((0, '0-1'), (1, '0-1'), (2, '2')):
        folder = tmp_path/f'sys/devices/system/cpu/cpu{core}/cache/index3'
        folder.mkdir(parents=True)
        (folder/'shared_cpu_list').write_text(shared + '\n')
        (folder/'size').write_text('1024K\n')
    assert module._last_cache_bytes(tmp_path) == 2*2**20
    (folder/'size').write_text('?')
    assert module._last_cache_bytes(tmp_path) is None and module._last_cache_bytes(tmp_path/'nowhere') is None
    (tmp_path/'proc').mkdir()
    for text, width in (('flags : fpu sse2 avx avx2 avx512f\n', 16), ('flags : sse2 avx\n', 8), ('Features\t: fp asimd\n', 4), ('Hardware : x\n', None)):
        (tmp_path/'proc/cpuinfo').write_text(text)
        assert module._simd_width(tmp_path) == width
    assert module._simd_width(tmp_path/'nowhere') is None


def test_a_large_cache_is_admitted(monkeypatch):
    monkeypatch.setattr(module, '_last_cache_bytes', lambda: 10**9)
    assert 'nearly fit the last cache' in measure_hardware_spec(**SMALL).source


# known or measured

def test_a_known_device_is_never_measured(monkeypatch, measured):
    monkeypatch.setattr(module, '_default_device', lambda: device('NVIDIA H100 PCIe'))
    assert detect_hardware_specs() is HARDWARE_SPECS['h100_pcie'] and resolve_hardware_spec(dtype='float64').name == 'h100_pcie' and measured == []


@pytest.mark.parametrize('unknown', [device('NVIDIA GeForce RTX 4090 Laptop GPU'), device('TPU v4', 'tpu', num_cores=1), device('cpu', 'cpu')])
def test_any_other_device_is_measured_once(monkeypatch, measured, unknown):
    monkeypatch.setattr(module, '_default_device', lambda: unknown)
    first = detect_hardware_specs()
    assert first is detect_hardware_specs() and measured == ['float32']
    monkeypatch.setattr(module, '_resolved', {})                    # another process
    assert resolve_hardware_spec(dtype=jnp.float32) == first and measured == ['float32']
    assert resolve_hardware_spec(dtype='bf16').name.endswith('bfloat16') and measured == ['float32', 'bfloat16']
    assert resolve_hardware_spec(refresh=True) != first and len(measured) == 3


def test_a_chip_used_whole_is_known(monkeypatch, measured):
    monkeypatch.setattr(module, '_default_device', lambda: device('TPU v4', 'tpu', num_cores=2))
    assert detect_hardware_specs().name == 'tpu_v4'


@pytest.mark.parametrize('damage', ['', '{', '[]', '{"machine": {}}', '{"machine": 3, "spec": {}}', b'\xff\xfe',
                                    lambda text: text.replace('"peak_flops":100000000000.0', '"peak_flops":-1'), lambda text: text.replace('"peak_flops":', '"speed":'),
                                    lambda text: text[:-20]])
def test_a_damaged_file_is_measured_over(measured, damage):
    resolve_hardware_spec()
    file, = (cache_folder()/'hardware').glob('*.json')
    text = file.read_text().replace('": ', '":')
    file.write_bytes((damage(text) if callable(damage) else damage).encode() if not isinstance(damage, bytes) else damage)
    module._resolved.clear()
    assert resolve_hardware_spec().measured and len(measured) == 2
    module._resolved.clear()
    assert resolve_hardware_spec() and len(measured) == 2         # it was written anew


def test_another_machine_or_version_measures_anew(measured, monkeypatch):
    here = module._machine(module._default_device(), 'float32')
    for n, change in enumerate(({}, {'cpu': 'other'}, {'cores': 1}, {'jax': ['0.0', '0.0']}, {'flags': '--xla_x=1'}, {}), 1):
        monkeypatch.setattr(module, '_machine', lambda device, dtype: here | change)
        resolve_hardware_spec()
        assert len(measured) == min(n, 5)
    file = next((cache_folder()/'hardware').glob('*.json'))         # a file under the right name, for another machine
    file.write_text(json.dumps({'machine': here | {'cpu': 'another'}, 'spec': HARDWARE_SPECS['t4'].to_dict()}))
    assert module._stored_spec(file, here) is None


def test_a_folder_that_cannot_be_written_costs_only_the_file(measured, monkeypatch, tmp_path, caplog):
    (tmp_path/'file').write_text('')
    monkeypatch.setenv('CALIBRAX_CACHE_DIR', str(tmp_path/'file'))
    assert resolve_hardware_spec().measured and resolve_hardware_spec().measured and measured == ['float32']
    assert 'not kept' in caplog.text and 'damaged' not in caplog.text


def test_doubtful_figures_stay_in_the_process(monkeypatch):
    doubtful = HardwareSpec(name='measured:cpu:float32', peak_flops=1, memory_bandwidth=1, measured=True, warnings=('busy',))
    monkeypatch.setattr(module, 'measure_hardware_spec', lambda **kwargs: doubtful)
    assert resolve_hardware_spec() is doubtful and not list(cache_folder().glob('hardware/*.json'))


def test_the_default_device_decides():
    with jax.default_device(jax.devices('cpu')[0]): assert module._default_device() == jax.devices('cpu')[0]


# older spellings and signatures

def test_measure_execution_time():
    calls = []
    assert measure_execution_time(lambda a, b: calls.append((a, b)) or a, (1.0, 2.0), warmup=2, iterations=4) >= 0
    assert set(calls) == {(1.0, 2.0)} and len(calls) >= 6
    with pytest.raises(ValueError): measure_execution_time(lambda: 1.0, (), iterations=0)


def test_the_published_signatures():
    assert list(inspect.signature(measure_hardware_spec).parameters)[:3] == ['dtype', 'matmul_size', 'triad_length']
    assert {n: p.default for n, p in inspect.signature(measure_execution_time).parameters.items()} | {'func': 0, 'inputs': 0} == dict(func=0, inputs=0, warmup=3, iterations=10)
    assert inspect.signature(resolve_hardware_spec).parameters['dtype'].kind is inspect.Parameter.KEYWORD_ONLY
