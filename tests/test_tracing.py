"""Traces: taking them, what goes wrong, and reading files of every kind of device."""
import dataclasses
import os
import random
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from calibrax.core.errors import CalibraxError, ConfigError, ProfilingError
from calibrax.core.models import Point, Run
from calibrax.profiling import tracing
from calibrax.profiling.tracing import TraceLinker, TraceReference, TraceSummary, summarize_trace


# ---- a writer of the wire format, so that the reader is not tested with itself

def number(value):
    out = bytearray()
    while value > 127: out.append(value & 127 | 128); value >>= 7
    return bytes(out) + bytes([value])

def put(field, value):
    if isinstance(value, int): return number(field << 3) + number(value)
    value = value.encode() if isinstance(value, str) else value
    return number(field << 3 | 2) + number(len(value)) + value

class PlaneWriter:
    "A plane with lines of events `(name, begin_ps, duration_ps, stats)`"
    def __init__(self, name): self.name, self.lines, self.names, self.stats, self.shared = name, [], {}, {}, {}

    def id(self, table, name): return table.setdefault(name, len(table) + 1)

    def stat(self, key, value):
        return put(1, self.id(self.stats, key)) + (put(3, value) if isinstance(value, int) else put(6, value) if isinstance(value, bytes) else put(7, self.id(self.stats, value)))

    def line(self, name, events, timestamp_ns=0):
        body = bytearray(put(2, name) + put(3, timestamp_ns))
        for event, begin, duration, stats in events:
            body += put(4, put(1, self.id(self.names, event)) + put(2, begin) + put(3, duration) + b''.join(put(4, self.stat(k, v)) for k, v in stats.items()))
        self.lines.append(bytes(body))
        return self

    def describe(self, event, **stats):
        self.id(self.names, event)
        self.shared[event] = stats
        return self

    def bytes(self):
        shared = {e: b''.join(put(5, self.stat(k, v)) for k, v in s.items()) for e, s in self.shared.items()}
        names = b''.join(put(4, put(1, i) + put(2, put(1, i) + put(2, n) + shared.get(n, b''))) for n, i in self.names.items())
        stats = b''.join(put(5, put(1, i) + put(2, put(1, i) + put(2, n))) for n, i in self.stats.items())
        return put(2, self.name) + b''.join(put(3, line) for line in self.lines) + names + stats

def write(folder, *planes, host='h', session='2026_01_01_00_00_00', messages=()):
    path = folder/'plugins'/'profile'/session/f'{host}.xplane.pb'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b''.join(put(1, p.bytes()) for p in planes) + b''.join(put(3, m) for m in messages))
    return path

def program(**instructions):
    "A compiled program: instruction → (opcode, scope)"
    body = b''.join(put(2, put(1, name) + put(2, opcode) + (put(7, put(2, scope) + put(15, 2)) if scope else b'')) for name, (opcode, scope) in instructions.items())
    frames = (put(1, '/home/me/model.py') + put(1, '/v/lib/site-packages/flax/linear.py')
              + put(3, put(1, 1) + put(3, 12)) + put(3, put(1, 2) + put(3, 99)) + put(4, put(1, 1)) + put(4, put(1, 2) + put(2, 1)))
    return put(1, put(1, 'jit_f') + put(3, body) + put(17, frames))

def by_name(summary): return {o.name: o for o in summary.operations}
US = 10**6


# ---- files of devices

def gpu(index=0):
    kernel = {'hlo_op': 'gemm.1', 'hlo_module': 'jit_f', 'correlation_id': 7}
    return (PlaneWriter(f'/device:GPU:{index}')
            .line('Stream #13(Compute)', [('sm90_gemm', 0, 50*US, kernel), ('splitk', 50*US, 10*US, kernel), ('loop_fusion', 70*US, 20*US, {'hlo_op': 'loop_fusion', 'hlo_module': 'jit_f'})])
            .line('Stream #14(MemcpyH2D)', [('MemcpyH2D', 20*US, 40*US, {'memcpy_details': 'x'})])
            .line('XLA Ops', [('gemm.1', 0, 60*US, kernel)])
            .line('XLA Modules', [('jit_f', 0, 90*US, {})]))

def metadata(name='jit_f(5)', **instructions):
    return PlaneWriter('/host:metadata').describe(name, hlo_proto=program(**(instructions or {'gemm.1': ('custom-call', 'jit(f)/dot_general')})))

def test_gpu(tmp_path):
    write(tmp_path, metadata(), gpu())
    summary = summarize_trace(tmp_path)
    ops = by_name(summary)
    gemm = ops['gemm.1']
    assert (gemm.calls, gemm.self_sec, gemm.category, gemm.scope, gemm.source, gemm.devices) == (
        2, pytest.approx(60e-6), 'custom-call', 'jit(f)/dot_general', '/home/me/model.py:12', ('GPU:0',))
    assert ops['MemcpyH2D'].category == 'memcpy' and ops['MemcpyH2D'].program == ''
    assert set(ops) == {'gemm.1', 'loop_fusion', 'MemcpyH2D'}      # nothing of the derived lines
    assert summary.busy_sec == pytest.approx(120e-6) and summary.span_sec == pytest.approx(90e-6)      # streams overlap
    assert sum(o.share for o in summary.operations) == pytest.approx(1)
    assert summary.categories['custom-call'] == pytest.approx(60e-6)

def test_gpu_without_streams_reads_the_derived_line(tmp_path):
    write(tmp_path, PlaneWriter('/device:GPU:0').line('XLA Ops', [('fusion', 0, 5, {'hlo_op': 'fusion'})]).line('XLA Modules', [('jit_f', 0, 9, {})]))
    assert list(by_name(summarize_trace(tmp_path))) == ['fusion']

def test_tpu(tmp_path):
    loop, dot = '%while.1 = (s32[]) while(…)', '%fusion.2 = f32[8]{0} fusion(…), kind=kOutput'
    plane = (PlaneWriter('/device:TPU:1')
             .describe(loop, hlo_category='while', program_id=5)
             .describe(dot, hlo_category='convolution fusion', tf_op='jit(f)/while/body/dot_general:', source='/home/me/model.py:3', program_id=5)
             .line('XLA Modules', [('jit_f(5)', 0, 100*US, {})])
             .line('XLA Ops', [(loop, 0, 100*US, {}), (dot, 10*US, 30*US, {}), (dot, 50*US, 30*US, {})], timestamp_ns=3)
             .line('Async XLA Ops', [('copy-start', 0, 90*US, {})]))
    write(tmp_path, metadata(), plane)
    summary = summarize_trace(tmp_path)
    ops = by_name(summary)
    assert set(ops) == {'while.1', 'fusion.2'}
    assert ops['fusion.2'].category == 'convolution fusion' and ops['fusion.2'].scope == 'jit(f)/while/body/dot_general'
    assert ops['fusion.2'].source == '/home/me/model.py:3' and ops['fusion.2'].program == 'jit_f' and ops['fusion.2'].devices == ('TPU:1',)
    assert ops['while.1'].total_sec == pytest.approx(100e-6) and ops['while.1'].self_sec == pytest.approx(40e-6)
    assert summary.busy_sec == pytest.approx(100e-6) == summary.span_sec

def test_cpu_end_marks_extend_the_total(tmp_path):
    stats = {'hlo_op': 'while', 'hlo_module': 'jit_f', 'program_id': 5}
    plane = (PlaneWriter('/host:CPU')
             .line('worker', [('end: while', 80*US, 0, {'_c': 1}), ('end: nobody', 90*US, 0, {'_c': 2})])
             .line('client', [('while', 0, 30*US, {**stats, '_p': 1}), ('dot', 5*US, 10*US, {'hlo_op': 'dot', 'hlo_module': 'jit_f', '_p': 9}), ('end: dot', 15*US, 1, {'_c': 9}),
                              ('$main.py:1 f', 0, 500*US, {}), ('PjRtCpuClient::Compile', 0, 400*US, {})]))
    write(tmp_path, plane)
    summary = summarize_trace(tmp_path)
    ops = by_name(summary)
    assert ops['while'].self_sec == pytest.approx(20e-6) and ops['while'].total_sec == pytest.approx(80e-6)
    assert ops['dot'].self_sec == ops['dot'].total_sec == pytest.approx(10e-6)
    assert summary.other_events == 2 and summary.devices.keys() == {'CPU'}
    assert summary.span_sec == pytest.approx(80e-6)

def test_several_hosts_devices_and_messages(tmp_path):
    write(tmp_path, gpu(0), gpu(1), host='a', messages=['dropped 3 events'])
    write(tmp_path, gpu(0), host='b')
    write(tmp_path, gpu(0), host='a', session='2025_12_31_23_59_59')       # an older one
    summary = summarize_trace(tmp_path)
    assert set(summary.devices) == {'a/GPU:0', 'a/GPU:1', 'b/GPU:0'} and by_name(summary)['gemm.1'].calls == 6
    assert summary.session == '2026_01_01_00_00_00' and summary.span_sec == pytest.approx(90e-6)
    assert summary.warnings == ('a/dropped 3 events',)
    text = repr(summary)
    assert 'dropped 3 events' in text and 'a/GPU:1' in text and 'not told' not in text.split('\n')[0]
    older = TraceReference(trace_dir=str(tmp_path), session='2025_12_31_23_59_59')
    assert by_name(summarize_trace(older))['gemm.1'].calls == 2

@pytest.mark.parametrize('event_says, known, category', [
    ({'program_id': 5, 'hlo_module': 'jit_f'}, {'jit_f(5)': 'dot'}, 'dot'),
    ({'program_id': 5}, {'jit_f(5)': 'dot'}, 'dot'),
    ({'program_id': 5}, {'jit_f(4)': 'dot'}, ''),
    ({'program_id': 5, 'hlo_module': 'jit_f'}, {'jit_g(5)': 'dot'}, ''),                    # the number alone proves nothing
    ({'program_id': 5, 'hlo_module': 'jit_f'}, {'jit_f(9)': 'dot'}, 'dot'),                 # from the compilation cache
    ({'program_id': 5, 'hlo_module': 'jit_f'}, {'jit_f(8)': 'dot', 'jit_f(9)': 'dot'}, 'dot'),
    ({'program_id': 5, 'hlo_module': 'jit_f'}, {'jit_f(8)': 'dot', 'jit_f(9)': 'copy'}, ''),
])
def test_programs_are_named_only_when_certain(tmp_path, event_says, known, category):
    plane = PlaneWriter('/host:metadata')
    for name, opcode in known.items(): plane.describe(name, hlo_proto=program(op=(opcode, '')))
    write(tmp_path, plane, PlaneWriter('/host:CPU').line('t', [('op', 0, 5, {'hlo_op': 'op', **event_says})]))
    operation, = summarize_trace(tmp_path).operations
    assert operation.category == category and operation.source == ''

def test_versions_of_one_program_stay_apart(tmp_path):
    write(tmp_path, PlaneWriter('/host:CPU').line('t', [('dot', i*10, 5, {'hlo_op': 'dot', 'hlo_module': 'jit_f', 'program_id': i % 2}) for i in range(5)]))
    assert sorted(o.calls for o in summarize_trace(tmp_path).operations) == [2, 3]

def test_self_times_add_up_to_the_union():
    rng = random.Random(0)
    for _ in range(300):
        events = []
        def nest(begin, end, depth):
            at = begin
            while at < end and rng.random() < 0.7:
                b = rng.randint(at, end); d = rng.randint(0, end - b)
                events.append((b, d))
                if depth: nest(b, b + d, depth - 1)
                at = b + d
        nest(0, 1000, 3)
        events.sort(key=lambda e: (e[0], -e[1]))
        covered = set()
        for b, d in events: covered.update(range(b, b + d))
        own = tracing._self_times(events)
        assert sum(own) == len(covered) and all(x >= 0 for x in own)


# ---- damage

def test_every_cut_and_many_flips_give_a_trace_or_a_clear_error(tmp_path):
    path = write(tmp_path, metadata(), gpu())
    whole, rng = path.read_bytes(), random.Random(1)
    damaged = [whole[:n] for n in range(0, len(whole), 3)]
    for _ in range(400):
        flipped = bytearray(whole)
        for _ in range(rng.randint(1, 4)): flipped[rng.randrange(len(flipped))] = rng.randrange(256)
        damaged.append(bytes(flipped))
    for data in damaged:
        path.write_bytes(data)
        try: summarize_trace(tmp_path)
        except ProfilingError as e: assert path.name in e.message and e.hint

@pytest.mark.parametrize('content, says', [(b'', 'is empty'), (b'hello, this is no trace', 'cut off, or not a trace'), (put(1, b''), 'no operation was recorded')])
def test_no_trace_at_all(tmp_path, content, says):
    path = tmp_path/'x.xplane.pb'
    path.write_bytes(content)
    with pytest.raises(ProfilingError, match=says) as e: summarize_trace(path)
    assert str(path) in e.value.message

def test_unreadable(tmp_path):
    with pytest.raises(ProfilingError, match='no such folder'): summarize_trace(tmp_path/'none')
    with pytest.raises(ProfilingError, match='it is written when the traced block ends|no file plugins'): summarize_trace(tmp_path)
    (tmp_path/'x.xplane.pb').mkdir()
    with pytest.raises(ProfilingError, match='cannot read'): summarize_trace(tmp_path)
    for top in (0, -1):
        with pytest.raises(ConfigError, match='top must be >= 1'): summarize_trace(tmp_path, top=top)


# ---- references

def test_reference_survives_a_move(tmp_path):
    store = tmp_path/'store'
    write(store/'traces'/'r', gpu())
    run = TraceReference(trace_dir=str(store/'traces'/'r')).attach(Run(id='r', points=()), base=store)
    assert run.metadata['trace'] == {'trace_dir': 'traces/r', 'run_id': 'r'}
    store.rename(tmp_path/'moved')
    reference = TraceReference.of(Run.from_json(run.to_json()), base=tmp_path/'moved')
    assert reference.files == ('plugins/profile/2026_01_01_00_00_00/h.xplane.pb',) and reference.run_id == 'r'
    assert summarize_trace(reference).num_operations == 3

def test_attach(tmp_path):
    run = Run(id='r', points=(Point(name='p', scenario='s'),), metadata={'other': 1})
    reference = TraceReference(trace_dir='t')
    attached = reference.attach(run)
    assert run.metadata == {'other': 1} and attached.metadata['other'] == 1 and attached.points == run.points and attached.id == run.id
    assert reference.attach(attached) == attached and TraceReference.of(run) is None
    with pytest.raises(ConfigError, match='another trace'): TraceReference(trace_dir='u').attach(attached)
    with pytest.raises(ConfigError, match='belongs to run x'): TraceReference(trace_dir='t', run_id='x').attach(run)
    with pytest.raises(CalibraxError): TraceReference.of(dataclasses.replace(run, metadata={'trace': {'run_id': 'r'}}))
    assert TraceReference.from_dict({'trace_dir': 'a', 'run_id': None}) == TraceReference(trace_dir='a')       # as published


# ---- real traces

@pytest.fixture(scope='module')
def jitted():
    jax = pytest.importorskip('jax')
    def traced_recurrence(x): return jax.lax.scan(lambda c, _: (jax.numpy.tanh(c @ c), None), x, None, length=4)[0]
    f = jax.jit(traced_recurrence)      # a name that no other test uses: see _Programs
    x = jax.numpy.eye(64)
    f(x).block_until_ready()
    return f, x

def test_a_real_trace(tmp_path, jitted):
    f, x = jitted
    with TraceLinker().trace(tmp_path, run_id='r', create_perfetto_trace=True) as reference:
        assert reference.files == ()
        kept = [f(x) for _ in range(3)]     # not waited for here
    assert reference.run_id == 'r' and reference.trace_dir == str(tmp_path)
    assert any(name.endswith('/perfetto_trace.json.gz') for name in reference.files) and len(kept) == 3
    assert not [p for p in tmp_path.iterdir() if p.name != 'plugins']
    summary = summarize_trace(reference, top=100)
    loop = [o for o in summary.operations if o.category == 'while']
    assert [o.calls for o in loop] == [3] and loop[0].total_sec > loop[0].self_sec
    tanh = [o for o in summary.operations if o.scope.endswith('/tanh')]
    assert tanh and tanh[0].calls == 12 and Path(tanh[0].source.rsplit(':', 1)[0]).name == 'test_tracing.py'
    assert summary.busy_sec == pytest.approx(sum(o.self_sec for o in summary.operations)) and summary.other_events > 0
    assert TraceSummary.from_json(summary.to_json()) == summary
    assert '<table>' in summary._repr_html_() and summary.plot()[1].patches

def test_same_events_as_jax_reads(tmp_path, jitted):
    from jax import profiler
    if not hasattr(profiler, 'ProfileData'): pytest.skip('this JAX does not read traces')
    f, x = jitted
    with TraceLinker().trace(tmp_path) as reference:
        for _ in range(20): result = f(x)
    calls, others = {}, 0
    path = next(tmp_path.glob('plugins/profile/*/*.xplane.pb'))
    for plane in profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                stats = dict(event.stats)
                if 'hlo_op' not in stats: others += not event.name.startswith('end: ')
                else: calls[stats['hlo_op']] = calls.get(stats['hlo_op'], 0) + 1
    summary = summarize_trace(reference, top=1000)
    assert result.shape and {o.name: o.calls for o in summary.operations} == calls and summary.other_events == others

def test_two_traces_at_once_in_one_folder_do_not_replace_each_other(tmp_path, jitted):
    f, x = jitted
    references = []
    for n in (1, 2, 3):
        with TraceLinker().trace(tmp_path) as reference:
            for _ in range(n): f(x).block_until_ready()
        references.append(reference)
    def loops(reference): return next(o.calls for o in summarize_trace(reference, top=99).operations if o.category == 'while')
    assert [loops(r) for r in references] == [1, 2, 3] and loops(TraceReference(trace_dir=str(tmp_path))) == 3

class Mine(BaseException): pass

@pytest.mark.parametrize('error', [ValueError('mine'), KeyboardInterrupt(), SystemExit(3), Mine(), StopIteration('x')])
def test_exceptions_of_the_block_go_on_unchanged(tmp_path, jitted, error):
    f, x = jitted
    with pytest.raises(type(error)) as caught:
        with TraceLinker().trace(tmp_path) as reference:
            f(x).block_until_ready()
            raise error
    assert caught.value is error and error.__cause__ is None
    assert summarize_trace(reference).operations                # the trace was stopped and kept
    with TraceLinker().trace(tmp_path): pass                    # and the next one can begin

def test_one_at_a_time(tmp_path):
    import jax
    with TraceLinker().trace(tmp_path/'outer') as outer:
        with pytest.raises(ProfilingError, match='running in this process already') as e:
            with TraceLinker().trace(tmp_path/'inner'): raise AssertionError('must not run')
        failures = []
        def elsewhere():
            try:
                with TraceLinker().trace(tmp_path/'thread'): pass
            except ProfilingError as error: failures.append(error)
        thread = threading.Thread(target=elsewhere); thread.start(); thread.join()
    assert 'stop_trace' in e.value.hint and len(failures) == 1 and outer.files
    assert not list((tmp_path/'inner').rglob('*.pb')) and not list((tmp_path/'inner'/'plugins'/'profile').iterdir())
    jax.profiler.start_trace(str(tmp_path/'jax'))
    try:
        with pytest.raises(ProfilingError, match='running'):
            with TraceLinker().trace(tmp_path): pass
    finally: jax.profiler.stop_trace()

def test_folders_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path/'file').write_text('')
    for path in (tmp_path/'file', tmp_path/'file'/'below'):
        with pytest.raises(ProfilingError, match='no folder'):
            with TraceLinker().trace(path): raise AssertionError('must not run')
    def denied(*args, **kwargs): raise PermissionError(13, 'Permission denied')
    monkeypatch.setattr(Path, 'mkdir', denied)
    with pytest.raises(ProfilingError, match='Permission denied'):
        with TraceLinker().trace(tmp_path): pass
    with pytest.raises(ConfigError, match='local folder'):
        with TraceLinker().trace('gs://bucket/x'): pass

class FakeTrace:
    def __init__(self, writes, fails): self.writes, self.fails = writes, fails
    def __call__(self, folder, **kwargs):
        self.folder = Path(folder)
        return self
    def __enter__(self):
        if self.fails == 'start': raise RuntimeError('no backend')
    def __exit__(self, *args):
        if self.writes:
            (self.folder/'plugins/profile/x').mkdir(parents=True)
            (self.folder/'plugins/profile/x/h.xplane.pb').write_bytes(b'x')
        if self.fails: raise RuntimeError(self.fails)

@pytest.mark.parametrize('writes, fails, says', [(False, '', 'wrote nothing'), (False, 'No profile started', 'No profile started'), (True, 'No profile started', ''),
                                                 (True, 'port in use', 'port in use'), (False, 'start', 'could not be started: no backend')])
def test_a_profiler_that_fails(tmp_path, monkeypatch, caplog, writes, fails, says):
    import jax
    monkeypatch.setattr(jax.profiler, 'trace', FakeTrace(writes, fails))
    def trace(raises=None):
        with TraceLinker().trace(tmp_path) as reference:
            if raises: raise raises
        return reference
    if says:
        with pytest.raises(ProfilingError, match=says): trace()
        if fails != 'start':
            with pytest.raises(KeyError): trace(KeyError())
            assert says in caplog.text
    else: assert len(trace().files) == 1
    assert len(list(tmp_path.rglob('*.pb'))) == (0 if not writes else 2 if says else 1)
    assert not list(tmp_path.glob('.tmp-*'))

def test_module_and_reading_need_no_jax(tmp_path):
    write(tmp_path, metadata(), gpu())
    code = f"""
        import sys
        from calibrax.profiling.tracing import summarize_trace
        assert len(summarize_trace({str(tmp_path)!r}).operations) == 3
        print(sorted(set(sys.modules) & {{'jax', 'flax', 'matplotlib', 'numpy'}}))"""
    out = subprocess.run([sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, timeout=120, env={**os.environ})
    assert out.returncode == 0, out.stderr
    assert not set(eval(out.stdout)) & {'jax', 'flax', 'matplotlib'}

def test_large_file_in_little_time_and_memory(tmp_path):
    import time
    import tracemalloc
    plane = PlaneWriter('/device:GPU:0').line('Stream #1', [(f'kernel{i % 50}', i*10, 9, {'hlo_op': f'op{i % 50}', 'hlo_module': 'jit_f', 'correlation_id': i}) for i in range(50_000)])
    path = write(tmp_path, plane)
    start = time.process_time()
    summary = summarize_trace(tmp_path, top=5)
    assert time.process_time() - start < 10 and summary.busy_sec == pytest.approx(50_000*9e-12)
    tracemalloc.start()
    summarize_trace(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 2*path.stat().st_size + 50_000*400
    tracemalloc.stop()
