"Energy: counters of our own making, devices that vanish, windows that are too short."
import asyncio, errno, math, os, subprocess, sys, threading, time
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from calibrax.core.errors import ConfigError, ProfilingError
from calibrax.core.measurements import GpuPower
from calibrax.profiling import energy
from calibrax.profiling.energy import (CallEnergy, EnergyMonitor, EnergySample, EnergySummary, GpuEnergySource, GpuPowerSource, RaplCounters,
                                       measure_energy)

RANGE = 262_143_328_850        # µJ, as on a Xeon


class Machine:
    "A powercap folder; counters move when told"
    def __init__(self, root, nested=False):
        self.root, self.nested = Path(root), nested
        self.root.mkdir(parents=True, exist_ok=True)

    def folder(self, zone):
        if not self.nested: return self.root/zone
        parts = zone.split(':')
        return self.root.joinpath(parts[0], *[':'.join(parts[:n]) for n in range(2, len(parts) + 1)])

    def add(self, zone, name, uj=0, wraps_at=RANGE):
        folder = self.folder(zone)
        folder.mkdir(parents=True, exist_ok=True)
        (folder/'name').write_text(f'{name}\n')
        if wraps_at is not None: (folder/'max_energy_range_uj').write_text(f'{wraps_at}\n')
        self.set(zone, uj)
        return self

    def set(self, zone, uj): (self.folder(zone)/'energy_uj').write_text(f'{uj}\n')
    def counters(self, **kwargs): return RaplCounters(self.root, **kwargs)


@pytest.fixture
def machine(tmp_path): return Machine(tmp_path/'powercap')

def reason(counters):
    assert counters.read() is None
    return counters.unavailable['energy']


# --- which counters ------------------------------------------------------------------------------------------------------

def full(machine):
    for zone, name in (('intel-rapl:0', 'package-0'), ('intel-rapl:0:0', 'core'), ('intel-rapl:0:1', 'uncore'), ('intel-rapl:0:2', 'dram'),
                       ('intel-rapl:1', 'package-1'), ('intel-rapl:1:0', 'dram'), ('intel-rapl:2', 'psys'), ('intel-rapl-mmio:0', 'package-0'),
                       ('intel-rapl-mmio:0:0', 'dram')): machine.add(zone, name)
    return machine

@pytest.mark.parametrize('nested', [False, True])
def test_packages_and_memory_count_once(tmp_path, nested):
    machine = full(Machine(tmp_path, nested))
    counters = machine.counters()
    assert sorted(counters.domains) == ['package-0', 'package-0/dram', 'package-1', 'package-1/dram']
    for i, zone in enumerate(('intel-rapl:0', 'intel-rapl:0:2', 'intel-rapl:1', 'intel-rapl:1:0', 'intel-rapl:0:0', 'intel-rapl:2', 'intel-rapl-mmio:0')):
        machine.set(zone, 10**6*10**i)
    assert counters.read() == pytest.approx(1111)


def test_a_flat_folder_also_holds_the_parts_inside_the_packages(tmp_path):
    "/sys/class/powercap has links to all zones, and the folder of a package holds its parts a second time"
    real = full(Machine(tmp_path/'devices', nested=True))
    flat = tmp_path/'class'
    flat.mkdir()
    for folder in real.root.glob('**/*:*'): (flat/folder.name).symlink_to(folder)
    assert len(RaplCounters(flat).domains) == 4


def test_dies_and_other_spellings(machine):
    for zone, name in (('intel-rapl:0', 'package-0-die-0'), ('intel-rapl:1', 'package-0-die-1'), ('intel-rapl:0:0', 'dram'), ('amd-rapl:0', 'package-10')):
        machine.add(zone, name)
    assert set(machine.counters().domains) == {'package-0-die-0', 'package-0-die-1', 'package-0-die-0/dram', 'package-10'}


def test_two_counters_that_share_a_name_are_two(machine):
    machine.add('intel-rapl:0', 'package-0').add('intel-rapl:1', 'package-0')
    counters = machine.counters()
    machine.set('intel-rapl:0', 10**6), machine.set('intel-rapl:1', 2*10**6)
    assert len(counters.domains) == 2 and counters.read() == pytest.approx(3)


def test_mmio_alone_is_better_than_nothing(machine):
    machine.add('intel-rapl-mmio:0', 'package-0')
    assert machine.counters().domains == ('package-0',)


def test_parts_alone_are_no_total(machine):
    machine.add('intel-rapl:0', 'psys').add('intel-rapl:0:0', 'core').add('intel-rapl:1:0', 'dram')
    assert machine.counters().domains == () and 'holds no RAPL package' in reason(machine.counters())


# --- the counting --------------------------------------------------------------------------------------------------------

def with_clock(counters, seconds=1000.0):
    "So much time passes between readings that any step may be a wrap"
    now = time.perf_counter()
    ticks = iter(range(1, 10**9))
    counters._clock = lambda: now + seconds*next(ticks)
    return counters

@given(st.data())
def test_random_counters_with_wraps_give_the_true_sum(tmp_path_factory, data):
    machine = Machine(tmp_path_factory.mktemp('rapl'))
    zones = {f'intel-rapl:{i}': data.draw(st.integers(10**3, 2**40)) for i in range(data.draw(st.integers(1, 3)))}
    values = {zone: data.draw(st.integers(0, top)) for zone, top in zones.items()}
    for i, (zone, top) in enumerate(zones.items()): machine.add(zone, f'package-{i}', values[zone], top)
    counters, true = with_clock(machine.counters()), 0
    for _ in range(data.draw(st.integers(1, 6))):
        for zone, top in zones.items():
            step = data.draw(st.integers(0, top - 1))
            values[zone], true = (values[zone] + step) % top, true + step
            machine.set(zone, values[zone])
        assert counters.read() == pytest.approx(true*1e-6, rel=1e-12, abs=len(zones)*1e-6)


def test_a_wrap_within_a_tenth_of_a_second(machine):
    machine.add('intel-rapl:0', 'package-0', RANGE - 5*10**6)
    counters = machine.counters()
    machine.set('intel-rapl:0', 5*10**6)
    assert counters.read() == pytest.approx(10)


def test_a_reset_is_not_taken_for_a_wrap(machine):
    machine.add('intel-rapl:0', 'package-0', RANGE//2)
    counters = machine.counters()
    machine.set('intel-rapl:0', 7)
    assert 'it was reset' in reason(counters)
    machine.set('intel-rapl:0', 10**9)
    assert 'it was reset' in reason(counters), 'what was lost stays lost'
    assert machine.counters().read() == 0


@pytest.mark.parametrize('range_uj', [None, 0])
def test_a_fall_without_a_known_range_is_no_energy(machine, range_uj):
    machine.add('intel-rapl:0', 'package-0', 10**6, range_uj)
    counters = machine.counters()
    machine.set('intel-rapl:0', 2*10**6)
    assert counters.read() == pytest.approx(1)
    machine.set('intel-rapl:0', 10)
    assert 'max_energy_range_uj does not say' in reason(counters)


def test_a_value_beyond_the_range_is_no_wrap(machine):
    machine.add('intel-rapl:0', 'package-0', 3000, 2000)
    counters = machine.counters()
    machine.set('intel-rapl:0', 1)
    assert 'no wrap' in reason(counters)


def test_threads_may_read_one_object(machine):
    machine.add('intel-rapl:0', 'package-0')
    counters = machine.counters()
    threads = [threading.Thread(target=lambda: [counters.read() for _ in range(50)]) for _ in range(4)]
    for t in threads: t.start()
    machine.folder('intel-rapl:0').joinpath('new').write_text('5000000')
    machine.folder('intel-rapl:0').joinpath('new').replace(machine.folder('intel-rapl:0')/'energy_uj')
    for t in threads: t.join()
    assert counters.read() == pytest.approx(5)


# --- what cannot be read -------------------------------------------------------------------------------------------------

def test_permission_denied_says_what_to_do(machine, monkeypatch):
    "root may read anything, so the refusal is simulated"
    machine.add('intel-rapl:0', 'package-0')
    read = Path.read_text
    def refuse(self, *args, **kwargs):
        if self.name == 'energy_uj': raise PermissionError(errno.EACCES, 'Permission denied', str(self))
        return read(self, *args, **kwargs)
    monkeypatch.setattr(Path, 'read_text', refuse)
    text = reason(machine.counters())
    assert 'root only' in text and 'CVE-2020-8694' in text and f'sudo chmod a+r {machine.root}/*/energy_uj' in text
    with EnergyMonitor(rapl=machine.counters()) as monitor: pass
    assert monitor.summary.unavailable['cpu_energy'] == text and monitor.summary.total_cpu_energy_joules is None


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() == 0, reason='root may read anything')
def test_permission_really_denied(machine):
    machine.add('intel-rapl:0', 'package-0')
    (machine.folder('intel-rapl:0')/'energy_uj').chmod(0)
    assert 'root only' in reason(machine.counters())


@pytest.mark.parametrize('content, said', [('', 'is empty'), ('\n', 'is empty'), ('n/a', "holds 'n/a'"), ('-5', "holds '-5'"), ('1.5', "holds '1.5'"),
                                           ('1_0', "holds '1_0'"), ('٣', "holds '٣'"), ('9'*30, "holds '99999999999999999999'")])
def test_garbage_is_named(machine, content, said):
    machine.add('intel-rapl:0', 'package-0').add('intel-rapl:1', 'package-1')
    (machine.folder('intel-rapl:1')/'energy_uj').write_text(content, encoding='utf-8')
    assert said in reason(machine.counters()) and 'intel-rapl:1' in reason(machine.counters())


def test_bytes_that_are_no_text(machine):
    machine.add('intel-rapl:0', 'package-0')
    (machine.folder('intel-rapl:0')/'energy_uj').write_bytes(b'\xff\xfe')
    assert 'it is not text' in reason(machine.counters())
    (machine.folder('intel-rapl:0')/'name').write_bytes(b'\xff\xfe')
    assert machine.counters().domains == ()


def test_an_input_output_error(machine, monkeypatch):
    machine.add('intel-rapl:0', 'package-0')
    counters, read = machine.counters(), Path.read_text
    monkeypatch.setattr(Path, 'read_text', lambda self, *a, **k: (_ for _ in ()).throw(OSError(errno.EIO, 'Input/output error')))
    assert 'Input/output error' in reason(counters)
    monkeypatch.setattr(Path, 'read_text', read)
    machine.set('intel-rapl:0', 4*10**6)
    assert counters.read() == pytest.approx(4) and counters.unavailable == {}, 'what fails for a moment goes on'


def test_a_domain_that_disappears(machine):
    full(machine)
    counters = machine.counters()
    (machine.folder('intel-rapl:1')/'energy_uj').unlink()
    assert 'intel-rapl:1/energy_uj is gone' in reason(counters)


def test_absent_hidden_and_foreign(tmp_path, monkeypatch):
    assert 'there is no' in reason(RaplCounters(tmp_path/'powercap')) and 'virtual machine' in reason(RaplCounters(tmp_path/'powercap'))
    assert 'holds no RAPL package' in reason(RaplCounters(tmp_path))
    (tmp_path/'file').write_text('')
    assert 'there is no' in reason(RaplCounters(tmp_path/'file'))
    (tmp_path/'intel-rapl:0').symlink_to(tmp_path/'masked')
    assert 'hidden, as in a container' in reason(RaplCounters(tmp_path))
    monkeypatch.setattr(sys, 'platform', 'darwin')
    assert 'this is darwin' in reason(RaplCounters(tmp_path/'powercap'))


def test_a_folder_stands_for_its_counters(machine):
    machine.add('intel-rapl:0', 'package-0')
    for root in (machine.root, str(machine.root)):
        machine.set('intel-rapl:0', 0)
        monitor = EnergyMonitor(0.01, rapl=root)
        with monitor:
            for i in range(1, 31):
                machine.set('intel-rapl:0', i*10**5)
                time.sleep(0.002)
        assert monitor.summary.total_cpu_energy_joules is not None or 'cpu_energy' in monitor.summary.unavailable
        assert monitor._rapl == root and energy._counters(root).domains == ('package-0',)
    assert measure_energy(lambda: 1, rapl=str(machine.root/'nowhere'), min_seconds=0.01).cpu_joules is None
    for wrong in (3, RaplCounters, object()):
        with pytest.raises(ConfigError, match='rapl must be RaplCounters or a folder'): EnergyMonitor(rapl=wrong)

def test_counters_show_themselves(machine):
    counters = full(machine).counters()
    assert len(counters.table().rows) == 4 and 'package-1/dram' in repr(counters) and '<table>' in counters._repr_html_()
    assert 'there is no' in repr(RaplCounters(machine.root/'missing'))


# --- windows -------------------------------------------------------------------------------------------------------------

class Gpu:
    "A GPU that follows a script of (watts, joules); after it, it is lost"
    def __init__(self, *script, **attributes):
        self.script, self.at = script, -1
        for name, value in attributes.items(): setattr(self, name, value)
    def now(self, i):
        if self.at >= len(self.script): raise OSError('GPU is lost')
        value = self.script[self.at][i]
        if isinstance(value, Exception): raise value
        return value
    def power(self): return None if (watts := self.now(0)) is None else GpuPower(draw_w=watts)
    def energy_joules(self): return self.now(1)


class Watts:
    "Only a power"
    def __init__(self, *watts): self.watts, self.at = watts, -1
    def power(self): return None if self.watts[self.at] is None else GpuPower(draw_w=self.watts[self.at])


def window(times, *gpus, rapl=None):
    "A window with samples at these times"
    for g in gpus: g.at = 0
    w = energy._Window(gpus, rapl or RaplCounters('/nowhere'))
    for i, t in enumerate(times):
        for g in gpus: g.at = i
        w.read()(float(t))
    return w

def test_the_counter_is_preferred_to_the_watts():
    s = window([0, 1, 2], Gpu((100.0, 1000.0), (100.0, 1300.0), (300.0, 1500.0))).summary()
    assert (s.total_gpu_energy_joules, s.gpu_method, s.gpu_resolution_sec) == (500, 'nvml-counter', 0.1)
    assert (s.mean_gpu_power_watts, s.peak_gpu_power_watts, s.duration_sec, s.num_samples) == (150, 300, 2, 3)
    assert (s.total_combined_energy_joules, s.combined_of, s.domains) == (500, ('gpu',), ('GPU 0',))
    assert set(s.unavailable) == {'cpu_energy'}


def test_without_a_counter_watts_are_integrated():
    s = window([0, 1, 3], Gpu((100.0, None), (300.0, None), (100.0, None))).summary()
    assert (s.total_gpu_energy_joules, s.gpu_method, s.gpu_resolution_sec, s.mean_gpu_power_watts) == (600, 'integrated-power', 2, 200)
    s = window([0, 1, 3], Watts(100.0, 300.0, 100.0)).summary()
    assert (s.total_gpu_energy_joules, s.gpu_method) == (600, 'integrated-power')


@given(st.lists(st.tuples(st.floats(1e-3, 10), st.floats(0, 1000)), min_size=2, max_size=20))
def test_the_trapezoidal_rule(points):
    power, now, expected, before = energy._Power(), 0.0, 0.0, None
    for gap, watts in points:
        if before is not None: now, expected = now + gap, expected + gap*(watts + before)/2
        power.add(now, watts, '')
        before = watts
    assert power.total()[0] == pytest.approx(expected) and power.peak == max(w for _, w in points)
    assert power.mean == pytest.approx(expected/now)


def test_one_reading_is_no_energy():
    s = window([0], Watts(100.0)).summary()
    assert (s.total_gpu_energy_joules, s.mean_gpu_power_watts, s.num_samples, s.duration_sec) == (None, 100, 1, 0)
    assert 'two readings' in s.unavailable['gpu_energy']


def test_a_power_sensor_that_tells_its_pace_is_held_to_it():
    class Slow(Watts): power_resolution_sec = 0.1
    assert 'power sensor that is updated every 100.00 ms' in window([0, 1], Slow(1.0, 1.0)).summary().unavailable['gpu_energy']
    assert window([0, 2], Slow(1.0, 1.0)).summary().total_gpu_energy_joules == 2


def test_a_short_window_has_no_figure_and_never_zero():
    short = Gpu((100.0, 1000.0), (100.0, 1010.0))
    assert 'measure for at least 2.00 s' in window([0, 0.1], short).summary().unavailable['gpu_energy']
    still = Gpu((100.0, 1000.0), (100.0, 1000.0))
    for end in (0.001, 50):
        s = window([0, end], still).summary()
        assert s.total_gpu_energy_joules is None and 'did not move' in s.unavailable['gpu_energy'] and s.total_combined_energy_joules is None


@given(update=st.floats(0.001, 0.1), phase=st.floats(0, 1), updates=st.floats(20, 200), watts=st.floats(1, 1000))
def test_the_error_of_a_window_that_is_long_enough(update, phase, updates, watts):
    "A counter that is updated at an unknown moment is off by at most one update, 5 % of twenty"
    counter, lasts = energy._Counter(update), update*updates
    for t in (0.0, lasts): counter.add(t, watts*update*math.floor((t + phase*update)/update), '')
    total, why = counter.total()
    assert total is not None, why
    assert abs(total - watts*lasts) <= 0.0501*watts*lasts


def test_a_counter_that_is_seen_standing_still_is_slower_than_documented():
    script = [(100.0, 1000.0 + 100*(i//10)) for i in range(31)]        # moves once a second
    s = window([i/10 for i in range(31)], Gpu(*script)).summary()
    assert s.total_gpu_energy_joules is None and 'updated every 1.00 s' in s.unavailable['gpu_energy']
    seldom = window([0, 1, 2, 3], Gpu(*[(100.0, 1000.0 + 100*i) for i in range(4)])).summary()
    assert seldom.gpu_resolution_sec == 0.1, 'a sample a second says nothing about a counter that moved every time'


def test_two_samples_in_a_row_do_not_make_a_counter_slow():
    script = [(1.0, 0.0), (1.0, 10.0), (1.0, 10.0), (1.0, 20.0), (1.0, 30.0)]
    assert window([0, 1, 1.0001, 2, 3], Gpu(*script)).summary().gpu_resolution_sec == 0.1


def test_a_counter_that_falls_was_reset():
    s = window([0, 1, 2, 3], Gpu((1.0, 5e6), (1.0, 5.1e6), (1.0, 3.0), (1.0, 6e6))).summary()
    assert s.total_gpu_energy_joules is None and 'reset' in s.unavailable['gpu_energy'] and s.mean_gpu_power_watts == 1


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_numbers_that_are_none(bad):
    s = window([0, 5], Gpu((1.0, 5.0), (bad, bad))).summary()
    assert s.total_gpu_energy_joules is None and s.mean_gpu_power_watts is None and str(bad) in s.unavailable['gpu_energy']


def test_several_gpus_are_added():
    s = window([0, 5], Gpu((100.0, 0.0), (100.0, 500.0), name='A100'), Gpu((50.0, 0.0), (150.0, 400.0)), Watts(10.0, 10.0)).summary()
    assert (s.total_gpu_energy_joules, s.peak_gpu_power_watts, s.mean_gpu_power_watts) == (950, 260, 210)
    assert s.gpu_method == 'integrated-power and nvml-counter' and s.domains == ('GPU 0 (A100)', 'GPU 1', 'GPU 2')


def test_one_lost_gpu_leaves_no_total():
    s = window([0, 5], Gpu((100.0, 0.0), (100.0, 500.0)), Gpu((50.0, 0.0))).summary()
    assert (s.total_gpu_energy_joules, s.mean_gpu_power_watts, s.peak_gpu_power_watts, s.gpu_method, s.gpu_resolution_sec) == (None,)*5
    assert s.unavailable['gpu_energy'] == 'GPU 1: energy_joules() raised OSError: GPU is lost' and 'power() raised' in s.unavailable['gpu_power']


def test_a_gpu_that_comes_back_leaves_a_hole():
    s = window([0, 5, 10], Watts(100.0, None, 100.0)).summary()
    assert s.total_gpu_energy_joules is None and s.mean_gpu_power_watts is None and s.unavailable['gpu_energy'].endswith('power() gave no reading')


def test_reasons_of_the_reader_are_handed_on():
    class Reader:
        unavailable = {'energy': 'counted from Volta on', 'power': 'the driver tells none'}
        def power(self): return None
        def energy_joules(self): return None
    assert window([0, 5], Reader()).summary().unavailable['gpu_energy'] == 'GPU 0: the driver tells none'
    assert window([0, 5], type('Mute', (), {'power': lambda self: None, 'unavailable': None})()).summary().unavailable['gpu_energy'].endswith('power() gave no reading')


def test_a_reader_that_gives_something_else_is_no_crash():
    assert 'ValueError' in window([0, 5], type('Odd', (), {'power': lambda self: 'much'})()).summary().unavailable['gpu_energy']


def test_a_group_of_readers_is_one_source():
    class Group:
        readers = [Watts(1.0), Watts(2.0)]
        def __iter__(self): return iter(self.readers)
        def power(self): return GpuPower(draw_w=3.0)
    s = window([0, 2], Group()).summary()
    assert len(energy._sources(Group())) == 1 and s.total_gpu_energy_joules == 6


def test_another_vendors_counter_has_its_own_name_and_pace():
    gpu = Gpu((1.0, 0.0), (1.0, 9.0), energy_method='rocm-counter', energy_resolution_sec=0.001)
    s = window([0, 1], gpu).summary()
    assert (s.gpu_method, s.gpu_resolution_sec, s.total_gpu_energy_joules) == ('rocm-counter', 0.001, 9)


def test_gpu_and_cpu_together(machine):
    machine.add('intel-rapl:0', 'package-0')
    gpu = Gpu((100.0, 0.0), (100.0, 500.0))
    gpu.at = 0
    w = energy._Window([gpu], machine.counters())
    w.read()(0.0)
    machine.set('intel-rapl:0', 40*10**6)
    gpu.at = 1
    w.read()(5.0)
    s = w.summary()
    assert (s.total_gpu_energy_joules, s.total_cpu_energy_joules, s.total_combined_energy_joules) == (500, 40, 540)
    assert (s.combined_of, s.cpu_method, s.cpu_resolution_sec, s.unavailable) == (('gpu', 'cpu'), 'rapl', 0.001, None)
    assert s.domains == ('GPU 0', 'package-0') and 'GPU + CPU' in repr(s)
    assert [x.cpu_energy_joules for x in w.samples] == [0, 40]


# --- records -------------------------------------------------------------------------------------------------------------

def test_summaries_survive_json_and_show_their_reasons():
    s = window([0, 5], Gpu((100.0, 0.0), (100.0, 500.0))).summary()
    assert EnergySummary.from_dict(s.to_dict()) == s == EnergySummary.from_json(s.to_json())
    assert '! no CPU energy: ' in repr(s) and '⚠ no CPU energy' in s._repr_html_() and 'GPU alone' in repr(s)
    sample = EnergySample(timestamp=1, gpu_power_watts=None, cpu_energy_joules=None, gpu_energy_joules=2)
    assert EnergySample.from_dict(sample.to_dict()) == sample
    per_call = CallEnergy(calls=10, duration_sec=5.0, gpu_joules=50.0, cpu_joules=None, summary=s, warnings=('odd',))
    assert CallEnergy.from_dict(per_call.to_dict()) == per_call and per_call.joules == 50 and '! odd' in repr(per_call) and '<table>' in per_call._repr_html_()


def test_the_published_fields_stand_alone():
    fields = dict(total_gpu_energy_joules=None, total_cpu_energy_joules=2.0, total_combined_energy_joules=2.0, mean_gpu_power_watts=None,
                  peak_gpu_power_watts=None, duration_sec=1.0, num_samples=2)
    assert EnergySummary(**fields).to_dict() == fields


def test_protocols():
    assert isinstance(Watts(), GpuPowerSource) and isinstance(Gpu(), GpuEnergySource) and not isinstance(Watts(), GpuEnergySource)


# --- the monitor ---------------------------------------------------------------------------------------------------------

class Constant:
    "A GPU of 100 W by the clock"
    energy_resolution_sec = 0.0001
    def power(self): return GpuPower(draw_w=100.0)
    def energy_joules(self): return 100*time.perf_counter()


def test_a_block_is_measured_from_end_to_end():
    with EnergyMonitor(0.02, gpu=Constant()) as monitor:
        time.sleep(0.2)
        assert monitor.summary.num_samples >= 2, 'a look while it runs'
    s = monitor.summary
    assert 0.19 < s.duration_sec < 2 and s.total_gpu_energy_joules == pytest.approx(100*s.duration_sec, rel=0.2)
    assert s.num_samples == len(monitor.samples) >= 4
    times = [x.timestamp for x in monitor.samples]
    assert times == sorted(times) and not [t for t in threading.enumerate() if t.name == 'calibrax-energy']
    figure, axes = monitor.plot()
    assert axes.get_ylabel() == 'power [W]' and len(axes.lines) == 1


def test_plots_go_where_they_are_told_and_need_samples():
    import matplotlib.pyplot as plt
    with EnergyMonitor(gpu=Constant()) as monitor: pass
    axes = plt.figure().add_subplot()
    assert monitor.plot(axes)[1] is axes
    with pytest.raises(ProfilingError, match='two samples'): EnergyMonitor().plot()


def test_nothing_to_read_is_said_and_not_drawn(tmp_path):
    with EnergyMonitor(rapl=RaplCounters(tmp_path)) as monitor: pass
    s = monitor.summary
    assert (s.total_gpu_energy_joules, s.total_cpu_energy_joules, s.total_combined_energy_joules, s.combined_of, s.domains) == (None,)*5
    assert set(s.unavailable) == {'gpu_energy', 'cpu_energy', 'gpu_power'} and 'detect_gpus' in s.unavailable['gpu_energy']
    assert not monitor.plot()[1].lines
    assert EnergyMonitor().summary.unavailable['cpu_energy'] == 'nothing was measured yet' and EnergyMonitor().samples == []


def test_a_block_that_raises_is_measured_and_still_raises():
    monitor = EnergyMonitor(gpu=Constant())
    with pytest.raises(ZeroDivisionError), monitor: 1/0
    assert monitor.summary.num_samples == 2


def test_as_a_decorator_and_again():
    monitor = EnergyMonitor(gpu=Constant())
    @monitor
    def step(n):
        "A step"
        return n + 1
    assert (step(1), step(n=2), step.__name__, step.__doc__) == (2, 3, 'step', 'A step')
    assert monitor.summary.num_samples == 2, 'the last call'
    async def later(n):
        await asyncio.sleep(0.05)
        return n
    assert asyncio.run(monitor(later)(3)) == 3 and monitor.summary.duration_sec > 0.04
    def some(): yield
    async def both(): yield
    for f in (some, both):
        with pytest.raises(ConfigError, match='is a generator'): monitor(f)
    with pytest.raises(ConfigError, match='a function is needed'): monitor(3)


def test_a_function_that_calls_itself_and_blocks_inside_each_other():
    monitor = EnergyMonitor(gpu=Constant())
    @monitor
    def down(n): return n and down(n - 1)
    assert down(3) == 0
    with monitor:
        time.sleep(0.4)
        with monitor: pass
        assert monitor.summary.duration_sec < 0.39
    assert monitor.summary.duration_sec > 0.39
    with pytest.raises(ProfilingError, match='without being entered'): monitor.__exit__(None, None, None)


def test_threads_may_share_a_monitor():
    monitor, lasted = EnergyMonitor(gpu=Constant()), []
    def block(seconds):
        with monitor: time.sleep(seconds)
        lasted.append((seconds, monitor.summary.duration_sec))
    threads = [threading.Thread(target=block, args=(s,)) for s in (0.05, 0.2)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(lasted) == 2 and all(s <= d < s + 0.14 for s, d in lasted) and not monitor._open     # each is told of its own block


def test_wrong_arguments():
    for bad in (0, -1, math.inf, math.nan, '0.1', None):
        with pytest.raises(ConfigError, match='sample_interval_sec'): EnergyMonitor(bad)
    for bad in (3.5, 'cuda:0', [Constant(), None], object()):
        with pytest.raises(ConfigError, match='must tell power'): EnergyMonitor(gpu=bad)
    with EnergyMonitor(gpu=[]) as monitor: pass
    assert 'no GPU was given' in monitor.summary.unavailable['gpu_energy']


def test_a_sensor_that_hangs_is_an_error_and_no_hang(monkeypatch):
    monkeypatch.setattr(energy, '_PATIENCE', 0.05)
    over, first = threading.Event(), []
    class Hanging:
        def power(self):
            if len(first) > 1: over.wait(20)
            first.append(1)
            return GpuPower(draw_w=1.0)
    monitor = EnergyMonitor(0.01, gpu=Hanging())
    with pytest.raises(ProfilingError, match='has not answered'), monitor: time.sleep(0.1)
    assert monitor.summary.num_samples >= 1
    with pytest.raises(ProfilingError, match='has not answered'): monitor.__enter__()
    first.clear()
    with pytest.raises(ZeroDivisionError) as e, monitor: time.sleep(0.05); 1/0
    assert 'has not answered' in e.value.__notes__[0]
    over.set()


def test_a_fault_of_the_sampler_surfaces():
    class Torn(RaplCounters):
        def read(self):
            if threading.current_thread() is not threading.main_thread(): raise RuntimeError('torn')
            return super().read()
    with pytest.raises(ProfilingError, match='torn'), EnergyMonitor(0.01, rapl=Torn('/nowhere')): time.sleep(0.1)


def test_the_interpreter_can_leave_in_the_middle_of_a_block():
    done = subprocess.run([sys.executable, '-c', 'import sys; from calibrax.profiling.energy import EnergyMonitor\n'
                           'with EnergyMonitor(0.01): sys.exit(7)'], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (7, '')


def test_the_module_is_light():
    code = "import sys, calibrax.profiling.energy, calibrax.profiling.carbon; print([m for m in ('jax', 'flax', 'numpy', 'matplotlib', 'psutil', 'pynvml', 'codecarbon', 'scipy', 'pandas', 'fastcore') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60).stdout.strip() == '[]'


# --- energy of a call ----------------------------------------------------------------------------------------------------

def test_energy_of_a_call(monkeypatch):
    calls = []
    e = measure_energy(lambda: calls.append(1) or time.sleep(0.01) or 1.0, min_seconds=0.3, gpu=Constant())
    assert len(calls) == e.calls + 1 and e.gpu_joules == pytest.approx(100*e.duration_sec/e.calls, rel=0.2)
    assert e.joules == e.gpu_joules and e.cpu_joules is None and e.warnings is None
    once = measure_energy(lambda: time.sleep(0.01) or 1.0, min_seconds=1e-9, warmup=0, gpu=Constant())
    assert once.calls == 1


def test_results_are_waited_for_and_nothing_to_wait_for_is_said():
    import jax, jax.numpy as jnp
    f, x = jax.jit(lambda x: jnp.tanh(x @ x)), jnp.eye(64)
    assert measure_energy(lambda: f(x), min_seconds=0.02, gpu=Constant()).warnings is None
    assert 'nothing was waited for' in measure_energy(lambda: None, min_seconds=0.02, gpu=Constant()).warnings[0]


def test_how_long_is_chosen_by_the_counters(monkeypatch):
    class Slow(Constant): energy_resolution_sec = 0.06
    assert 1.32 <= measure_energy(lambda: time.sleep(0.02), gpu=Slow()).duration_sec < 5


def test_a_call_that_fails_or_is_none():
    for warmup, place in ((1, 'a warm-up call'), (0, 'call 1')):
        with pytest.raises(ProfilingError, match=f'{place} raised ZeroDivisionError'): measure_energy(lambda: 1/0, warmup=warmup)
    with pytest.raises(ConfigError, match='a function is needed'): measure_energy(3.5)
    async def later(): pass
    with pytest.raises(ConfigError, match='coroutine'): measure_energy(later)
    for wrong in (dict(min_seconds=0), dict(min_seconds=math.inf), dict(warmup=-1), dict(gpu=3)):
        with pytest.raises(ConfigError): measure_energy(lambda: 1, **wrong)
