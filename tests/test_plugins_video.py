"VMAF: which ffmpeg, what it is asked, what it says, and how failures read; with a stand-in for ffmpeg, and a real one where there is one."
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from calibrax.core.errors import CalibraxError, MetricError
from calibrax.metrics.plugins import video as V

if os.name == 'nt': pytest.skip('the stand-in is a script for POSIX', allow_module_level=True)

STAND_IN = '''#!{python}
import json, sys, time
from pathlib import Path
arguments = sys.argv[1:]
if '-filters' in arguments:
    print('Filters:\\n ... = command\\n .. {libvmaf}           VV->V      Calculate.\\n .. vmafmotion        V->V       Motion.')
    sys.exit()
Path({seen!r}).write_text(json.dumps({{'arguments': arguments, 'cwd': str(Path.cwd()), 'files': sorted(p.name for p in Path.cwd().iterdir())}}))
time.sleep({seconds})
if {says!r}: print({says!r}, file=sys.stderr); sys.exit(234)
if {log!r}: Path('vmaf.json').write_text({log!r})
for name, count in zip(('reference.frames', 'distorted.frames'), {counts}): Path(name).write_text('#tb 0: 1/25\\n' + '0, 0, 0, 1, 9, 0x1\\n'*count)
'''
LOG = json.dumps({'version': '3.0.0', 'frames': [{'frameNum': i, 'metrics': {'vmaf': s}} for i, s in ((1, 60.), (0, 90.), (2, 30.))]})

@pytest.fixture
def stand_in(tmp_path):
    "Makes a program that passes for ffmpeg and notes what it was asked"
    def make(libvmaf='libvmaf', says='', log=LOG, seconds=0, counts=(3, 3), name='ffmpeg'):
        folder = tmp_path/'bin'; folder.mkdir(exist_ok=True)
        program, seen = folder/name, tmp_path/'seen.json'
        program.write_text(STAND_IN.format(python=sys.executable, libvmaf=libvmaf, says=says, log=log, seconds=seconds, counts=counts, seen=str(seen)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        V._has_libvmaf.cache_clear()
        make.seen = lambda: json.loads(seen.read_text())
        return program
    return make

@pytest.fixture
def clips(tmp_path):
    "Two files with names that are hard to quote"
    paths = [tmp_path/"it's a: [reference], 1;.mp4", tmp_path/'-b=c\\d %d.mp4']
    for p in paths: p.write_bytes(b'x')
    return paths


# --- what the published version raised -------------------------------------------------------------------------------------

def test_missing_inputs(tmp_path, clips):
    for pair in ((tmp_path/'no.mp4', clips[1]), (clips[0], str(tmp_path/'no.mp4')), (tmp_path, clips[1])):
        with pytest.raises(FileNotFoundError) as e: V.vmaf_score(*pair)
        assert isinstance(e.value, CalibraxError) and e.value.hint

def test_no_ffmpeg(monkeypatch, clips):
    monkeypatch.setenv('PATH', '/nowhere'); monkeypatch.setitem(sys.modules, 'imageio_ffmpeg', None)
    with pytest.raises(RuntimeError, match='no ffmpeg on the PATH; imageio-ffmpeg is not installed') as e: V.vmaf_score(*clips)
    assert isinstance(e.value, MetricError) and 'calibrax[image]' in e.value.hint and len(e.value.details['tried']) == 2

def test_failure_is_told_in_ffmpegs_words(stand_in, clips):
    program = stand_in(says='[Parsed_libvmaf_4 @ 0x7f3c90003f40] input width must match.\n[fc#0 @ 0x55a7df34d100] Error reinitializing filters!')
    with pytest.raises(RuntimeError, match='code 234: input width must match. | Error reinit') as e: V.vmaf_score(*clips, ffmpeg=program)
    assert 'size=' in e.value.hint and '0x7f' not in e.value.message and e.value.details['command'][0] == str(program)

@pytest.mark.parametrize('log', ['', 'nonsense', '{}', '{"frames": []}', '{"frames": [{"frameNum": 0, "metrics": {"psnr": 3}}]}', '[1]'])
def test_a_bad_log(stand_in, clips, log):
    with pytest.raises(ValueError): V.vmaf_score(*clips, ffmpeg=stand_in(log=log))


# --- the call -------------------------------------------------------------------------------------------------------------

def test_names_never_reach_the_filter(stand_in, clips, tmp_path):
    model = tmp_path/"m'o:d,e[l].json"; model.write_text('{}')
    assert V.vmaf_score(*clips, ffmpeg=stand_in(), model=model) == 60
    seen = stand_in.seen()
    arguments = seen['arguments']
    inputs = [arguments[i + 1] for i, a in enumerate(arguments) if a == '-i']
    assert inputs == [f'file:{clips[1]}', f'file:{clips[0]}']           # libvmaf takes the distorted one first
    graph = arguments[arguments.index('-filter_complex') + 1]
    assert 'log_path=vmaf.json' in graph and graph.endswith('model=path=model.json') and "it's" not in graph and 'm\'o' not in graph
    assert 'model.json' in seen['files'] and not Path(seen['cwd']).exists()   # nothing is left behind

def test_options(stand_in, clips):
    V.vmaf_score(*clips, ffmpeg=stand_in(), model='vmaf_v0.6.1neg', size=(1920, 1080), threads=3)
    graph = stand_in.seen()['arguments'][stand_in.seen()['arguments'].index('-filter_complex') + 1]
    assert graph.count('scale=1920:1080') == 2 and 'n_threads=3' in graph and graph.endswith('model=version=vmaf_v0.6.1neg')
    for model in ('no such.json', 'x:y', 'a/b', 'vmaf.json'):
        with pytest.raises(FileNotFoundError, match='model'): V.vmaf_score(*clips, ffmpeg=stand_in(), model=model)
    for size in ((0, 3), (3,), 'big', (1.5, 2)):
        with pytest.raises(MetricError, match='size'): V.vmaf_score(*clips, ffmpeg=stand_in(), size=size)

def test_report(stand_in, clips):
    report = V.vmaf_report(*clips, ffmpeg=stand_in(), model='vmaf_v0.6.1')
    assert report.scores == (90, 60, 30) and report.mean == 60 and report.minimum == 30 and report.model == 'vmaf_v0.6.1' and report.version == '3.0.0'
    assert report.harmonic_mean == pytest.approx(3/(1/91 + 1/61 + 1/31) - 1) and V.VMAFReport.from_json(report.to_json()) == report

def test_relative_names_and_a_home(stand_in, clips, monkeypatch):
    monkeypatch.chdir(clips[0].parent); monkeypatch.setenv('HOME', str(clips[0].parent))
    assert V.vmaf_score(clips[0].name, f'~/{clips[1].name}', ffmpeg=stand_in()) == 60
    assert f'file:{clips[0]}' in stand_in.seen()['arguments'] and f'file:{clips[1]}' in stand_in.seen()['arguments']

def test_different_lengths_are_noticed(stand_in, clips):
    program = stand_in(counts=(9, 3))
    with pytest.raises(MetricError, match='reference has 9 frames, distorted has 3'): V.vmaf_score(*clips, ffmpeg=program)
    assert V.vmaf_score(*clips, ffmpeg=program, shortest=True) == 60

def test_it_is_given_up_in_time(stand_in, clips):
    program, began = stand_in(seconds=30), time.perf_counter()
    with pytest.raises(RuntimeError, match='longer than 0.5 seconds'): V.vmaf_score(*clips, ffmpeg=program, timeout=.5)
    assert time.perf_counter() - began < 10

def test_arrays(stand_in, clips):
    frames = np.zeros((3, 8, 6, 3), np.uint8)
    assert V.vmaf_score(frames, frames[..., 0], ffmpeg=stand_in()) == 60
    text = ' '.join(stand_in.seen()['arguments'])
    assert text.count('-video_size 6x8') == 2 and text.count('rgb24') == 1 and text.count('gray') == 1
    for bad in (frames.astype(np.float32), frames[0, 0], frames[:0], frames[..., :2]):
        with pytest.raises(MetricError, match='uint8'): V.vmaf_score(bad, frames, ffmpeg=stand_in())


# --- which ffmpeg ---------------------------------------------------------------------------------------------------------

def test_the_first_that_has_libvmaf(stand_in, monkeypatch, tmp_path):
    class Bundle:
        @staticmethod
        def get_ffmpeg_exe(): return str(stand_in(name='bundled'))
    monkeypatch.setitem(sys.modules, 'imageio_ffmpeg', Bundle)
    system = stand_in(); monkeypatch.setenv('PATH', str(system.parent))
    assert V.find_ffmpeg() == str(system)
    stand_in(libvmaf='overlay')
    assert V.find_ffmpeg() == str(system.parent/'bundled')
    Bundle.get_ffmpeg_exe = staticmethod(lambda: (_ for _ in ()).throw(RuntimeError('No ffmpeg exe could be found')))
    stand_in(libvmaf='libvmaf_cuda')                                         # another filter's name is not enough
    with pytest.raises(V.FFmpegError, match='has no libvmaf; imageio-ffmpeg has none for this machine'): V.find_ffmpeg()
    assert V.find_ffmpeg('ffmpeg' if stand_in() else '') == str(system)      # a name is looked up on the PATH, a changed file asked again

def test_one_that_does_not_run(tmp_path):
    plain = tmp_path/'ffmpeg'; plain.write_text('no program')
    for path, words in ((plain, 'does not run'), (tmp_path/'none', 'is not there')):
        with pytest.raises(V.FFmpegError, match=words): V.find_ffmpeg(path)


# --- many videos ----------------------------------------------------------------------------------------------------------

def test_metric(stand_in, clips, monkeypatch):
    metric = V.VMAFMetric(ffmpeg=stand_in())
    assert metric.name == 'vmaf' and np.isnan(metric.compute()['vmaf'])
    metric.update(reference=clips[0], distorted=clips[1])
    monkeypatch.setattr(V, 'vmaf_report', lambda *a, **k: V.VMAFReport(scores=(100.,)*9))
    metric.update(reference=clips[0], distorted=clips[1])
    got = metric.compute()
    assert got['vmaf'] == 80 and got['vmaf_minimum'] == 30 and metric.entries['vmaf'].bounds == (0, 100)
    longer = V.VMAFMetric(lengths=True)
    for scores in ((60.,)*3, (100.,)*9):
        monkeypatch.setattr(V, 'vmaf_report', lambda *a, scores=scores, **k: V.VMAFReport(scores=scores))
        longer.update(reference='a', distorted='b')
    assert longer.compute()['vmaf'] == 90
    metric.reset(); assert np.isnan(metric.compute()['vmaf'])

def test_a_failure_accumulates_nothing(stand_in, clips):
    metric = V.VMAFMetric(ffmpeg=stand_in())
    metric.update(reference=clips[0], distorted=clips[1])
    with pytest.raises(FileNotFoundError): metric.update(reference='none', distorted=clips[1])
    assert metric.compute()['vmaf'] == 60


# --- a real ffmpeg --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def real(tmp_path_factory):
    "Two small videos with odd names, made by a real ffmpeg"
    try: ffmpeg = V.find_ffmpeg()
    except V.FFmpegError as e: pytest.skip(e.message)
    folder = tmp_path_factory.mktemp("it's [a], b: c;")
    clips = [folder/name for name in ('reference: 1.mkv', "blur'red,[x]=y.mkv", 'small.mkv', 'short.mkv')]
    for path, more in zip(clips, ([], ['-vf', 'gblur=1.2'], ['-vf', 'scale=160:120'], ['-frames:v', '8'])):
        subprocess.run([ffmpeg, '-y', '-hide_banner', '-loglevel', 'error', '-f', 'lavfi', '-i', 'testsrc2=size=320x240:rate=15:duration=1,format=yuv420p', *more, '-c:v', 'ffv1', f'file:{path}'], check=True, timeout=60)
    return clips

def test_real_scores(real):
    reference, blurred, small, short = real
    same, worse = V.vmaf_report(reference, reference, timeout=60), V.vmaf_report(reference, blurred, timeout=60)
    assert len(same.scores) == 15 and same.mean > 95 and 0 <= worse.minimum < worse.mean < same.mean - 5
    assert V.vmaf_score(reference, blurred, model='vmaf_v0.6.1', timeout=60) == pytest.approx(worse.mean)

def test_real_failures(real, tmp_path):
    reference, blurred, small, short = real
    with pytest.raises(V.FFmpegError, match='must match'): V.vmaf_score(reference, small, timeout=60)
    assert 0 <= V.vmaf_score(reference, small, size=(320, 240), timeout=60) < 95
    with pytest.raises(MetricError, match='15 frames, distorted has 8'): V.vmaf_score(reference, short, timeout=60)
    assert len(V.vmaf_report(reference, short, shortest=True, timeout=60).scores) == 8
    text = tmp_path/'text.mp4'; text.write_text('no video')
    with pytest.raises(RuntimeError) as e: V.vmaf_score(reference, text, timeout=60)
    assert 'as a video' in e.value.hint
    with pytest.raises(RuntimeError) as e: V.vmaf_score(reference, blurred, model='nonsense', timeout=60)
    assert 'model' in e.value.hint

def test_real_arrays(real):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:192, :256]
    frames = np.stack([128 + 60*np.sin(x/9 + t/3) + 60*np.cos(y/7) for t in range(6)]).clip(0, 255).astype(np.uint8)
    noisy = (frames + rng.normal(0, 20, frames.shape)).clip(0, 255).astype(np.uint8)
    same, worse = V.vmaf_score(frames, frames, timeout=60), V.vmaf_score(frames, noisy, timeout=60)
    assert same > 90 > worse and V.vmaf_score(np.repeat(frames[..., None], 3, -1), np.repeat(frames[..., None], 3, -1), timeout=60) > 90


# --- what is refused, and merging --------------------------------------------------------------------------------------------

@pytest.mark.parametrize('options, words', [({'threads': '2:log_path=/x'}, 'threads'), ({'threads': 0}, 'threads'), ({'threads': True}, 'threads'), ({'timeout': '3'}, 'timeout'), ({'timeout': -1}, 'timeout')])
def test_numbers_are_numbers(options, words, clips, stand_in):
    with pytest.raises(MetricError, match=words): V.vmaf_report(*clips, ffmpeg=stand_in(), **options)

def test_merge_and_state(stand_in, clips, monkeypatch):
    parts = [V.VMAFMetric() for _ in range(3)]
    for scores, metric in (((60.,)*3, parts[0]), ((100., 30.), parts[1])):
        monkeypatch.setattr(V, 'vmaf_report', lambda *a, scores=scores, **k: V.VMAFReport(scores=scores))
        for m in (metric, parts[2]): m.update(reference='a', distorted='b')
    parts[0].merge(parts[1]); assert parts[0].compute() == parts[2].compute()
    parts[1].state = json.loads(json.dumps(parts[2].state)); assert parts[1].compute() == parts[2].compute()
    for other in (None, V.VMAFMetric(lengths=True), V.VMAFMetric(size=(8, 8))):
        with pytest.raises(MetricError, match='cannot merge'): parts[0].merge(other)
