"GPU readers through a pretended driver and pretended devices of JAX: every fault has its sentence, every None its reason."
import gc, os, pickle, subprocess, sys, types

import pytest

from calibrax.core.errors import ConfigError, ProfilingError
from calibrax.core.measurements import GpuClocks, GpuMemory, GpuPower
from calibrax.profiling import gpu
from calibrax.profiling.gpu import (AdaptiveOperation, GPUMemoryProfiler, HardwareConfig, MemoryAnalysis, MemoryOptimizer, analyze_memory_pattern,
                                    detect_gpus)
from calibrax.profiling.nvml import NvmlDevice, NvmlMissingError, nvml_devices
from calibrax.profiling.resources import GpuGroup, GPUProfilerProtocol, ResourceMonitor

MB = 1024**2
INVALID, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, NO_DRIVER, NO_LIBRARY, NO_FUNCTION, LOST, NEEDS_RESET, MISMATCH, OTHER_VERSION, UNKNOWN = 2, 3, 4, 6, 9, 12, 13, 15, 16, 18, 25, 999


class Card:
    def __init__(self, number=0, name='NVIDIA H200', uuid=None, **answers):
        self.number, self.name, self.uuid = number, name, uuid or f'GPU-{number:08x}-aaaa-bbbb'
        self.errors, self.asked = {}, []
        self.answers = {'memory': (2048*MB, 600*MB, 8192*MB), 'utilization': 73, 'graphics': 1500, 'memory clock': 10_000, 'power': 240_000,
                        'limit': 450_000, 'energy': 1_234_567} | answers

    def ask(self, what):
        self.asked.append(what)
        if (code := self.errors.get('all', self.errors.get(what))) is not None: raise sys.modules['pynvml'].NVMLError(code)
        return self.answers[what]


class FakeNvml(types.ModuleType):
    "What nvidia-ml-py offers, as far as it is used: error classes by code, counted openings, bytes or text, both kinds of memory"
    NVML_CLOCK_GRAPHICS, NVML_CLOCK_MEM, nvmlMemory_v2 = 0, 2, 0x2000028

    def __init__(self, *cards, as_bytes=False, start_error=None):
        super().__init__('pynvml')
        self.cards, self.slices, self.as_bytes, self.start_error, self.opened, self.most = list(cards), [], as_bytes, start_error, 0, 0
        class NVMLError(Exception):
            kinds = {}
            def __new__(cls, value):
                error = Exception.__new__(NVMLError.kinds.get(value, NVMLError))
                error.value = value
                return error
            def __str__(self): return {UNKNOWN: 'Unknown Error'}.get(self.value, f'NVML Error with code {self.value}')
        self.NVMLError = NVMLError
        for code, name in ((NOT_SUPPORTED, 'NotSupported'), (LOST, 'GpuIsLost'), (NO_LIBRARY, 'LibraryNotFound'), (INVALID, 'InvalidArgument')):
            NVMLError.kinds[code] = kind = type(f'NVMLError_{name}', (NVMLError,), {})
            setattr(self, f'NVMLError_{name}', kind)

    def text(self, value): return value.encode() if self.as_bytes else value
    def check(self):
        if not self.opened: raise self.NVMLError(1)
    def nvmlInit(self):
        if self.start_error is not None: raise self.NVMLError(self.start_error)
        self.opened += 1
        self.most = max(self.most, self.opened)
    def nvmlShutdown(self):
        self.check()
        self.opened -= 1
    def nvmlDeviceGetCount(self): self.check(); return len(self.cards)
    def nvmlDeviceGetHandleByIndex(self, i):
        self.check()
        if not 0 <= i < len(self.cards): raise self.NVMLError(INVALID)
        if 'open' in self.cards[i].errors: raise self.NVMLError(self.cards[i].errors['open'])
        return self.cards[i]
    def nvmlDeviceGetHandleByUUID(self, uuid):
        self.check()
        assert isinstance(uuid, bytes)
        for card in [*self.cards, *self.slices]:
            if card.uuid.encode() == uuid: return card
        raise self.NVMLError(NOT_FOUND)
    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, part): return self.cards[part.number]
    def nvmlDeviceGetIndex(self, card): return card.number
    def nvmlDeviceGetName(self, card): return self.text(card.name)
    def nvmlDeviceGetUUID(self, card): return self.text(card.uuid)
    def nvmlDeviceGetMemoryInfo(self, card, version=None):
        self.check()
        used, reserved, total = card.ask('memory v2' if version else 'memory') if 'memory v2' in card.errors or not version else card.ask('memory')
        return types.SimpleNamespace(used=used if version else used + reserved, reserved=reserved, total=total, free=total - used - reserved)
    def nvmlDeviceGetUtilizationRates(self, card): self.check(); return types.SimpleNamespace(gpu=card.ask('utilization'), memory=1)
    def nvmlDeviceGetClockInfo(self, card, kind): self.check(); return card.ask({0: 'graphics', 2: 'memory clock'}[kind])
    def nvmlDeviceGetPowerUsage(self, card): self.check(); return card.ask('power')
    def nvmlDeviceGetEnforcedPowerLimit(self, card): self.check(); return card.ask('limit')
    def nvmlDeviceGetTotalEnergyConsumption(self, card): self.check(); return card.ask('energy')


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    for name in ('CUDA_VISIBLE_DEVICES', 'CUDA_DEVICE_ORDER'): monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, 'pynvml', None)      # not installed, unless a test puts a fake there

@pytest.fixture
def fake(monkeypatch):
    def put(*cards, **settings):
        module = FakeNvml(*(cards or [Card()]), **settings)
        monkeypatch.setitem(sys.modules, 'pynvml', module)
        return module
    return put


# --- NVML: opening ---------------------------------------------------------------------------------------------------------

def test_missing_module():
    with pytest.raises(NvmlMissingError, match='NVML cannot be read') as caught: NvmlDevice()
    assert isinstance(caught.value, ImportError) and isinstance(caught.value, ProfilingError) and 'calibrax[gpu]' in caught.value.hint
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.message, again.hint) == (caught.value.message, caught.value.hint)

def test_importing_needs_no_pynvml():
    code = 'import sys; sys.modules["pynvml"] = None; import calibrax.profiling.nvml, calibrax.profiling.gpu; assert "jax" not in sys.modules'
    subprocess.run([sys.executable, '-c', code], check=True)

@pytest.mark.parametrize('code, sentence', [(NO_LIBRARY, 'no NVIDIA driver is installed'), (NO_DRIVER, 'not loaded'), (NO_PERMISSION, 'no permission'),
                                            (MISMATCH, 'different versions'), (UNKNOWN, 'NVML does not start: Unknown Error')])
def test_what_keeps_nvml_from_starting(fake, code, sentence):
    fake(start_error=code)
    for action in (NvmlDevice, nvml_devices):
        with pytest.raises(ProfilingError, match=sentence) as caught: action()
        assert caught.value.hint and caught.value.details['nvml_error'] == code and not isinstance(caught.value, ImportError)

@pytest.mark.parametrize('index, there', [(1, 1), (7, 1), ('GPU-none', 1), (0, 0)])
def test_gpu_that_is_not_there(fake, index, there):
    module = fake()
    module.cards = module.cards[:there]
    with pytest.raises(ConfigError, match=f'there is no GPU {index} here: NVML sees {there or "none"}'): NvmlDevice(index)
    assert module.opened == 0

@pytest.mark.parametrize('index', [-1, 1.0, None, True, b'GPU'])
def test_bad_index(fake, index):
    fake()
    with pytest.raises(ConfigError, match='by its number or its UUID'): NvmlDevice(index)

def test_lost_while_opening(fake):
    module = fake()
    module.cards[0].errors['open'] = LOST
    with pytest.raises(ProfilingError, match='opening GPU 0: the GPU has disappeared'): NvmlDevice(0)
    assert module.opened == 0

def test_openings_are_counted(fake):
    module = fake(Card(0), Card(1))
    first, second = NvmlDevice(0), NvmlDevice(1)
    assert module.opened == 2
    first.close(); first.close()
    assert module.opened == 1 and second.utilization() == 73.
    with second: pass
    assert module.opened == 0
    with pytest.raises(ProfilingError, match='is closed'): second.power()

def test_forgotten_device_closes_itself(fake):
    module = fake()
    NvmlDevice()
    gc.collect()
    assert module.opened == 0

def test_closing_after_the_driver_is_gone_is_no_error(fake):
    module = fake()
    device = NvmlDevice()
    module.opened = 0
    device.close()


# --- NVML: reading -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('as_bytes', [False, True])
def test_readings(fake, as_bytes):
    fake(as_bytes=as_bytes)
    with NvmlDevice(0) as device:
        assert isinstance(device, GPUProfilerProtocol)
        assert device.memory() == GpuMemory(used_mb=2048., total_mb=8192.)
        assert device.utilization() == 73. and device.energy_joules() == 1234.567
        assert device.clocks() == GpuClocks(graphics_mhz=1500., memory_mhz=10_000.)
        assert device.power() == GpuPower(draw_w=240., limit_w=450.)
        assert (device.name, device.uuid, device.index, device.unavailable) == ('NVIDIA H200', 'GPU-00000000-aaaa-bbbb', 0, {})
        assert repr(device) == 'NvmlDevice(0: NVIDIA H200, GPU-00000000-aaaa-bbbb)' and '2048 of 8192 MB' in device._repr_html_()

READINGS = {'memory': 'memory', 'utilization': 'utilization', 'clocks': 'graphics', 'power': 'power', 'energy_joules': 'energy'}

@pytest.mark.parametrize('method', READINGS)
@pytest.mark.parametrize('code, reason', [(NOT_SUPPORTED, 'NVIDIA H200 does not report it'), (NO_FUNCTION, 'the driver is too old')])
def test_what_a_gpu_does_not_have_is_none_with_a_reason(fake, method, code, reason):
    module = fake()
    device, card = NvmlDevice(), module.cards[0]
    card.errors[READINGS[method]] = code
    assert getattr(device, method)() is None
    assert reason in device.unavailable[method.removesuffix('_joules')]
    card.errors.clear()
    assert getattr(device, method)() is not None and device.unavailable == {}

@pytest.mark.parametrize('method', READINGS)
@pytest.mark.parametrize('code, sentence', [(LOST, 'the GPU has disappeared'), (NEEDS_RESET, 'the GPU must be reset'), (NO_PERMISSION, 'no permission'), (UNKNOWN, 'NVML says: Unknown Error')])
def test_faults_are_errors(fake, method, code, sentence):
    module = fake()
    device = NvmlDevice()
    module.cards[0].errors['all'] = code
    with pytest.raises(ProfilingError, match=f'reading the {method.removesuffix("_joules")} of GPU 0: {sentence}') as caught: getattr(device, method)()
    assert caught.value.hint and isinstance(caught.value.__cause__, module.NVMLError)

@pytest.mark.parametrize('code', [NO_FUNCTION, OTHER_VERSION, NOT_SUPPORTED, INVALID])
def test_first_kind_of_memory_on_older_drivers(fake, code):
    module = fake()
    module.cards[0].errors['memory v2'] = code
    assert NvmlDevice().memory() == GpuMemory(used_mb=2648., total_mb=8192.)      # with what the driver keeps for itself

def test_older_module_knows_only_the_first_kind(fake):
    module = fake()
    module.nvmlMemory_v2 = None
    assert NvmlDevice().memory() == GpuMemory(used_mb=2648., total_mb=8192.)

def test_power_without_a_limit(fake):
    module = fake()
    module.cards[0].errors['limit'] = NOT_SUPPORTED
    assert NvmlDevice().power() == GpuPower(draw_w=240.)

def test_zero_is_a_reading(fake):
    module = fake()
    module.cards[0].answers |= {'utilization': 0, 'power': 0}
    assert NvmlDevice().utilization() == 0. and NvmlDevice().power().draw_w == 0.

def test_device_that_disappears_while_watched(fake):
    module = fake()
    with pytest.raises(ProfilingError, match='sampling failed after .*reading the memory of GPU 0: the GPU has disappeared') as caught:
        with ResourceMonitor(60, gpu_profiler=NvmlDevice()) as monitor: module.cards[0].errors['all'] = LOST
    assert 'Xid' in caught.value.hint
    assert monitor.summary.peak_gpu_mem_mb == 2048.


# --- NVML: which devices -------------------------------------------------------------------------------------------------

def four(fake):
    return fake(*(Card(i, uuid=f'GPU-{c*8}') for i, c in enumerate('abcd')))

@pytest.mark.parametrize('visible, indices', [
    (None, [0, 1, 2, 3]), ('all', [0, 1, 2, 3]), ('', []), ('-1', []), ('NoDevFiles', []), ('2', [2]), ('3,0', [3, 0]), (' 1 , 2 ', [1, 2]),
    ('0,7,1', [0]), ('GPU-bbbbbbbb', [1]), ('GPU-c', [2]), ('GPU-', []), ('GPU-b,0', [1, 0]), ('1,1', [1]), ('MIG-unknown', [])])
def test_visible_devices(fake, monkeypatch, visible, indices):
    module = four(fake)
    devices = nvml_devices(visible)
    assert [d.index for d in devices] == indices
    assert module.opened == len(indices)
    if visible not in (None, 'all'):
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
        assert [d.index for d in nvml_devices()] == indices
    for d in devices: d.close()

def test_mig(fake):
    module = four(fake)
    part = Card(2, name='NVIDIA H200 MIG 1g.18gb', uuid='MIG-1234', memory=(100*MB, 0, 18_000*MB))
    part.errors = {'utilization': NOT_SUPPORTED, 'graphics': INVALID, 'power': NOT_SUPPORTED, 'energy': INVALID}
    module.slices.append(part)
    device, = nvml_devices('MIG-1234')
    assert device.index == 2 and device.is_mig and device.memory().total_mb == 18_000.
    assert (device.utilization(), device.clocks(), device.power(), device.energy_joules()) == (None,)*4
    assert set(device.unavailable.values()) == {'a MIG slice has none of its own'}

def test_card_in_mig_mode_reports_less(fake):
    module = fake()
    module.cards[0].errors['utilization'] = NOT_SUPPORTED
    with ResourceMonitor(gpu_profiler=nvml_devices()) as monitor: pass
    assert set(monitor.summary.unavailable) == {'utilization'}

def test_different_cards_are_warned_about(fake, caplog, monkeypatch):
    fake(Card(0, 'NVIDIA T4'), Card(1, 'NVIDIA H200'))
    nvml_devices()
    assert 'CUDA_DEVICE_ORDER=PCI_BUS_ID' in caplog.text
    caplog.clear()
    monkeypatch.setenv('CUDA_DEVICE_ORDER', 'PCI_BUS_ID')
    nvml_devices()
    assert not caplog.text

def test_one_card_that_fails_closes_the_others(fake):
    module = four(fake)
    module.cards[3].errors['open'] = LOST
    with pytest.raises(ProfilingError, match='opening GPU 3: the GPU has disappeared'): nvml_devices()
    gc.collect()
    assert module.opened == 0

def test_devices_as_a_group(fake):
    four(fake)
    group = GpuGroup(nvml_devices('0,1'))
    assert group.memory().used_mb == 4096. and group.energy_joules() == 2*1234.567 and group.power().limit_w == 900.


def test_the_real_module_without_a_driver(monkeypatch):
    "With nvidia-ml-py but no NVIDIA driver"
    monkeypatch.delitem(sys.modules, 'pynvml')
    real = pytest.importorskip('pynvml')
    try: real.nvmlInit()
    except real.NVMLError_LibraryNotFound: pass
    except real.NVMLError: pytest.skip('a driver that does not work')
    else:
        real.nvmlShutdown()
        pytest.skip('there is a driver')
    with pytest.raises(ProfilingError, match='no NVIDIA driver is installed'): NvmlDevice()

@pytest.mark.gpu
def test_a_real_gpu(monkeypatch):
    monkeypatch.delitem(sys.modules, 'pynvml')
    try: device = NvmlDevice(0)
    except (ProfilingError, ConfigError) as e: pytest.skip(e.message)
    with device:
        memory = device.memory()
        assert 0 <= memory.used_mb <= memory.total_mb and 0 <= device.utilization() <= 100


# --- JAX -----------------------------------------------------------------------------------------------------------------

class Device:
    "Answers as a device of JAX does"
    platform, device_kind, local_hardware_id = 'gpu', 'NVIDIA H200', 0
    def __init__(self, stats='usual', **more):
        self.stats = {'bytes_in_use': 2048*MB, 'bytes_limit': 8192*MB, 'peak_bytes_in_use': 4096*MB} if stats == 'usual' else stats
        self.__dict__.update(more)
    def memory_stats(self):
        if isinstance(self.stats, Exception): raise self.stats
        return self.stats
    def __str__(self): return f'cuda:{self.local_hardware_id}'

@pytest.fixture
def jax_gpus(monkeypatch):
    def put(*devices): monkeypatch.setattr(gpu, '_jax_gpus', lambda: (list(devices), '' if devices else 'JAX sees no GPU here, only its cpu'))
    return put

def test_without_a_gpu():
    profiler = GPUMemoryProfiler()
    assert not profiler.has_gpu and isinstance(profiler, GPUProfilerProtocol)
    assert (profiler.memory(), profiler.peak_mb, profiler.utilization(), profiler.clocks(), profiler.power(), profiler.energy_joules()) == (None,)*6
    assert set(profiler.unavailable) == {'memory', 'peak', 'utilization', 'clocks', 'power', 'energy'}
    assert all(reason.startswith('JAX sees no GPU here') for reason in profiler.unavailable.values())

def test_memory_comes_from_jax():
    profiler = GPUMemoryProfiler(Device())
    assert profiler.has_gpu and profiler.memory() == GpuMemory(used_mb=2048., total_mb=8192.) and profiler.peak_mb == 4096.
    assert profiler.power() is None and 'NVML cannot be read' in profiler.unavailable['power'] and 'calibrax[gpu]' in profiler.unavailable['power']

def test_the_rest_comes_from_nvml(fake):
    fake()
    profiler = GPUMemoryProfiler(Device())
    assert (profiler.utilization(), profiler.power(), profiler.energy_joules()) == (73., GpuPower(draw_w=240., limit_w=450.), 1234.567)
    assert profiler.clocks() == GpuClocks(graphics_mhz=1500., memory_mhz=10_000.)
    assert profiler.memory().used_mb == 2048. and profiler.unavailable == {}

def test_reason_of_nvml_is_handed_on(fake):
    module = fake()
    module.cards[0].errors['energy'] = NOT_SUPPORTED
    profiler = GPUMemoryProfiler(Device())
    assert profiler.energy_joules() is None and profiler.unavailable == {'energy': 'NVIDIA H200 does not report it'}
    module.cards[0].errors.clear()
    assert profiler.energy_joules() == 1234.567 and profiler.unavailable == {}

@pytest.mark.parametrize('stats', [None, {}, {'bytes_in_use': 1}, {'bytes_limit': 1}, NotImplementedError(), RuntimeError('UNIMPLEMENTED: memory stats')], ids=str)
def test_incomplete_statistics_are_unknown(stats):
    profiler = GPUMemoryProfiler(Device(stats))
    assert profiler.memory() is None and 'JAX keeps no statistics of memory' in profiler.unavailable['memory']

def test_lost_device():
    with pytest.raises(ProfilingError, match='JAX cannot tell the memory of NVIDIA H200'): GPUMemoryProfiler(Device(RuntimeError('INTERNAL: device lost'))).memory()

def test_anything_with_statistics_is_a_device():
    class Bare:
        def memory_stats(self): return {'bytes_in_use': MB, 'bytes_limit': 2*MB}
    profiler = GPUMemoryProfiler(Bare())
    assert profiler.memory() == GpuMemory(used_mb=1., total_mb=2.) and profiler.peak_mb is None and profiler.utilization() is None

def test_cpu_device():
    import jax
    profiler = GPUMemoryProfiler(jax.devices('cpu')[0])
    assert not profiler.has_gpu and profiler.memory() is None and 'cpu' in profiler.unavailable['memory']

def test_device_by_number(jax_gpus):
    jax_gpus(Device(), Device(local_hardware_id=1))
    assert GPUMemoryProfiler(1).name == 'NVIDIA H200 (cuda:1)' and GPUMemoryProfiler().name == 'NVIDIA H200 (cuda:0)'
    with pytest.raises(ConfigError, match='there is no GPU 2: JAX sees 2'): GPUMemoryProfiler(2)

@pytest.mark.parametrize('device', ['cuda:0', -1, True, 1.5, object()])
def test_what_is_no_device(device):
    with pytest.raises(ConfigError, match='a device is one of jax.devices'): GPUMemoryProfiler(device)

def test_same_card_is_found_through_the_variable(fake, monkeypatch):
    module = four(fake)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,1')
    module.cards[1].answers['power'] = 111_000
    assert GPUMemoryProfiler(Device(local_hardware_id=1)).power().draw_w == 111.
    assert module.opened == 0 or gc.collect() >= 0
    assert GPUMemoryProfiler(Device(local_hardware_id=2)).power() is None

@pytest.mark.parametrize('device', [Device(device_kind='NVIDIA T4'), Device(local_hardware_id=5), Device(local_hardware_id=-1), Device(local_hardware_id=None),
                                    Device(platform='tpu')], ids=['name', 'number', 'negative', 'none', 'tpu'])
def test_no_reading_rather_than_that_of_another_card(fake, device):
    module = fake()
    profiler = GPUMemoryProfiler(device)
    assert profiler.power() is None and profiler.unavailable['power']
    gc.collect()
    assert module.opened == 0

def test_old_getters(fake):
    fake()
    profiler = GPUMemoryProfiler(Device())
    assert profiler.get_memory_usage() == {'gpu_memory_used_mb': 2048., 'gpu_memory_total_mb': 8192., 'gpu_memory_utilization': 0.25}
    assert profiler.get_utilization() == 73. and profiler.get_clock_info() == {'gpu_clock_mhz': 1500., 'mem_clock_mhz': 10_000.}
    assert profiler.get_power_info() == {'power_draw_w': 240., 'power_limit_w': 450.}

def test_old_getters_without_a_gpu_are_zeros_as_published(): # datarax asserts get_utilization() >= 0 on machines without one
    profiler = GPUMemoryProfiler()
    values = [profiler.get_utilization(), *profiler.get_memory_usage().values(), *profiler.get_clock_info().values(), *profiler.get_power_info().values()]
    assert values == [0.0]*8 and all(isinstance(v, float) for v in values)
    assert set(profiler.unavailable) == {'utilization', 'memory', 'clocks', 'power'} and profiler.utilization() is None

def test_watching_a_device_of_jax(fake):
    fake()
    device = Device()
    with ResourceMonitor(60, gpu_profiler=GPUMemoryProfiler(device)) as monitor: device.stats['peak_bytes_in_use'] = 6000*MB
    assert (monitor.summary.peak_gpu_mem_mb, monitor.summary.mean_gpu_util, monitor.summary.unavailable) == (6000., 73., None)


# --- detecting -----------------------------------------------------------------------------------------------------------

def test_detect_nothing(): assert detect_gpus() == []

def test_detect_devices_of_jax(jax_gpus, fake):
    four(fake)
    jax_gpus(Device(), Device(local_hardware_id=1))
    found = detect_gpus()
    assert [type(r) for r in found] == [GPUMemoryProfiler]*2 and GpuGroup(found).power().draw_w == 480.

def test_detect_through_nvml_where_jax_has_none(jax_gpus, fake):
    four(fake)
    jax_gpus()
    assert [d.index for d in detect_gpus()] == [0, 1, 2, 3]

def test_detecting_does_not_load_jax():
    code = 'import sys; from calibrax.profiling.gpu import detect_gpus; detect_gpus(); assert "jax" not in sys.modules'
    subprocess.run([sys.executable, '-c', code], check=True, env={**os.environ})

def test_monitor_with_nothing_detected():
    with ResourceMonitor(gpu_profiler=detect_gpus()) as monitor: pass
    assert 'no GPU was found' in monitor.summary.unavailable['memory']


# --- patterns ------------------------------------------------------------------------------------------------------------

def series(*used, total=1000.): return [GpuMemory(used_mb=u, total_mb=total) for u in used]

@pytest.mark.parametrize('readings, words', [
    ([], []), (series(100., 300.), []), (series(100., 110., 120.), []), (series(100., 111., 123.), ['leak']), (series(500., 100., 90.), []),
    (series(850.), ['on average']), (series(100., 950., 100.), ['at its peak']), (series(700., 800., 950.), ['leak', 'at its peak']), (series(10., total=0.), [])])
def test_patterns(readings, words):
    found = analyze_memory_pattern(readings)
    assert len(found) == len(words) and all(w in f for w, f in zip(words, found))

def test_old_method_equals_the_function():
    measurements = [{'gpu_memory_used_mb': r.used_mb, 'gpu_memory_total_mb': r.total_mb, 'gpu_memory_utilization': r.occupancy} for r in series(700., 800., 950.)]
    assert GPUMemoryProfiler().analyze_memory_pattern(measurements) == analyze_memory_pattern(series(700., 800., 950.))
    for bad in ({'used': 3}, {'gpu_memory_used_mb': 3}, 'used', {'gpu_memory_used_mb': 'x', 'gpu_memory_utilization': 0.5}):
        with pytest.raises(ConfigError, match='needs gpu_memory_used_mb'): GPUMemoryProfiler().analyze_memory_pattern([bad])

def test_old_measurements_may_leave_out_the_total(): # as datarax writes them
    def found(used, fraction): return GPUMemoryProfiler().analyze_memory_pattern([{'gpu_memory_used_mb': used, 'gpu_memory_utilization': fraction}]*3)
    assert found(100, 0.1) == [] and found(0, 0.0) == []
    [high] = found(1000, 0.95)
    assert 'high' in high and '95%' in high


# --- pipelines -----------------------------------------------------------------------------------------------------------

def test_peak_is_seen_although_it_is_gone_at_the_end():
    code = '''import numpy as np
from calibrax.profiling.gpu import MemoryOptimizer
a = MemoryOptimizer().analyze_pipeline_memory(lambda n: np.ones((n, 1024, 128)).sum(), 200)
print(a.peak_usage_mb, a.retained_memory_mb, a.memory_efficiency)'''
    peak, retained, efficiency = map(float, subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split())
    assert 195 < peak < 230 and abs(retained) < 20 and efficiency > 0.9

def test_what_is_kept_is_retained():
    import numpy as np
    kept = []
    a = MemoryOptimizer().analyze_pipeline_memory(lambda n: kept.append(np.ones((n, 1024, 128))), 100)
    assert a.retained_memory_mb == pytest.approx(100, abs=15) and a.memory_efficiency < 0.3 and 'caches and lists' in a.suggestions[0]
    freed = a.peak_usage_mb - a.retained_memory_mb
    assert a.memory_efficiency == pytest.approx(freed/a.peak_usage_mb)

@pytest.mark.parametrize('error', [OSError, RuntimeError, TypeError, ValueError])
def test_failing_pipeline_is_none_and_named(caplog, error):
    def pipeline(data): raise error('broken')
    assert MemoryOptimizer().analyze_pipeline_memory(pipeline, 1) is None
    assert f'pipeline was not analysed, because it raised {error.__name__}: broken' in caplog.text

def test_other_errors_come_through():
    with pytest.raises(KeyError): MemoryOptimizer().analyze_pipeline_memory(lambda d: d['x'], {})

def test_results_of_jax_are_waited_for():
    import jax, jax.numpy as jnp
    assert MemoryOptimizer().analyze_pipeline_memory(jax.jit(lambda x: {'y': [x + 1]}), jnp.ones(10)) is not None

def test_suggestions_of_a_large_call(): assert 'takes 1500 MB' in gpu._advice(1500, 1.0)[0] and gpu._advice(900, 0.9) == [] and gpu._advice(-3, 1.0) == []

def test_analysis_record():
    a = MemoryAnalysis(baseline_memory_mb=1, peak_memory_mb=3, peak_usage_mb=2, retained_memory_mb=0, memory_efficiency=1)
    assert MemoryAnalysis.from_json(a.to_json()) == a and 'usage at the peak' in repr(a) and '<table>' in a._repr_html_()


# --- older spellings ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('backend, kind, platform, tile', [('cpu', 'cpu', 'cpu', 64), ('tpu', 'TPU v5e', 'tpu', 128), ('gpu', 'NVIDIA A100-SXM4-80GB', 'gpu_modern', 16),
                                                           ('gpu', 'NVIDIA H100 PCIe', 'gpu_modern', 16), ('gpu', 'NVIDIA GeForce RTX 3090', 'gpu_legacy', 32)])
def test_rules_of_thumb(backend, kind, platform, tile):
    rules = gpu._rules(backend, kind)
    assert (rules.platform, rules.tile_size, rules.use_vmem_optimization) == (platform, tile, backend == 'tpu')

def test_shapes():
    operation = AdaptiveOperation()
    assert operation.config == HardwareConfig(platform='cpu', precision='float32', tile_size=64, critical_batch_size=32, memory_layout='row_major', use_vmem_optimization=False)
    assert operation.optimize_shapes((3, 1, 65), (64, 64), (5,), ()) == [(3, 64, 128), (64, 64), (64,), ()]
