"Random runs survive every journey bit for bit, and no mutated file brings about anything but a calibrax error."
import itertools
import json
import logging
import random
import struct
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime

import pytest

pytest.importorskip('hypothesis')
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibrax.core.errors import CalibraxError, StoreError
from calibrax.core.models import Metric, MetricDef, MetricDirection, MetricPriority, Point, Run
from calibrax.storage import Store

# --- random runs -----------------------------------------------------------------------------------------------------------

numbers = st.floats()       # with NaN, infinities and -0.0
texts = st.text(max_size=12)
tags = st.dictionaries(texts, texts, max_size=3)
scalars = st.none() | st.booleans() | st.integers() | numbers | texts | st.sampled_from(['NaN', 'Infinity', '-Infinity', r'\NaN', r'\\NaN', 'null'])
metadata = st.dictionaries(texts, st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3), max_leaves=5), max_size=3)
metrics = st.builds(Metric, value=numbers, lower=st.none() | numbers, upper=st.none() | numbers, samples=st.none() | st.lists(numbers, max_size=4))
definitions = st.builds(MetricDef, name=texts, unit=texts, direction=st.sampled_from(MetricDirection), group=texts, priority=st.sampled_from(MetricPriority), description=texts)
points = st.builds(Point, name=texts, scenario=texts, tags=tags, metrics=st.dictionaries(texts, metrics, max_size=3))
times = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))
ids = st.text(st.characters(categories=['L', 'N', 'Zs'], include_characters='-_.%~@+'), max_size=12)
runs = st.builds(Run, id=ids, timestamp=times, commit=st.none() | texts, branch=st.none() | texts, environment=metadata, metadata=metadata,
                 metric_defs=st.dictionaries(texts, definitions, max_size=2), points=st.lists(points, max_size=3))


def bits(value):
    "A value with floats as their bytes, so that -0.0 is not 0.0 and NaN equals NaN, and with the type of everything"
    if is_dataclass(value): return type(value), [(f.name, bits(getattr(value, f.name))) for f in fields(value)]
    if isinstance(value, float): return float, struct.pack('>d', value)
    if isinstance(value, dict): return type(value), [(k, bits(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple)): return type(value), [bits(v) for v in value]
    return type(value), value


@pytest.fixture(scope='module')
def kept(tmp_path_factory): return Store(tmp_path_factory.mktemp('bench')), itertools.count()

@settings(max_examples=1000, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(run=runs)
def test_runs_survive_every_journey(kept, run):
    store, count = kept
    run = replace(run, id=f'{next(count)}_{run.id}') # without the mark, 7 and 23 were 72 and 3
    wanted, text = bits(run), run.to_json()
    assert bits(Run.from_dict(run.to_dict())) == wanted
    assert bits(Run.from_json(text)) == wanted
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f'{name} is no JSON'))
    store.save(run)
    assert bits(store.load(run.id)) == wanted

@pytest.fixture
def quiet():
    "Five hundred warnings are not for people"
    logging.getLogger('calibrax.storage.store').setLevel('ERROR')
    yield
    logging.getLogger('calibrax.storage.store').setLevel('NOTSET')

@settings(max_examples=50, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(several=st.lists(runs, max_size=6))
def test_the_index_says_what_the_runs_say(tmp_path_factory, quiet, several):
    store = Store(tmp_path_factory.mktemp('bench'))
    several = [replace(run, id=f'{i}{run.id}') for i, run in enumerate(several)]
    for run in several: store.save(run)
    newest = sorted(several, key=lambda r: (r.timestamp, r.id), reverse=True)
    assert [bits(r) for r in store.list_runs()] == [bits(r) for r in newest]
    assert [(r.id, r.timestamp, r.commit, r.branch, r.points) for r in store.runs()] == [(r.id, r.timestamp, r.commit, r.branch, len(r.points)) for r in newest]
    assert store.metric_names() == sorted({m for r in several for p in r.points for m in p.metrics}, key=str.encode)
    assert store.point_names() == sorted({p.name for r in several for p in r.points}, key=str.encode)
    for run in several:
        for p in run.points:
            for name in p.metrics:
                measured = [(r, m) for r in newest if (m := next((q.metrics[name] for q in r.points if q.name == p.name and p.tags.items() <= q.tags.items()
                                                                  and name in q.metrics), None))]
                units = [r.metric_defs[name].unit for r in [*(r for r, _ in measured), *newest] if name in r.metric_defs]
                expected = [(r.id, m) for r, m in reversed(measured) if name not in r.metric_defs or r.metric_defs[name].unit == units[0]]
                found = store.extract_trend(name, p.name, p.tags)
                assert [(t.run_id, bits((t.value, t.lower, t.upper))) for t in found.points] == [(i, bits((m.value, m.lower, m.upper))) for i, m in expected]
                assert found.unit == (units[0] if units else '')


# --- mutated files ---------------------------------------------------------------------------------------------------------

SOUND = Run(id='a1', timestamp=datetime(2026, 3, 1, tzinfo=UTC), commit='c', branch='main', environment={'cpu': 'EPYC', 'devices': [{'kind': 'gpu', 'gb': 80.5}]},
            metadata={'note': 'NaN', 'loss': float('nan')}, metric_defs={'latency': MetricDef(name='latency', unit='ms', direction='lower')},
            points=[Point(name=f'p{i}', scenario='s', tags={'framework': 'flax', 'ü': '日本'}, metrics={'latency': Metric(value=float('inf'), lower=-0.0, samples=[1, 2, float('nan')])})
                    for i in range(3)])
GARBAGE = [None, True, 0, -1, 1e308, 10**400, 'NaN', '', 'x'*1000, '\x00', [], {}, [[[]]], {'a': {'b': [{}]}}, [1, 'a', None], '0000-00-00', '2026-03-01T25:00:00',
           '0001-01-01T00:00:00+23:59', '9999-12-31T23:59:59-23:59', -0.0, 'Infinity', '../../x', '/etc', '\u202e', '1e5']

def flipped(data, rng):
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)): data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)

def cut(data, rng): return data[:rng.randrange(len(data))]

def joined(data, rng):
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    return rng.choice([data[:a] + data[b:], data[:b] + data[a:], data + data, data[a:], data[:a] + rng.randbytes(b - a) + data[b:], bytes(len(data)), rng.randbytes(200)])

def places(value):
    "Each container in parsed JSON with each of its keys"
    for key in (list(value) if isinstance(value, dict) else range(len(value))):
        yield value, key
        if isinstance(value[key], (dict, list)) and value[key]: yield from places(value[key])

def parsed(data, rng):
    "A wrong value, two values swapped, a key gone, a key renamed, deep nesting: JSON all the same"
    value = json.loads(data)
    for _ in range(rng.randint(1, 2)):
        holder, key = rng.choice(list(places(value)))
        other, other_key = rng.choice(list(places(value)))
        match rng.randrange(5):
            case 0: holder[key] = rng.choice(GARBAGE)
            case 1 if not isinstance(holder[key], (dict, list)) and not isinstance(other[other_key], (dict, list)): holder[key], other[other_key] = other[other_key], holder[key]
            case 2: del holder[key]
            case 3 if isinstance(holder, dict): holder[rng.choice(['', 'x', 'é', 'id', 'a.b', '\n'])] = holder.pop(key)
            case _: holder[key] = [[[[{'a': [1]}]]]]
    text = json.dumps(value, ensure_ascii=rng.random() < .5)
    if rng.random() < .1: text = text.replace('"latency"', '['*rng.choice([100, 5000]) + '1', 1)
    if rng.random() < .1: text = text.replace('1.0', '9'*rng.choice([30, 400, 6000]), 1)
    return text.encode()

def mutated(data, seed):
    rng = random.Random(seed)
    return rng.choice([flipped, cut, joined, parsed, parsed, parsed])(data, rng)

def only_ours(call):
    "What the call gives, or the calibrax error that it raises; anything else is a failure"
    try: return call()
    except CalibraxError as e:
        assert e.message and e.hint, repr(e)
        str(e).encode()
        return e

def test_mutated_runs_give_calibrax_errors_only(tmp_path, quiet):
    good, kept, outcomes = Run(id='good', timestamp=datetime(2026, 1, 1, tzinfo=UTC), points=[]), SOUND.to_json().encode(), []
    store = Store(tmp_path/'bench')
    path = store.save(SOUND)
    stored = path.read_bytes()
    store.save(good)
    for seed in range(500):
        read = only_ours(lambda: Run.from_json(mutated(kept, seed)))
        path.write_bytes(mutated(stored, seed))
        (tmp_path/'bench'/'runs'/'foreign.json').write_bytes(mutated(kept, seed))
        (tmp_path/'results.json').write_bytes(mutated(kept, seed))
        fresh = Store(tmp_path/'bench')
        loaded = only_ours(lambda: fresh.load('a1'))
        assert isinstance(loaded, (Run, StoreError))
        outcomes.append(isinstance(read, Run))
        # lists leave out what they cannot read, and keep what they can
        listed = fresh.list_runs()
        assert good in listed and {r.id for r in fresh.runs()} == {r.id for r in listed} and isinstance(fresh.latest(), Run)
        fresh.extract_trend('latency', 'p1'), fresh.query(framework='flax'), fresh.metric_names(), fresh.point_names(), repr(fresh.runs()), repr(fresh)
        report = fresh.fsck()
        assert report.healthy or report.findings
        only_ours(lambda: Store(tmp_path/'other').ingest(tmp_path/'results.json'))
        if isinstance(read, Run): assert Run.from_json(read.to_json()) == read and repr(read) and read._repr_html_()
    assert 20 < sum(outcomes) < 200      # some mutations do no harm, most do


def test_other_mutated_files_give_calibrax_errors_only(tmp_path, quiet):
    store = Store(tmp_path/'bench')
    store.save(SOUND), store.set_baseline('a1', reason='because'), store.annotate('a1', note='x', tags={'a': 'b'})
    store.write_config(wandb_project='p', metric_defs={'latency': {'unit': 'ms', 'direction': 'lower'}})
    files = [p for p in (tmp_path/'bench').rglob('*.json') if p.parent.name != 'runs']
    assert len(files) == 4
    sound = {p: p.read_bytes() for p in files}
    for seed in range(200):
        for p in files: p.write_bytes(mutated(sound[p], seed))
        fresh = Store(tmp_path/'bench')
        for call in (fresh.get_baseline, lambda: fresh.config, lambda: fresh.metric_defs, lambda: fresh.prune(keep=1, dry_run=True)): only_ours(call)
        assert len(fresh.baseline_history()) <= 1 and len(fresh.annotations('a1')) <= 1 and fresh.baselines() == ['main'] and len(fresh.runs()) == 1
        repr(fresh.runs()), repr(fresh.baseline_history()), fresh.fsck(), repr(fresh)


def test_a_mutated_index_gives_nothing_but_answers(tmp_path, quiet):
    "Whatever the cache holds, a question is answered or built anew; the files decide"
    from calibrax.storage.index import RunIndex
    store = Store(tmp_path/'bench')
    for i in range(3): store.save(replace(SOUND, id=f'a{i}'))
    store.runs()
    path = RunIndex(store._files, store._run, store._tell).path
    sound = path.read_bytes()
    for seed in range(100):
        rng = random.Random(seed)
        path.write_bytes(rng.choice([flipped, cut, joined])(sound, rng))
        fresh = Store(tmp_path/'bench')
        for call in (fresh.runs, fresh.metric_names, fresh.point_names, fresh.query, lambda: fresh.extract_trend('latency', 'p1'), fresh.damaged): only_ours(call)
