"The records of measurements: fields, percentiles, JSON, displays."
import dataclasses

import numpy as np
import pytest

from calibrax.core.errors import RecordError, StatisticsError
from calibrax.core.measurements import CallTiming, ResourceSample, ResourceSummary, TimingSample, format_seconds, percentile

PASS = dict(wall_clock_sec=2.0, per_batch_times=(0.1, 0.2, 0.4), first_batch_time=0.5, num_batches=4, num_elements=64, warmup_batches_excluded=1)
CALLS = dict(samples_sec=(0.1, 0.3, 0.2), median_sec=0.2, percentiles_sec={50: 0.2, 90: 0.28}, warmup=3)
USED = dict(peak_rss_mb=5.0, mean_rss_mb=4.0, peak_gpu_mem_mb=None, mean_gpu_util=None, memory_growth_mb=1.0, num_samples=3, duration_sec=0.2)


@pytest.mark.parametrize('record, fields', [(TimingSample, PASS), (CallTiming, CALLS), (ResourceSummary, USED)])
def test_records_are_frozen_keyword_only_and_survive_json(record, fields):
    value = record(**fields)
    with pytest.raises(dataclasses.FrozenInstanceError): setattr(value, next(iter(fields)), 1.0)
    with pytest.raises(TypeError): record(*fields.values())
    assert record.from_dict(value.to_dict()) == value == record.from_json(value.to_json())
    assert repr(value) and value._repr_html_().startswith('<table>')


def test_published_keys_and_no_others():
    assert list(TimingSample(**PASS).to_dict()) == list(PASS)
    assert TimingSample(**PASS, compilation_time_sec=0.4).to_dict()['compilation_time_sec'] == 0.4
    assert CallTiming(**CALLS).to_dict() == {**CALLS, 'samples_sec': [0.1, 0.3, 0.2], 'percentiles_sec': {'50': 0.2, '90': 0.28}}
    assert ResourceSummary(**USED).to_dict() == USED
    assert 'mean_cpu_percent' in ResourceSummary(**USED, mean_cpu_percent=150.0).to_dict()
    reading = ResourceSample(timestamp=1.0, cpu_percent=2.0, rss_mb=3.0, gpu_util=None, gpu_mem_mb=None)
    assert list(reading.to_dict()) == ['timestamp', 'cpu_percent', 'rss_mb', 'gpu_util', 'gpu_mem_mb']


def test_lists_and_numpy_scalars_are_taken():
    value = TimingSample(**{**PASS, 'per_batch_times': [np.float32(0.5)], 'num_batches': np.int64(4)})
    assert value.per_batch_times == (0.5,) and type(value.num_batches) is int


def test_wrong_types_name_the_field():
    with pytest.raises(RecordError, match=r'per_batch_times\[1\]'): TimingSample(**{**PASS, 'per_batch_times': [0.1, 'slow']})
    with pytest.raises(RecordError, match='percentiles_sec'): CallTiming.from_dict({**CALLS, 'percentiles_sec': {'p50': 1.0}})


def test_what_clients_compute_by_hand():
    value = TimingSample(**PASS)
    for q in (50, 95, 99): assert value.percentile(q) == np.percentile(PASS['per_batch_times'], q)
    assert value.median_sec == 0.2 and value.throughput == 32.0


@pytest.mark.parametrize('n', [1, 2, 3, 10, 101])
def test_percentiles_agree_with_numpy(n):
    samples = list(np.random.default_rng(n).exponential(size=n))
    for q in (0, 1, 12.5, 50, 90, 99, 99.9, 100): assert percentile(samples, q) == np.percentile(samples, q)


def test_percentiles_that_do_not_exist():
    for samples, q in (([], 50), ([1.0], -1), ([1.0], 100.5), ([1.0], float('nan'))):
        with pytest.raises(StatisticsError): percentile(samples, q)


@pytest.mark.parametrize('seconds, text', [(0.9995, '999.50 ms'), (1.0, '1.00 s'), (float('nan'), 'NaN s'), (float('inf'), '∞ s'), (1e-12, '0.001 ns')])
def test_durations_as_text(seconds, text): assert format_seconds(seconds) == text


def test_plot_draws_every_sample():
    pytest.importorskip('matplotlib').use('Agg')
    import matplotlib.pyplot as plt
    figure, axes = CallTiming(**CALLS).plot()
    assert len(axes.lines[0].get_ydata()) == 3 and 'ms' in axes.get_ylabel()
    assert CallTiming(**CALLS).plot(axes=axes)[1] is axes
    plt.close(figure)
