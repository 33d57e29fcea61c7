"Monitoring: alerts that come once, processor time that is measured, faults that surface, health that follows the present."
import asyncio, logging, os, subprocess, sys, threading, time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock, patch

import pytest

from calibrax.core.errors import ConfigError, ProfilingError, RecordError
from calibrax.core.measurements import GpuMemory
from calibrax.monitoring.monitor import (AdvancedMonitor, Alert, AlertManager, AlertSeverity, MetricHistorySummary, MonitoringSummary, trend_of)
from calibrax.monitoring.production import PipelineHealth, PipelineHealthReport, ProductionMonitor
from calibrax.profiling.resources import ResourceMonitor

LOGGER = 'calibrax.monitoring.monitor'


class Clock:
    now = 1_772_366_400.0
    def __call__(self): return self.now

class Gpu:
    "Answers are given; an exception among them is raised"
    def __init__(self, *memory, utilization=50.0): self.answers, self.use = list(memory), utilization
    def memory(self):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception): raise answer
        return answer
    def utilization(self): return self.use

def gb(used): return GpuMemory(used_mb=used, total_mb=8192)

def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end: pass

def until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'it did not come to pass'
        time.sleep(0.005)

@pytest.fixture
def clock(): return Clock()

@pytest.fixture
def monitor(clock): return AdvancedMonitor(clock=clock, cooldown=300)

def feed(monitor, clock, values, step=5.0, name='m'):
    "The events that come of it"
    seen = []
    monitor.alert_manager.add_alert_handler(lambda alert: seen.append((alert.metadata['event'], alert.severity.value, alert.metric_value)))
    for value in values:
        monitor.record_metric(name, value)
        clock.now += step
    return seen


# --- alerts that come once ---------------------------------------------------------------------------------------------

def test_raised_once_and_recovered_below_the_lower_edge(monitor, clock):
    monitor.set_threshold('m', 100)     # lower edge 95
    assert feed(monitor, clock, [90, 110, 111, 99, 96, 105, 112, 95, 90]) == [('raised', 'info', 110), ('recovered', 'info', 95)]

def test_a_value_that_trembles_around_its_threshold_raises_one_alarm(monitor, clock):
    monitor.set_threshold('m', 100)
    assert len(feed(monitor, clock, [99, 101]*25)) == 1

def test_without_hysteresis_it_trembles_too(monitor, clock):
    monitor.set_threshold('m', 100, clear=100)
    assert [event for event, *_ in feed(monitor, clock, [99, 101, 100, 101])] == ['raised', 'recovered', 'raised']

def test_repeated_after_the_cool_down_only(monitor, clock):
    monitor.set_threshold('m', 100)
    events = feed(monitor, clock, [110]*200, step=5)        # 1000 s
    assert [event for event, *_ in events] == ['raised', 'repeated', 'repeated', 'repeated']

def test_escalation_is_told_at_once_and_its_end_is_not(monitor, clock):
    monitor.set_threshold('m', 100)
    assert feed(monitor, clock, [110, 130, 160, 210, 160, 130, 160, 210]) == [
        ('raised', 'info', 110), ('escalated', 'warning', 130), ('escalated', 'error', 160), ('escalated', 'critical', 210)]

def test_a_new_alarm_after_a_recovery_is_told_though_the_cool_down_lasts(monitor, clock):
    monitor.set_threshold('m', 100)
    assert [event for event, *_ in feed(monitor, clock, [110, 50, 110])] == ['raised', 'recovered', 'raised']

def test_a_clock_that_is_set_back_does_not_silence_the_monitor(monitor, clock):
    monitor.set_threshold('m', 100)
    events = feed(monitor, clock, [110])
    clock.now -= 3600
    monitor.record_metric('m', 110)
    assert events[-1][0] == 'repeated'

def test_a_fixed_severity(monitor, clock):
    "A percentage cannot be twice its threshold"
    monitor.set_threshold('gpu_utilization', 95, severity='critical')
    assert feed(monitor, clock, [99], name='gpu_utilization') == [('raised', 'critical', 99)]

def test_a_raised_threshold_ends_the_alarm(monitor, clock):
    monitor.set_threshold('m', 100)
    events = feed(monitor, clock, [150])
    monitor.set_threshold('m', 200)
    monitor.record_metric('m', 150)
    assert events[-1] == ('recovered', 'info', 150) and monitor.get_monitoring_summary().raised is None

def test_memory_alert_is_not_repeated_every_cycle():
    "Known fault: 10 alerts in 1.2 s"
    monitor = AdvancedMonitor()
    monitor.set_threshold('memory_rss_mb', 1e-3)
    for _ in range(10): monitor.check()
    assert monitor.get_monitoring_summary().alert_count == 1

def test_message_and_metadata_of_a_raised_alert(monitor, clock):
    monitor.set_threshold('m', 100)
    for value in (101, 102, 103, 104): monitor.record_metric('m', value)
    first = monitor.alert_manager.get_recent_alerts()[-1]
    assert first.message == 'm exceeded threshold: 101.00 > 100.00 (trend: stable)'
    assert (first.timestamp, first.threshold, first.metadata['trend']) == (clock.now, 100, 'stable')

def test_nan_is_neither_above_nor_below(monitor, clock):
    monitor.set_threshold('m', 100)
    assert [e for e, *_ in feed(monitor, clock, [110, float('nan'), 110])] == ['raised']
    monitor.record_metric('m', float('nan'))
    summary = monitor.get_monitoring_summary()
    assert summary.metric_history['m'].samples == 2 and summary.unavailable == {'m': 'the reading was NaN'}

@pytest.mark.parametrize('name, bad', [('max_alerts', dict(max_alerts=0)), ('max_alerts', dict(max_alerts=1.5))])
def test_manager_refuses(name, bad):
    with pytest.raises(ConfigError, match=name): AlertManager(**bad)

@pytest.mark.parametrize('bad', [dict(history_maxlen=0), dict(history_maxlen=True), dict(interval=0), dict(interval=float('nan')), dict(interval='5'), dict(cooldown=-1), dict(gpu_profiler=3)])
def test_monitor_refuses(bad):
    with pytest.raises(ValueError): AdvancedMonitor(**bad)
    with pytest.raises(ConfigError): ProductionMonitor(**bad)

@pytest.mark.parametrize('bad', [dict(value=float('nan')), dict(value=float('inf')), dict(value=1, clear=2), dict(value=1, hysteresis=-0.1), dict(value=-1, clear=0)])
def test_threshold_refuses(monitor, bad):
    with pytest.raises(ConfigError, match='threshold m'): monitor.set_threshold('m', **bad)


# --- the manager ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('call', [lambda m: m.set_threshold('x', 'high'), lambda m: m.set_threshold('x', None), lambda m: m.set_threshold('x', 3, severity='bad'),
                                  lambda m: m.set_threshold('x', 3, clear='low'), lambda m: m.set_performance_baseline('p', 'fast'), lambda m: m.set_performance_baseline('p', 0)])
def test_settings_that_are_no_numbers_are_named(call):
    with pytest.raises(ConfigError, match='found|must be|no severity'): call(ProductionMonitor())

def test_published_names_stay_where_they_were():
    from calibrax.monitoring import alerts, monitor
    for name in ('Alert', 'AlertList', 'AlertSeverity', 'trend_of'): assert getattr(monitor, name) is getattr(alerts, name) and name in monitor.__all__

def test_a_failing_handler_is_logged_and_the_next_one_runs(caplog):
    manager, seen = AlertManager(), []
    manager.add_alert_handler(lambda alert: 1/0)
    manager.add_alert_handler(seen.append)
    with caplog.at_level(logging.ERROR, LOGGER): alert = manager.trigger_alert('x', AlertSeverity.INFO, 'm', 1, 0)
    assert seen == [alert] and [r.exc_info[0] for r in caplog.records] == [ZeroDivisionError]

def test_manager_is_bounded_and_loses_nothing_among_threads():
    manager, seen = AlertManager(max_alerts=1000), []
    manager.add_alert_handler(seen.append)
    def raise_some(thread):
        for i in range(100): manager.trigger_alert('x', 'info', 'm', 100*thread + i, 0)
    with ThreadPoolExecutor(8) as pool: list(pool.map(raise_some, range(8)))
    assert len(seen) == len(manager.get_recent_alerts(0)) == 800
    assert {a.metric_value for a in seen} == set(range(800))
    small = AlertManager(max_alerts=3)
    for i in range(5): small.trigger_alert(f'{i}', 'error' if i % 2 else 'info', 'm', i, 0)
    assert [a.message for a in small.get_recent_alerts()] == ['4', '3', '2']
    assert [a.message for a in small.get_alerts_by_severity('info')] == ['2', '4']

def test_a_handler_may_ask_and_stop_the_monitor():
    monitor, seen = AdvancedMonitor(interval=0.01), []
    def handler(alert):
        seen.append(monitor.get_monitoring_summary().alert_count)
        monitor.stop_monitoring()
    monitor.alert_manager.add_alert_handler(handler)
    monitor.set_threshold('memory_rss_mb', 1e-3)
    monitor.start_monitoring()
    until(lambda: seen)
    until(lambda: not monitor.get_monitoring_summary().is_monitoring)
    assert seen == [1]

def test_alert_record():
    alert = Alert(message='x', severity='warning', metric_name='m', metric_value=2, threshold=1)
    assert abs(alert.timestamp - time.time()) < 60 and alert.metadata == {}
    assert Alert.from_dict(alert.to_dict()) == alert
    with pytest.raises(RecordError, match='severity'): Alert(message='x', severity='bad', metric_name='m', metric_value=2, threshold=1)
    table = AlertManager(); table.trigger_alert('<b>', 'info', 'm', 1, 0)
    assert '&lt;b&gt;' in table._repr_html_()


# --- trend ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('values, trend', [
    ([1, 2, 3], 'stable'), ([1, 2, 3, 4], 'increasing'), ([4, 3, 2, 1], 'decreasing'), ([1.0]*4, 'stable'), ([5.0]*19 + [500], 'stable'), ([500] + [5.0]*19, 'stable'),
    ([100*1.004**i for i in range(30)], 'increasing'), ([-1, -2, -3, -4], 'decreasing'), ([0]*10, 'stable'), ([float('inf')]*5, 'stable'), ([1e6 + i for i in range(30)], 'stable')])
def test_trend(values, trend): assert trend_of(values) == trend

def test_a_single_outlier_does_not_turn_a_trend():
    falling = [100 - i for i in range(20)]
    falling[-1] = 1000
    assert trend_of(falling) == 'decreasing'


# --- what is read --------------------------------------------------------------------------------------------------------

def test_cpu_of_a_busy_loop_is_measured_and_raises_its_alert():
    "Known fault: minimum and maximum are 0 over 10 cycles, so that the alert never comes"
    monitor = AdvancedMonitor(interval=0.06)
    monitor.set_threshold('cpu_percent', 10)
    worked, began = time.process_time(), time.perf_counter()
    with monitor: spin(0.4)
    share = 100*(time.process_time() - worked)/(time.perf_counter() - began)       # less than 100 where the machine has other work
    cpu = monitor.get_monitoring_summary().metric_history['cpu_percent']
    assert cpu.samples >= 4 and cpu.min > 0 and 0.5*share < cpu.mean < 2*share
    assert 'cpu_percent' in [a.metric_name for a in monitor.alert_manager.get_recent_alerts(0)]

def test_resource_monitor_is_used_and_sees_what_happens_between_two_cycles():
    with AdvancedMonitor(resource_monitor=ResourceMonitor(0.005), interval=0.25) as monitor:
        before = monitor._own_process().memory_info().rss/1024**2
        spike = bytearray(os.urandom(1)*(80*1024**2))
        spin(0.05)
        del spike
        until(lambda: monitor.history('memory_rss_mb'))
    assert monitor.get_monitoring_summary().metric_history['memory_rss_mb'].max >= before + 60
    assert 0 < monitor.history('cpu_percent')[0][1] < 1000

def test_gpus_of_the_resource_monitor_are_used():
    with AdvancedMonitor(resource_monitor=ResourceMonitor(0.01, Gpu(gb(100), gb(900), gb(200))), interval=0.1) as monitor: until(lambda: monitor.history('gpu_memory_mb'))
    assert monitor.history('gpu_memory_mb')[0][1] == 900 and monitor.history('gpu_utilization')[0][1] == 50

def test_a_block_shorter_than_an_interval_has_been_looked_at():
    with AdvancedMonitor(interval=60) as monitor: spin(0.12)
    assert monitor.get_monitoring_summary().metric_history['cpu_percent'].latest > 20

def test_several_gpus_and_readers_of_either_generation():
    class Old:
        def get_utilization(self): return 65.0
        def get_memory_usage(self): return {'gpu_memory_used_mb': 512.0, 'gpu_memory_total_mb': 8192.0}
    class Nothing:
        has_gpu = False
        unavailable = {'memory': 'there is no GPU'}
        def get_utilization(self): return 0.0
        def get_memory_usage(self): return {'gpu_memory_used_mb': 0.0, 'gpu_memory_total_mb': 0.0}
    def read(gpu): return {k: v for k, v in AdvancedMonitor(gpu_profiler=gpu).check().items() if k.startswith('gpu')}
    assert read(Old()) == {'gpu_utilization': 65, 'gpu_memory_mb': 512}
    assert read([Gpu(gb(100)), Gpu(gb(50), utilization=100)]) == {'gpu_utilization': 75, 'gpu_memory_mb': 150}
    assert read([Gpu(gb(100)), Old()]) == {'gpu_utilization': 57.5, 'gpu_memory_mb': 612}
    assert read(Nothing()) == {}
    monitor = AdvancedMonitor(gpu_profiler=Nothing())
    monitor.check()
    assert monitor.get_monitoring_summary().unavailable['gpu_memory_mb'] == 'there is no GPU'
    assert 'gpu_memory_mb' not in monitor.get_monitoring_summary().metric_history

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_a_forked_process_reads_itself():
    "In a process of its own, because a fork of one with JAX's threads may hang"
    code = """
import os
from calibrax.monitoring import AdvancedMonitor
monitor = AdvancedMonitor()
monitor._own_process()
child = os.fork()
if child == 0: os._exit(0 if monitor._own_process().pid == os.getpid() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, 'the child read its parent'
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# --- faults --------------------------------------------------------------------------------------------------------------

def test_a_reader_that_fails_is_logged_once_and_surfaces_and_the_others_go_on(caplog):
    gone = ProfilingError('the GPU is gone', hint='see whether nvidia-smi answers')
    monitor = AdvancedMonitor(gpu_profiler=Gpu(gb(100), gone, gone, gone, gb(100)))
    with caplog.at_level(logging.ERROR, LOGGER):
        for n in range(1, 5):
            assert 'memory_rss_mb' in monitor.check()
            assert ('gpu_memory_mb' in (monitor.get_monitoring_summary().unavailable or {})) == (n > 1)
    assert len(caplog.records) == 1 and 'the GPU is gone' in repr(monitor)
    monitor.check()
    assert monitor.get_monitoring_summary().unavailable is None and monitor.get_monitoring_summary().metric_history['gpu_memory_mb'].samples == 2

def test_what_failed_is_told_when_the_monitor_stops(caplog):
    monitor = AdvancedMonitor(gpu_profiler=Gpu(OSError('driver')), interval=0.01)
    with caplog.at_level(logging.WARNING, LOGGER):
        with monitor: until(lambda: monitor._failures['gpu_memory_mb'] >= 2)
    assert [r.levelname for r in caplog.records] == ['ERROR', 'WARNING'] and 'gpu_memory_mb' in caplog.records[-1].getMessage()
    assert monitor.get_monitoring_summary().unavailable['gpu_memory_mb'] == 'OSError: driver'

def test_a_sampler_that_fails_altogether_does_not_end_the_thread(caplog):
    monitor, broken = AdvancedMonitor(interval=0.01), Mock(side_effect=RuntimeError('boom'))
    with patch.object(monitor, '_collect_metrics', broken), caplog.at_level(logging.ERROR, LOGGER), monitor:
        until(lambda: broken.call_count > 3)
        assert monitor.get_monitoring_summary().is_monitoring
    assert [r.getMessage() for r in caplog.records if r.levelname == 'ERROR'] == ['metrics could not be read; monitoring goes on']
    assert monitor.get_monitoring_summary()['unavailable'] == {'metrics': 'RuntimeError: boom'}

@pytest.mark.parametrize('resource_monitor', [Mock(spec=ResourceMonitor), ResourceMonitor(0.01, Gpu(OSError('driver')))])
def test_a_resource_monitor_that_fails_neither_ends_nor_speeds_up_the_thread(resource_monitor):
    with AdvancedMonitor(resource_monitor=resource_monitor, interval=0.05) as monitor: until(lambda: monitor.history('cpu_percent'))
    assert 'resource_monitor' in monitor.get_monitoring_summary().unavailable
    assert len(monitor.history('cpu_percent')) <= 3 and monitor.history('memory_rss_mb')[0][1] > 1

def test_a_reading_that_hangs_is_named(caplog):
    release = threading.Event()
    class Hanging:
        def utilization(self): release.wait(5)
    monitor = AdvancedMonitor(gpu_profiler=Hanging(), interval=0.01)
    with patch('calibrax.monitoring.monitor._PATIENCE', 0.05), caplog.at_level(logging.WARNING, LOGGER):
        monitor.start_monitoring()
        time.sleep(0.05)
        monitor.stop_monitoring()
    assert 'hangs' in caplog.text and monitor._thread is None
    release.set()


# --- the thread ----------------------------------------------------------------------------------------------------------

def test_start_and_stop_any_number_of_times():
    monitor = AdvancedMonitor()
    monitor.stop_monitoring()
    for _ in range(2):
        monitor.start_monitoring(interval=0.01)
        thread = monitor._thread
        monitor.start_monitoring()
        assert monitor._thread is thread and thread.daemon and monitor.get_monitoring_summary()['is_monitoring'] is True
        monitor.stop_monitoring()
        assert not thread.is_alive() and monitor._thread is None and monitor.get_monitoring_summary().is_monitoring is False
    with pytest.raises(ConfigError): monitor.start_monitoring(interval=-1)

def test_the_thread_ends_with_its_block_also_when_that_fails():
    monitor = AdvancedMonitor(interval=0.01)
    with pytest.raises(KeyError), monitor: raise KeyError('x')
    assert not monitor.get_monitoring_summary().is_monitoring

def test_many_threads_and_a_summary_at_any_time():
    monitor = ProductionMonitor(history_maxlen=50, interval=0.005)
    monitor.set_threshold('m0', 50)
    monitor.set_performance_baseline('p0', 10)
    def work(thread):
        for i in range(100):
            monitor.record_metric(f'm{thread}', i)
            monitor.record_pipeline_execution(f'p{thread}', i, i % 2 == 0)
            monitor.get_monitoring_summary(), monitor.get_pipeline_health_report()
    with monitor, ThreadPoolExecutor(4) as pool: list(pool.map(work, range(4)))
    report, summary = monitor.get_pipeline_health_report(), monitor.get_monitoring_summary()
    assert report.total_executions == 400 and [s.total_executions for s in report.pipelines.values()] == [100]*4
    assert all(summary.metric_history[f'm{t}'].samples == 50 for t in range(4)) and len(monitor.executions) == 50


# --- records that also index like the old dicts --------------------------------------------------------------------------

def test_summary_of_either_generation(monitor, clock):
    monitor.set_threshold('m', 100)
    feed(monitor, clock, [90, 110])
    summary = monitor.get_monitoring_summary()
    assert summary.metric_history['m'] == MetricHistorySummary(latest=110, min=90, max=110, mean=100, samples=2)
    assert summary['metric_history']['m']['mean'] == 100 and summary['thresholds'] == {'m': 100}
    assert summary.get('alert_count') == 1 and 'is_monitoring' in summary and dict(summary)['raised'] == ('m',)
    assert set(summary.to_dict()) == {'thresholds', 'alert_count', 'metric_history', 'is_monitoring', 'raised'}
    assert MonitoringSummary.from_json(summary.to_json()) == summary
    with pytest.raises(KeyError, match='thresholds'): summary['nothing']
    assert '▲ above' in repr(monitor) and '<table>' in monitor._repr_html_()

def test_names_that_clients_pin(monitor):
    monitor._metric_history['m'] = deque([1.0, 2.0, 3.0, 4.0], maxlen=100)
    assert monitor._analyze_trend('m') == 'increasing' and monitor._analyze_trend('missing') == 'stable'
    assert [monitor._determine_alert_severity(v, 1.0).value for v in (1.1, 1.3, 1.6, 2.1)] == ['info', 'warning', 'error', 'critical']
    assert monitor._determine_alert_severity(0.1, 0) == 'critical'
    process, gpu = Mock(), Mock(spec=['memory', 'utilization', 'get_memory_usage', 'get_utilization'])
    process.cpu_percent.return_value, process.memory_info.return_value = 42.0, Mock(rss=256*1024**2)
    gpu.get_utilization.return_value, gpu.get_memory_usage.return_value = 77.0, {'gpu_memory_used_mb': 512.0}
    with patch(f'{LOGGER}.psutil.Process', return_value=process): metrics = AdvancedMonitor(gpu_profiler=gpu)._collect_metrics()
    assert metrics == {'cpu_percent': 42, 'memory_rss_mb': 256, 'gpu_utilization': 77, 'gpu_memory_mb': 512}

def test_plot(monitor, clock):
    monitor.set_threshold('m', 100)
    feed(monitor, clock, [90, 110, 130, 90])
    figure, axes = monitor.plot('m')
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ['threshold', 'an alarm stays on', 'info', 'warning', 'recovered']
    assert monitor.plot('m', axes)[1] is axes
    with pytest.raises(ConfigError, match='no readings'): monitor.plot('other')


# --- pipelines -----------------------------------------------------------------------------------------------------------

@pytest.fixture
def production(clock): return ProductionMonitor(clock=clock)

def test_slow_executions_warn_once_and_recover(production, clock):
    production.set_performance_baseline('p', 1.0)
    for seconds in (1.0, 1.19, 1.3, 1.4, 1.15, 1.3, 1.05): production.record_pipeline_execution('p', seconds, True)
    raised, recovered = reversed(production.alert_manager.get_recent_alerts())
    assert (raised.severity, raised.metric_name, raised.threshold, raised.metric_value) == ('warning', 'pipeline_p_time', 1.2, 1.3) and 'degraded' in raised.message
    assert (recovered.severity, recovered.metric_value) == ('info', 1.05)

def test_error_rate_is_that_of_the_last_twenty_of_its_own_pipeline(production):
    for _ in range(1000): production.record_pipeline_execution('good', 1, True)
    for i in range(20): production.record_pipeline_execution('p', 1, True)
    for i in range(6): production.record_pipeline_execution('p', 1, False)
    assert production.alert_manager.get_recent_alerts() == []           # 30 % are not more than 30 %
    production.record_pipeline_execution('p', 1, False)
    [alert] = production.alert_manager.get_recent_alerts()
    assert (alert.severity, alert.metric_name, alert.metric_value) == ('error', 'pipeline_p_error_rate', 0.35) and 'high error rate' in alert.message
    for _ in range(30): production.record_pipeline_execution('p', 1, True)
    assert production.alert_manager.get_recent_alerts(1)[0].metadata['event'] == 'recovered'

def test_two_failures_are_too_few_for_an_alert(production):
    for _ in range(2): production.record_pipeline_execution('p', 1, False)
    assert production.alert_manager.get_recent_alerts() == [] and production.get_pipeline_health_report().pipelines['p'].health == 'degraded'

@pytest.mark.parametrize('failures, overall, worst', [
    ({}, 'healthy', 'healthy'), ({'a': 0, 'b': 0}, 'healthy', 'healthy'), ({'a': 0, 'b': 5}, 'degraded', 'degraded'),
    ({'a': 0, 'b': 20}, 'degraded', 'critical'), ({'a': 5, 'b': 20}, 'degraded', 'critical'), ({'a': 11, 'b': 20}, 'critical', 'critical'), ({'a': 20}, 'critical', 'critical')])
def test_overall_health(production, failures, overall, worst):
    for name, n in failures.items():
        for i in range(20): production.record_pipeline_execution(name, 1, i >= n)
    report = production.get_pipeline_health_report()
    assert (report.overall_health, report.worst_health) == (overall, worst) and isinstance(report.overall_health, PipelineHealth)

def test_health_follows_the_present(production):
    for success in (False,)*50 + (True,)*20: production.record_pipeline_execution('p', 1, success)
    stats = production.get_pipeline_health_report()['pipelines']['p']
    assert stats['health'] == 'healthy' and stats.error_rate == 50/70 and stats.recent_error_rate == 0

def test_report_of_either_generation(production):
    production.set_performance_baseline('p', 100.0)
    production.record_pipeline_execution('p', 10.0, True, {'host': 'a'})
    production.record_pipeline_execution('p', 12.0, False)
    report = production.get_pipeline_health_report()
    assert {k: report['pipelines']['p'][k] for k in ('total_executions', 'success_rate', 'error_rate', 'mean_execution_time', 'min_execution_time', 'max_execution_time')} == {
        'total_executions': 2, 'success_rate': 0.5, 'error_rate': 0.5, 'mean_execution_time': 11, 'min_execution_time': 10, 'max_execution_time': 12}
    assert report['baselines'] == {'p': 100} and report['total_executions'] == 2
    assert PipelineHealthReport.from_json(report.to_json()) == report and 'overall: degraded' in repr(report)
    assert [(e.pipeline_name, e.success, e.metadata) for e in production.executions] == [('p', True, {'host': 'a'}), ('p', False, {})]

def test_watch_blocks_and_functions(production):
    @production.watch('f', {'kind': 'function'})
    def f(x):
        "Doc"
        return 1/x
    assert f(2) == 0.5 and f.__doc__ == 'Doc'
    with pytest.raises(ZeroDivisionError): f(0)
    with pytest.raises(KeyboardInterrupt), production.watch('f'): raise KeyboardInterrupt
    with production.watch('block'): spin(0.02)
    *functions, block = production.executions
    assert [(e.success, e.metadata) for e in functions] == [(True, {'kind': 'function'}), (False, {'kind': 'function', 'error': 'ZeroDivisionError: division by zero'})]
    assert 0.02 <= block.execution_time < 1

def test_watch_async_functions(production):
    @production.watch('f')
    async def f(): await asyncio.sleep(0.02)
    async def cancelled():
        task = asyncio.ensure_future(f())
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError): await task
    asyncio.run(f())
    asyncio.run(cancelled())
    [execution] = production.executions
    assert execution.execution_time >= 0.02 and execution.success
    def generator(): yield 1
    with pytest.raises(ConfigError, match='generator'): production.watch('g')(generator)

def test_watched_jax_functions_are_timed_until_their_result_is_there(production):
    jax = pytest.importorskip('jax')
    def slow(x):
        time.sleep(0.1)
        return x
    f = jax.jit(lambda x: jax.pure_callback(slow, x, x))
    f(1.0).block_until_ready()
    production.watch('f')(f)(2.0)
    assert production.executions[0].execution_time >= 0.1

@pytest.mark.parametrize('bad', [-1, float('nan'), float('inf')])
def test_production_refuses(production, bad):
    with pytest.raises(ConfigError, match='p cannot'): production.record_pipeline_execution('p', bad, True)
    with pytest.raises(ConfigError, match='baseline of p'): production.set_performance_baseline('p', bad)
    assert production.executions == () and production.get_pipeline_health_report().pipelines == {}
