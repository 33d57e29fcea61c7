"Roofline: the arithmetic, what is refused, nothing clamped, what is measured of a function, and the picture."
import dataclasses
import inspect
import json
import math
import pickle
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrax.core.errors import ConfigError, ProfilingError, RecordError
from calibrax.profiling import roofline as module
from calibrax.profiling.flops import FlopsUnavailableError
from calibrax.profiling.hardware import HARDWARE_SPECS, HardwareSpec, UnknownHardwareError
from calibrax.profiling.programs import trace_program
from calibrax.profiling.roofline import RooflineAnalyzer, RooflineResult, plot_roofline, roofline

SPEC = HardwareSpec(name='test', peak_flops=1000.0, memory_bandwidth=100.0, peak_flops_by_dtype={'bfloat16': 1000.0, 'float32': 250.0})
CPU = HardwareSpec(name='a cpu', peak_flops=1e11, memory_bandwidth=2e10, peak_flops_by_dtype={d: 1e11 for d in ('float32', 'bfloat16')})
positive = st.floats(1e-6, 1e18)


@pytest.fixture
def figure():
    plt = pytest.importorskip('matplotlib.pyplot')
    yield plt
    plt.close('all')


# three numbers

@given(flops=positive, moved=positive, seconds=st.floats(1e-9, 1e6))
def test_efficiency_is_what_was_reached_over_what_the_roof_allows(flops, moved, seconds):
    r = roofline(flops, moved, seconds, SPEC)
    assert r.arithmetic_intensity == flops/moved and r.critical_intensity == 10.0
    assert r.attainable_flops == pytest.approx(min(1000.0, 100.0*flops/moved))
    assert r.efficiency == pytest.approx(r.flops_per_sec/r.attainable_flops, rel=1e-9)
    assert r.efficiency == pytest.approx(max(r.memory_bandwidth_utilization, r.flops_utilization), rel=1e-9)
    assert r.bottleneck == ('memory_bandwidth' if r.arithmetic_intensity < 10 else 'compute')
    assert RooflineResult.from_dict(json.loads(r.to_json())) == r == pickle.loads(pickle.dumps(r))


def test_a_point_computed_by_hand():
    r = roofline(4000, 100, 8.0, SPEC, name='f')       # 500 FLOP/s, 12.5 bytes/s, 40 FLOP/byte
    assert (r.flops_utilization, r.memory_bandwidth_utilization, r.efficiency, r.bottleneck) == (0.5, 0.125, 0.5, 'compute')
    assert (r.execution_time_ms, r.hardware, r.name, r.dtype, r.warnings) == (8000.0, 'test', 'f', None, None)
    r = roofline(4000, 100, 8.0, SPEC, dtype=jnp.float32)
    assert (r.critical_intensity, r.efficiency, r.dtype) == (2.5, 2.0, 'float32')


def test_the_ridge_itself_counts_as_compute(): assert roofline(1000, 100, 1, SPEC).bottleneck == 'compute'


@pytest.mark.parametrize('bad', [0, -1, math.nan, math.inf, None, 'many', jnp.ones(2)])
def test_numbers_that_make_no_sense_are_refused(bad):
    for name, numbers in (('bytes_accessed', (1, bad, 1)), ('seconds', (1, 1, bad))):
        with pytest.raises(ConfigError, match=f'{name} must be positive'): roofline(*numbers, SPEC)
    if not (isinstance(bad, int) and bad == 0):
        with pytest.raises(ValueError, match='flops must be at least 0'): roofline(bad, 1, 1, SPEC)


def test_a_copy_does_no_operations():
    r = roofline(0, 50, 1, SPEC)
    assert (r.arithmetic_intensity, r.bottleneck, r.efficiency, r.attainable_flops) == (0, 'memory_bandwidth', 0.5, 0)


def test_numbers_of_jax_and_numpy_are_fine(): assert roofline(np.int64(10), jnp.float32(5), np.float32(1), SPEC).efficiency == 0.05


def test_a_dtype_without_a_known_peak_is_refused():
    with pytest.raises(UnknownHardwareError, match='no peak is known for float64'): roofline(1, 1, 1, SPEC, dtype='float64')


def test_nothing_is_clamped_and_the_reason_is_given():
    r = roofline(1, 1000, 1, SPEC)
    assert r.efficiency == 10.0 and 'cache' in r.warnings[0]
    r = roofline(10_000, 1, 1, SPEC)
    assert r.efficiency == 10.0 and 'of the peak' in r.warnings[0]
    assert roofline(1020, 10, 1, SPEC).warnings is None         # two per cent are noise


def test_warnings_of_the_device_are_passed_on():
    assert roofline(1, 1, 1, dataclasses.replace(SPEC, warnings=('busy',))).warnings == ('busy',)


@pytest.mark.parametrize('efficiency, count, word', [(0.1, 2, 'Below 20 %'), (0.3, 2, 'Between 20 % and 50 %'), (0.5, 1, ''), (0.9, 1, '')])
def test_advice_depends_on_the_efficiency(efficiency, count, word):
    for numbers in ((1000, 10, 1/efficiency), (10, 100, 1/efficiency)):
        r = roofline(*numbers, SPEC)
        assert r.efficiency == pytest.approx(efficiency) and len(r.recommendations) == count and word in r.recommendations[-1]
        assert r.recommendations[0].startswith('Compute-bound' if numbers[0] == 1000 else 'Memory-bound')


# the record

def test_published_results_are_read():
    old = dict(arithmetic_intensity=1.0, critical_intensity=10.0, memory_bandwidth_utilization=0.5, flops_utilization=0.05, bottleneck='memory_bandwidth',
               efficiency=0.5, execution_time_ms=2.0, recommendations=['text'])
    r = RooflineResult.from_dict(old)
    assert r.to_dict() == old and r.flops_per_sec is None and 'memory bandwidth' in repr(r)
    with pytest.raises(ConfigError, match='does not hold the operations'): r.plot()
    with pytest.raises(RecordError): RooflineResult.from_dict({})


def test_display():
    r = roofline(1, 1000, 1, SPEC, dtype='float32', name='<f>')
    assert '<f> on test in float32' in repr(r) and '! 1e+03 %' not in repr(r) and '- Memory-bound' in repr(r)
    assert '&lt;f&gt;' in r._repr_html_() and '<li>' in r._repr_html_() and '⚠' in r._repr_html_()


# a function

def test_the_published_interface():
    assert list(inspect.signature(RooflineAnalyzer.analyze_operation).parameters)[:4] == ['self', 'func', 'inputs', 'flops_override']
    assert list(inspect.signature(RooflineAnalyzer).parameters) == ['hardware_specs']
    with pytest.raises(dataclasses.FrozenInstanceError): RooflineAnalyzer().hardware_specs = SPEC


def test_a_product_is_counted_and_timed():
    x = jnp.ones((64, 64))
    r = RooflineAnalyzer(hardware_specs=CPU).analyze_operation(lambda a, b: a @ b, (x, x), name='product')
    assert r.flops == 2*64**3 and r.bytes_accessed == 3*4*64**2 and r.execution_time_ms > 0
    assert (r.name, r.dtype, r.hardware) == ('product', 'float32', 'a cpu')


def test_loops_count_each_turn():
    def steps(x): return jax.lax.fori_loop(0, 10, lambda i, c: c @ x, x)
    r = RooflineAnalyzer(hardware_specs=CPU).analyze_operation(steps, [jnp.ones((32, 32))])
    assert r.flops == 10*2*32**3 and r.name == 'steps'


def test_what_cannot_be_counted_is_refused_with_the_way_out():
    def settle(x): return jax.lax.while_loop(lambda x: x.max() > 1e-3, lambda x: x*0.5, x)
    analyzer = RooflineAnalyzer(hardware_specs=CPU)
    with pytest.raises(FlopsUnavailableError, match='operations of settle cannot be counted') as e: analyzer.analyze_operation(settle, (jnp.ones(8),))
    assert 'flops_override' in e.value.hint
    assert analyzer.analyze_operation(settle, (jnp.ones(8),), flops_override=100).flops == 100
    with pytest.raises(ConfigError, match='flops_override must be at least 0'): analyzer.analyze_operation(settle, (jnp.ones(8),), flops_override=-1)


def test_bytes_unknown_to_the_compiler_are_a_lower_bound(monkeypatch):
    flops = SimpleNamespace(total_flops=8, unknown=(), flops_by_operation={}, bytes_accessed=None, unavailable={'bytes_accessed': 'for a reason'})
    monkeypatch.setattr('calibrax.profiling.flops.program_flops', lambda program: flops)
    r = RooflineAnalyzer(hardware_specs=CPU).analyze_operation(lambda x: x + 1, (jnp.ones((4, 2)),))
    assert r.bytes_accessed == 64 and 'for a reason' in r.warnings[0]


def test_a_function_without_operations():
    r = RooflineAnalyzer(hardware_specs=CPU).analyze_operation(lambda x: x.T, (jnp.ones((16, 8)),))
    assert r.flops == 0 and r.bottleneck == 'memory_bandwidth' and r.efficiency > 0


def test_donated_arguments_survive_and_are_copied_outside_the_time(monkeypatch):
    x, y = jnp.ones(1000), jnp.ones(1000)
    r = RooflineAnalyzer(hardware_specs=CPU).analyze_operation(jax.jit(lambda a, b: a + b, donate_argnums=0), (x, y))
    assert not x.is_deleted() and r.flops == 1000
    made = []
    monkeypatch.setattr(module, 'time_calls', lambda call, *, setup: made.append(setup()) or call(made[-1]))
    module._timed(trace_program(jax.jit(lambda a: a + 1, donate_argnums=0), (x,)))
    assert made[0][0][0] is not x and made[0][0][0].is_deleted()


def test_a_function_that_raises_is_reported():
    def broken(x): raise ValueError('no such thing')
    with pytest.raises(ProfilingError, match='broken.*no such thing'): RooflineAnalyzer(hardware_specs=CPU).analyze_operation(broken, (jnp.ones(2),))


def test_a_network_and_a_jitted_function():
    from flax import nnx
    layer, x = nnx.Linear(8, 4, rngs=nnx.Rngs(0)), jnp.ones((2, 8))
    analyzer = RooflineAnalyzer(hardware_specs=CPU)
    assert analyzer.analyze_operation(layer, (x,)).flops == analyzer.analyze_operation(jax.jit(lambda k, b, x: x @ k + b), (layer.kernel[...], layer.bias[...], x)).flops


# the device

def test_without_a_device_the_present_one_is_looked_at(monkeypatch):
    asked = []
    monkeypatch.setattr(module, 'resolve_hardware_spec', lambda *, dtype: asked.append(dtype) or CPU)
    analyzer = RooflineAnalyzer()
    assert asked == []
    assert analyzer.analyze_operation(lambda x: x*2, (jnp.ones(4, 'bfloat16'),)).hardware == 'a cpu' and asked == ['bfloat16']


@pytest.mark.parametrize('given', [{'peak_flops': 1e12, 'memory_bandwidth': 1e11, 'critical_intensity': 10.0, 'simd_width': 8},
                                   {'peak_flops': 1e12, 'memory_bandwidth': 1e11, 'tensor_core_shapes': [(16, 16, 16)]}])
def test_older_dicts_are_understood(given):
    r = RooflineAnalyzer(hardware_specs=given).analyze_operation(lambda a: a @ a, (jnp.ones((8, 8)),))
    assert r.critical_intensity == 10.0 and r.hardware == 'given'


def test_a_name_or_nonsense_for_a_device():
    one = (jnp.ones((8, 8), 'bfloat16'),)
    assert RooflineAnalyzer(hardware_specs='tpu_v5e').analyze_operation(lambda a: a @ a, one).hardware == 'tpu_v5e'
    with pytest.raises(UnknownHardwareError, match='did you mean'): RooflineAnalyzer(hardware_specs='h100x').analyze_operation(lambda a: a @ a, one)
    with pytest.raises(ConfigError, match='memory_bandwidth'): RooflineAnalyzer(hardware_specs={'peak_flops': 1e12}).analyze_operation(lambda a: a @ a, one)
    with pytest.raises(ConfigError, match='must be a HardwareSpec'): RooflineAnalyzer(hardware_specs=3).analyze_operation(lambda a: a @ a, one)


def dtype_of(fn, *args): return module._computing_dtype(trace_program(fn, args))

def test_the_dtype_is_that_of_most_data():
    table, ids = jnp.ones((100, 8), 'bfloat16'), jnp.zeros(1000, int)
    assert dtype_of(lambda t, i: t[i], table, ids) == 'bfloat16'
    assert dtype_of(lambda a, b: a @ b, jnp.ones((8, 8)), jnp.ones((8, 2), 'bfloat16')) == 'float32'
    assert dtype_of(lambda i: i.astype('float16'), ids) == 'float16'
    assert dtype_of(lambda i: i + 1, ids) == 'float32' and dtype_of(lambda z: z*2, jnp.ones(4, 'complex64')) == 'float32'
    assert dtype_of(lambda k: jax.random.normal(k, (4,)), jax.random.key(0)) == 'float32'


def test_products_are_done_in_a_narrower_type_where_they_are(monkeypatch):
    a100, t4, tpu = HARDWARE_SPECS['a100_sxm4_40gb'], HARDWARE_SPECS['t4'], HARDWARE_SPECS['tpu_v4']
    assert module._multiplied_in('float32', a100, True) == 'tensorfloat32' and module._multiplied_in('float32', a100, False) == 'float32'
    assert module._multiplied_in('float32', t4, True) == 'float32' and module._multiplied_in('float32', HARDWARE_SPECS['mi300x'], True) == 'float32'
    assert module._multiplied_in('float32', tpu, True) == 'bfloat16' and module._multiplied_in('bfloat16', a100, True) == 'bfloat16'
    for exact in ('highest', 'float32'):
        with jax.default_matmul_precision(exact): assert module._multiplied_in('float32', a100, True) == 'float32'
    x = jnp.ones((8, 8))
    analyzer = RooflineAnalyzer(hardware_specs=a100)
    assert analyzer.analyze_operation(lambda a: a @ a, (x,)).dtype == 'tensorfloat32'
    assert analyzer.analyze_operation(lambda a: a @ a, (x,), dtype='float32').dtype == 'float32'
    assert analyzer.analyze_operation(lambda a: a + a, (x,)).dtype == 'float32'


@pytest.mark.parametrize('last, word', [(128, None), (256, None), (96, '32 but not of 128'), (24, 'a multiple of 8 only'), (100, 'no multiple of 8')])
def test_alignment_matters_where_there_are_matrix_units(last, word):
    program = trace_program(lambda a: a @ a.T, (jnp.ones((4, last), 'bfloat16'),))
    found = module._alignment(program, HARDWARE_SPECS['h100'])
    assert (word in found[0] and f'pad it to {-(-last//128)*128}' in found[0]) if word else found == ()
    assert module._alignment(program, CPU) == ()


def test_the_worst_alignment_is_named_and_vectors_do_not_count():
    program = trace_program(lambda a, b, c: (a, b, c), (jnp.ones((4, 32)), jnp.ones((4, 7)), jnp.ones(3)))
    assert '(4, 7)' in module._alignment(program, HARDWARE_SPECS['h100'])[0]
    assert module._alignment(trace_program(lambda c: c, (jnp.ones(3),)), HARDWARE_SPECS['h100']) == ()


def test_several_devices_share_the_work(monkeypatch):
    monkeypatch.setattr('calibrax.profiling.flops._devices', lambda compiled: 4)
    r = RooflineAnalyzer(hardware_specs=CPU).analyze_operation(lambda a: a @ a, (jnp.ones((8, 8)),))
    assert r.flops == 2*8**3/4 and any('4 devices' in w for w in r.warnings)


# the picture

def test_the_picture_has_units_ridge_and_every_point(figure):
    results = [roofline(10**k, 10, 1, SPEC, name=f'point {k}', dtype='bfloat16') for k in range(4)]
    drawn, axes = plot_roofline(results, SPEC)
    drawn.canvas.draw()
    assert (axes.get_xscale(), axes.get_yscale()) == ('log', 'log')
    assert 'FLOP/byte' in axes.get_xlabel() and 'GFLOP/s' in axes.get_ylabel()
    texts = [t.get_text() for t in axes.texts]
    assert any('ridge' in t for t in texts) and any('GB/s' in t for t in texts) and any('float32' in t for t in texts)
    legend = [t.get_text() for t in axes.get_legend().get_texts()]
    assert len(legend) == 4 and all('% of the roof' in t for t in legend)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for r in results: assert left < r.arithmetic_intensity < right and bottom < r.flops_per_sec/1e9 < top


def test_labels_of_ceilings_do_not_meet(figure):
    near = HardwareSpec(name='x', peak_flops=1e14, memory_bandwidth=1e12, peak_flops_by_dtype={'a': 1e14, 'b': 1.01e14, 'c': 1.02e14, 'd': 1e14})
    drawn, axes = plot_roofline(roofline(1, 1, 1e-12, near), near)
    drawn.canvas.draw()
    boxes = [t.get_window_extent() for t in axes.texts if 'TFLOP/s' in t.get_text()]
    assert len(boxes) == 3 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_points_without_operations_are_listed(figure):
    _, axes = plot_roofline([roofline(0, 10, 1, SPEC, name='copy'), roofline(10, 10, 1, SPEC)], SPEC)
    assert 'copy: 10 % of the roof, no operations' in [t.get_text() for t in axes.get_legend().get_texts()]


def test_drawing_on_given_axes_and_nothing_at_all(figure):
    _, axes = figure.subplots()
    assert plot_roofline([], SPEC, axes)[1] is axes and axes.get_legend() is None
    r = roofline(4000, 100, 8.0, SPEC, dtype='float32', name='f')
    assert r.plot(axes)[1] is axes and r.plot(axes=axes, spec=SPEC)[1] is axes


def test_a_result_remembers_its_roof():
    spec = roofline(4000, 100, 8.0, SPEC, dtype='float32')._spec()
    assert (spec.peak_flops, spec.memory_bandwidth, spec.name) == (pytest.approx(250.0), pytest.approx(100.0), 'test')


def test_inputs_are_a_list_of_arguments():
    for wrong in (jnp.ones((3, 3)), np.ones(3), {'x': 1}, None):
        with pytest.raises(ConfigError, match='inputs must be a list'): RooflineAnalyzer(hardware_specs=CPU).analyze_operation(jnp.tanh, wrong)
