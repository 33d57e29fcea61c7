"The resource monitor: real processor time, ends that are never missed, faults that surface, readers of any generation."
import asyncio, gc, hashlib, os, subprocess, sys, threading, time

import numpy as np
import psutil
import pytest

from calibrax.core.errors import ConfigError, ProfilingError
from calibrax.core.measurements import GpuClocks, GpuMemory, GpuPower, ResourceSummary
from calibrax.profiling import resources
from calibrax.profiling.resources import GpuGroup, GPUProfilerProtocol, ResourceMonitor

MB = 1024**2


class Gpu:
    "A reader whose answers are given; an exception among them is raised"
    def __init__(self, memory=None, utilization=None, clocks=None, power=None, name='fake', **more):
        self.answers = dict(memory=memory, utilization=utilization, clocks=clocks, power=power)
        self.name, self.calls = name, 0
        self.__dict__.update(more)

    def _answer(self, reading):
        self.calls += 1
        answer = self.answers[reading]
        if callable(answer): answer = answer()
        if isinstance(answer, Exception): raise answer
        return answer

    def memory(self): return self._answer('memory')
    def utilization(self): return self._answer('utilization')
    def clocks(self): return self._answer('clocks')
    def power(self): return self._answer('power')

def full(used=1000., use=50., **more):
    return Gpu(GpuMemory(used_mb=used, total_mb=4000.), use, GpuClocks(graphics_mhz=1000., memory_mhz=2000.), GpuPower(draw_w=100., limit_w=300.), **more)

def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end: pass

def from_now_on(first, then, after):
    "An answer that changes after some calls"
    state = iter([first]*after)
    return lambda: next(state, then)


# --- processor time ------------------------------------------------------------------------------------------------------

def test_mean_is_processor_time_over_wall_time():
    with ResourceMonitor(0.01) as monitor:
        cpu, wall = time.process_time(), time.perf_counter()
        spin(0.3)
        expected = 100*(time.process_time() - cpu)/(time.perf_counter() - wall)
    assert monitor.summary.mean_cpu_percent == pytest.approx(expected, abs=5)

def test_agrees_with_psutil():
    process = psutil.Process()
    before = process.cpu_times()
    with ResourceMonitor(0.02) as monitor: spin(0.6)
    after = process.cpu_times()
    used = (after.user - before.user + after.system - before.system)/monitor.summary.duration_sec
    assert monitor.summary.mean_cpu_percent == pytest.approx(100*used, abs=10)      # psutil counts in ticks of 10 ms

def test_idle_is_idle():
    with ResourceMonitor(0.05) as monitor: time.sleep(0.3)
    assert monitor.summary.mean_cpu_percent < 20

def test_all_threads_count():
    "Threads that release the interpreter use more than one core, where there is one"
    def work():
        end = time.perf_counter() + 0.5
        while time.perf_counter() < end: hashlib.sha256(bytes(MB)).digest()
    with ResourceMonitor(0.05) as monitor:
        start = time.process_time()
        workers = [threading.Thread(target=work) for _ in range(2)]
        for w in workers: w.start()
        for w in workers: w.join()
        used = time.process_time() - start
    assert monitor.summary.mean_cpu_percent == pytest.approx(100*used/monitor.summary.duration_sec, abs=5)

def test_first_percentage_is_measured():
    with ResourceMonitor(10) as monitor: spin(0.02)
    assert len(monitor.samples) == 2
    assert all(s.cpu_percent > 0 for s in monitor.samples)
    assert monitor.samples[0].cpu_percent == monitor.samples[1].cpu_percent

def test_percentages_weighted_by_time_give_the_mean():
    with ResourceMonitor(0.01) as monitor: spin(0.1); time.sleep(0.1)
    samples = monitor.samples
    spent = sum(b.cpu_percent*(b.timestamp - a.timestamp) for a, b in zip(samples, samples[1:]))
    assert monitor.summary.mean_cpu_percent == pytest.approx(spent/monitor.summary.duration_sec, rel=1e-6)
    assert monitor.summary.mean_cpu_percent <= monitor.summary.peak_cpu_percent + 1e-9


# --- memory --------------------------------------------------------------------------------------------------------------

def test_short_block_has_figures():
    with ResourceMonitor() as monitor: pass
    summary = monitor.summary
    assert summary.num_samples == 2 and 0 < summary.duration_sec < 1
    assert summary.peak_rss_mb > 1 and summary.mean_rss_mb > 1 and summary.mean_cpu_percent is not None

def test_growth_and_resident_memory_are_right():
    with ResourceMonitor(0.5) as monitor: kept = np.ones(100*MB//8)
    assert monitor.summary.memory_growth_mb == pytest.approx(100, abs=10)
    assert monitor.samples[-1].rss_mb == pytest.approx(psutil.Process().memory_info().rss/MB, abs=10)
    assert kept.nbytes == 100*MB

def test_spike_between_samples_is_not_missed():
    "In a fresh process, so that no earlier peak hides it"
    code = '''import numpy as np
from calibrax.profiling.resources import ResourceMonitor
with ResourceMonitor(10) as m:
    spike = np.ones(200*1024**2//8)
    del spike
print(m.summary.peak_rss_mb - m.samples[0].rss_mb, max(s.rss_mb for s in m.samples) - m.samples[0].rss_mb)'''
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    peak, sampled = map(float, out.split())
    assert 195 < peak < 230 and sampled < 50

def test_earlier_peak_is_not_reported():
    "A mark that did not rise belongs to the past"
    past = np.ones(150*MB//8)
    del past
    gc.collect()
    with ResourceMonitor(10) as monitor: pass
    samples = [s.rss_mb for s in monitor.samples]
    assert monitor.summary.peak_rss_mb <= max(samples) + 20

def test_forked_child_reads_itself():
    if not hasattr(os, 'fork'): pytest.skip('no fork on this system')
    code = '''import os, sys, psutil
import numpy as np
from calibrax.profiling import resources
resources._rss()
big = np.ones(300*1024**2//8)
if (pid := os.fork()) == 0:
    here, there = resources._rss(), psutil.Process().memory_info().rss/1024**2
    os._exit(0 if abs(here - there) < 20 else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))'''
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


# --- sampling ------------------------------------------------------------------------------------------------------------

def test_samples_come_at_the_interval_and_in_order():
    with ResourceMonitor(0.02) as monitor: time.sleep(0.5)
    times = [s.timestamp for s in monitor.samples]
    assert times == sorted(times)
    assert 10 <= len(times) <= 27
    assert monitor.summary.num_samples == len(times)
    assert monitor.summary.duration_sec == pytest.approx(times[-1] - times[0])

def test_exit_does_not_wait_for_the_interval():
    monitor = ResourceMonitor(60)
    start = time.perf_counter()
    with monitor: pass
    assert time.perf_counter() - start < 1

def test_thread_is_a_daemon_and_ends():
    with ResourceMonitor(0.01) as monitor:
        thread = next(t for t in threading.enumerate() if t.name == 'calibrax-resources')
        assert thread.daemon and monitor.summary.num_samples >= 1
    assert not thread.is_alive()

def test_before_it_was_entered():
    monitor = ResourceMonitor()
    assert monitor.samples == []
    assert monitor.summary == ResourceSummary(peak_rss_mb=0, mean_rss_mb=0, peak_gpu_mem_mb=None, mean_gpu_util=None, memory_growth_mb=0, num_samples=0, duration_sec=0)

def test_summary_inside_the_block():
    with ResourceMonitor(10) as monitor:
        spin(0.01)
        inside = monitor.summary
        assert inside.num_samples == 1 and inside.mean_cpu_percent > 0 and inside.peak_rss_mb > 1
        assert monitor.samples[0].cpu_percent > 0
    assert monitor.summary.num_samples == 2

def test_entering_again_begins_anew():
    monitor = ResourceMonitor(0.01)
    with monitor: time.sleep(0.2)
    first = monitor.summary
    with monitor: pass
    assert monitor.summary.num_samples < first.num_samples
    assert monitor.summary.duration_sec < first.duration_sec

def test_nesting():
    outer, inner = ResourceMonitor(0.01), ResourceMonitor(0.01)
    with outer:
        spin(0.05)
        with inner: spin(0.05)
    assert outer.summary.duration_sec > inner.summary.duration_sec > 0.05

def test_nesting_in_itself():
    monitor = ResourceMonitor(0.01)
    with monitor:
        spin(0.05)
        with monitor: spin(0.01)
        inner = monitor.summary
    assert monitor.summary.duration_sec > 0.06 > inner.duration_sec

def test_threads_see_their_own_blocks():
    monitor, found, barrier = ResourceMonitor(0.01), {}, threading.Barrier(3)
    def work(seconds):
        barrier.wait()
        with monitor: time.sleep(seconds)
        found[seconds] = monitor.summary.duration_sec
    threads = [threading.Thread(target=work, args=(s,)) for s in (0.1, 0.3, 0.5)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert all(s <= d < s + 0.15 for s, d in found.items())
    assert monitor.summary.duration_sec == pytest.approx(found[0.5])      # here none was entered: the last of all
    assert not monitor._open

@pytest.mark.parametrize('interval', [0, -1, float('nan'), float('inf'), '0.1', None])
def test_bad_interval(interval):
    with pytest.raises(ConfigError, match='sample_interval_sec must be a positive number'): ResourceMonitor(interval)

def test_left_without_being_entered():
    with pytest.raises(ProfilingError, match='without being entered'): ResourceMonitor().__exit__(None, None, None)


# --- decorating ----------------------------------------------------------------------------------------------------------

def test_decorated_function():
    monitor = ResourceMonitor(0.01)
    @monitor
    def double(x, *, by=2):
        "Doubles."
        time.sleep(0.03)
        return x*by
    assert double(3, by=4) == 12 and double.__name__ == 'double' and double.__doc__ == 'Doubles.'
    assert 0.03 <= monitor.summary.duration_sec < 0.5

def test_decorated_function_that_raises():
    monitor = ResourceMonitor(0.01)
    @monitor
    def broken(): raise ZeroDivisionError('no')
    with pytest.raises(ZeroDivisionError, match='no'): broken()
    assert monitor.summary.num_samples >= 2

def test_recursion_gives_the_outermost_call():
    monitor = ResourceMonitor(1)
    @monitor
    def down(n):
        time.sleep(0.02)
        return down(n - 1) if n else 0
    down(3)
    assert monitor.summary.duration_sec >= 0.08

def test_decorated_coroutine():
    monitor = ResourceMonitor(0.01)
    @monitor
    async def wait(): await asyncio.sleep(0.05); return 7
    async def both(): return await asyncio.gather(wait(), wait())
    assert asyncio.run(both()) == [7, 7]
    assert monitor.summary.duration_sec >= 0.05

def test_what_cannot_be_decorated():
    def numbers(): yield 1
    async def stream(): yield 1
    for generator in (numbers, stream):
        with pytest.raises(ConfigError, match='generator'): ResourceMonitor()(generator)
    with pytest.raises(ConfigError, match='a function is needed'): ResourceMonitor()(3)


# --- GPUs ----------------------------------------------------------------------------------------------------------------

def test_gpu_readings():
    uses = iter([10., 90.])
    with ResourceMonitor(10, gpu_profiler=full(use=lambda: next(uses))) as monitor: pass
    s = monitor.summary
    assert (s.peak_gpu_mem_mb, s.mean_gpu_util, s.mean_gpu_clock_mhz, s.mean_gpu_power_w, s.unavailable) == (1000., 50., 1000., 100., None)
    assert [x.gpu_util for x in monitor.samples] == [10., 90.]

def test_no_gpu_has_reasons():
    with ResourceMonitor() as monitor: pass
    assert set(monitor.summary.unavailable) == {'memory', 'utilization', 'clocks', 'power'}
    assert 'no GPU reader was given' in monitor.summary.unavailable['power']
    assert monitor.summary.mean_gpu_util is None and monitor.summary.peak_gpu_mem_mb is None

@pytest.mark.parametrize('none', [None, [], ()])
def test_no_readers(none):
    with ResourceMonitor(gpu_profiler=none) as monitor: pass
    assert monitor.samples[0].gpu_mem_mb is None

def test_reasons_of_a_reader_are_kept():
    gpu = Gpu(GpuMemory(used_mb=1, total_mb=2), unavailable={'power': 'the card has no sensor'})
    with ResourceMonitor(gpu_profiler=gpu) as monitor: pass
    assert monitor.summary.unavailable == {'utilization': 'no reason is given', 'clocks': 'no reason is given', 'power': 'the card has no sensor'}
    assert ResourceSummary.from_json(monitor.summary.to_json()) == monitor.summary

def test_reading_that_comes_late_is_used_and_not_unavailable():
    with ResourceMonitor(10, gpu_profiler=full(use=from_now_on(None, 40., 1))) as monitor: pass
    assert monitor.summary.mean_gpu_util == 40. and monitor.summary.unavailable is None

def test_several_gpus_are_summed_and_averaged():
    with ResourceMonitor(gpu_profiler=[full(1000., 20.), full(500., 60.)]) as monitor: pass
    s = monitor.summary
    assert (s.peak_gpu_mem_mb, s.mean_gpu_util, s.mean_gpu_power_w, s.mean_gpu_clock_mhz) == (1500., 40., 200., 1000.)

def test_a_gpu_that_does_not_tell_makes_the_sum_unknown():
    group = GpuGroup([full(name='a'), Gpu(name='b', unavailable={'memory': 'lost'})])
    assert group.memory() is None and group.unavailable == {'memory': 'b: lost'}
    assert group.power() is None
    group.readers[1].answers['memory'] = GpuMemory(used_mb=1., total_mb=2.)
    assert group.memory() == GpuMemory(used_mb=1001., total_mb=4002.) and 'memory' not in group.unavailable

def test_limit_of_a_group_needs_all_limits():
    assert GpuGroup([full(), full()]).power() == GpuPower(draw_w=200., limit_w=600.)
    unlimited = Gpu(power=GpuPower(draw_w=50.))
    assert GpuGroup([full(), unlimited]).power() == GpuPower(draw_w=150., limit_w=None)

def test_partial_reader():
    class OnlyPower:
        def power(self): return GpuPower(draw_w=75.)
    with ResourceMonitor(gpu_profiler=OnlyPower()) as monitor: pass
    assert monitor.summary.mean_gpu_power_w == 75. and 'it has no memory()' in monitor.summary.unavailable['memory']

def test_peak_that_the_device_remembers():
    "The device's own high-water mark counts where it rose within the block, and only there"
    gpu = full(used=100., peak_mb=900.)
    with ResourceMonitor(10, gpu_profiler=gpu) as monitor: pass
    assert monitor.summary.peak_gpu_mem_mb == 100.
    with ResourceMonitor(10, gpu_profiler=gpu) as monitor: gpu.peak_mb = 1200.
    assert monitor.summary.peak_gpu_mem_mb == 1200.

def test_groups_are_readers():
    assert isinstance(GpuGroup([]), GPUProfilerProtocol) and isinstance(Gpu(), GPUProfilerProtocol)
    class MemoryOnly:
        def memory(self): return None
    assert not isinstance(MemoryOnly(), GPUProfilerProtocol)
    assert GpuGroup([GpuGroup([full()]), full()]).memory().used_mb == 2000.

@pytest.mark.parametrize('bad', ['cuda:0', 0, object(), Gpu, [full(), 'cuda:0']])
def test_what_is_no_reader(bad):
    with pytest.raises(ConfigError, match='does not read a GPU'): ResourceMonitor(gpu_profiler=bad)


class OldGpu:
    has_gpu = True
    def get_utilization(self): return 30.
    def get_memory_usage(self): return {'gpu_memory_used_mb': 700., 'gpu_memory_total_mb': 800., 'gpu_memory_utilization': 0.875}
    def get_clock_info(self): return {'gpu_clock_mhz': 1400., 'mem_clock_mhz': 900.}
    def get_power_info(self): return {'power_draw_w': 120., 'power_limit_w': 250.}

def test_old_reader():
    with ResourceMonitor(gpu_profiler=OldGpu()) as monitor: pass
    s = monitor.summary
    assert (s.peak_gpu_mem_mb, s.mean_gpu_util, s.mean_gpu_clock_mhz, s.mean_gpu_power_w) == (700., 30., 1400., 120.)

def test_zeros_of_an_old_reader_are_unknown():
    class NoGpu(OldGpu):
        has_gpu = False
        def get_utilization(self): return 0.
        def get_memory_usage(self): return {'gpu_memory_used_mb': 0., 'gpu_memory_total_mb': 0.}
    class Zeros(OldGpu):
        def get_clock_info(self): return {'gpu_clock_mhz': 0., 'mem_clock_mhz': 0.}
        def get_power_info(self): return {}
        def get_memory_usage(self): return {'gpu_memory_used_mb': 512.}
    with ResourceMonitor(gpu_profiler=NoGpu()) as monitor: pass
    assert set(monitor.summary.unavailable) == {'memory', 'utilization', 'clocks', 'power'}
    with ResourceMonitor(gpu_profiler=Zeros()) as monitor: pass
    assert set(monitor.summary.unavailable) == {'clocks', 'power'} and monitor.summary.peak_gpu_mem_mb == 512.

def test_idle_old_gpu_is_zero_per_cent():
    class Idle(OldGpu):
        def get_utilization(self): return 0.
    with ResourceMonitor(gpu_profiler=Idle()) as monitor: pass
    assert monitor.summary.mean_gpu_util == 0.


# --- faults --------------------------------------------------------------------------------------------------------------

def dying(after=3): return full(use=from_now_on(50., RuntimeError('GPU is lost'), after))

def test_gpu_that_disappears_is_reported_at_exit(caplog):
    with pytest.raises(ProfilingError, match=r'sampling failed after \d+ readings.*reading the utilization of fake failed: RuntimeError: GPU is lost') as caught:
        with ResourceMonitor(0.01, gpu_profiler=dying()) as monitor: time.sleep(0.2)
    assert isinstance(caught.value.__cause__.__cause__, RuntimeError)
    assert 'call the reader by itself' in caught.value.hint
    assert 'sampling stopped' in caplog.text
    s = monitor.summary
    assert s.mean_gpu_util == 50. and s.duration_sec >= 0.2 and s.num_samples == 4 and s.unavailable is None

def test_body_error_is_not_masked():
    with pytest.raises(KeyError) as caught:
        with ResourceMonitor(0.01, gpu_profiler=dying()):
            time.sleep(0.1)
            raise KeyError('mine')
    assert 'GPU is lost' in caught.value.__notes__[0]

def test_interrupt_is_not_masked():
    with pytest.raises(KeyboardInterrupt):
        with ResourceMonitor(0.01, gpu_profiler=dying()):
            time.sleep(0.05)
            raise KeyboardInterrupt

def test_reader_that_fails_at_once_fails_at_once():
    ran = []
    with pytest.raises(ProfilingError, match='no driver'):
        with ResourceMonitor(gpu_profiler=full(use=RuntimeError('no driver'))): ran.append(1)
    assert not ran

def test_reader_that_fails_at_the_end():
    with pytest.raises(ProfilingError, match='GPU is lost'):
        with ResourceMonitor(10, gpu_profiler=dying(after=1)) as monitor: pass
    assert monitor.summary.num_samples == 2 and monitor.summary.mean_gpu_util == 50.

def test_own_errors_keep_message_and_hint():
    lost = ProfilingError('the GPU has disappeared', hint='look at dmesg')
    with pytest.raises(ProfilingError, match='sampling failed after .* the GPU has disappeared') as caught:
        with ResourceMonitor(0.01, gpu_profiler=full(use=from_now_on(1., lost, 2))): time.sleep(0.1)
    assert caught.value.hint == 'look at dmesg'

def test_reader_that_hangs_is_left_behind(monkeypatch):
    monkeypatch.setattr(resources, '_PATIENCE', 0.2)
    release, calls = threading.Event(), iter(range(100))
    def slow():
        if next(calls) > 0: release.wait(20)
        return 1.
    start = time.perf_counter()
    with pytest.raises(ProfilingError, match='did not come back within 0.2 s'):
        with ResourceMonitor(0.01, gpu_profiler=full(use=slow)) as monitor: time.sleep(0.05)
    assert time.perf_counter() - start < 5
    known = len(monitor.samples)
    release.set()
    time.sleep(0.1)
    assert len(monitor.samples) == known == 2

def test_after_a_fault_it_can_be_used_again():
    gpu = full(use=from_now_on(RuntimeError('not yet'), 5., 1))
    monitor = ResourceMonitor(gpu_profiler=gpu)
    with pytest.raises(ProfilingError):
        with monitor: pass
    with monitor: pass
    assert monitor.summary.mean_gpu_util == 5.


# --- looks and cost --------------------------------------------------------------------------------------------------------

def test_plot():
    import matplotlib.pyplot as plt
    with ResourceMonitor(0.01, gpu_profiler=full()) as monitor: time.sleep(0.05)
    figure, (memory, use) = monitor.plot()
    assert memory.get_ylabel() == 'memory [MB]' and 'GPU' in memory.get_legend_handles_labels()[1]
    given = plt.subplots(2)[1]
    assert ResourceMonitor.plot(monitor, given)[0] is given[0].figure
    plt.close('all')
    with pytest.raises(ProfilingError, match='nothing has been sampled'): ResourceMonitor().plot()

def test_plot_without_gpu_has_no_legend():
    import matplotlib.pyplot as plt
    with ResourceMonitor() as monitor: pass
    assert monitor.plot()[1][0].get_legend() is None
    plt.close('all')

def test_ten_hertz_costs_less_than_a_percent():
    "Processor time of the sampling thread; the least disturbed of several windows"
    def share():
        with ResourceMonitor(0.1) as monitor:
            clock, start = time.pthread_getcpuclockid(monitor._current()._thread.ident), time.perf_counter()
            spin(0.5)
            return time.clock_gettime(clock)/(time.perf_counter() - start)
    assert min(share() for _ in range(4)) < 0.01

def test_open_files_do_not_grow():
    for _ in range(3):
        with ResourceMonitor(): pass
    before = psutil.Process().num_fds()
    for _ in range(20):
        with ResourceMonitor(): pass
    assert psutil.Process().num_fds() <= before

def test_other_systems_ask_psutil(monkeypatch):
    monkeypatch.setattr(sys, 'platform', 'darwin')
    assert resources._rss() == pytest.approx(psutil.Process().memory_info().rss/MB, abs=20)

