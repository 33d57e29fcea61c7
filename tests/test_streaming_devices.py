"""Streaming metrics over eight simulated devices in one process, and over two real processes that talk through loopback."""
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np

HERE = Path(__file__)


def run_here(*arguments, devices):
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0', 'PYTHONPATH': str(HERE.parent)}
    return subprocess.Popen([sys.executable, str(HERE), *map(str, arguments)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

def finished(process):
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said[-3000:]
    return said


def test_sync_over_eight_devices_is_the_whole_for_every_metric(): assert 'equal' in finished(run_here('devices', devices=8))


def test_two_processes():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    both = [run_here('process', port, i, devices=2) for i in range(2)]
    assert len({finished(p).strip().splitlines()[-1] for p in both}) == 1, 'both processes have the same value'


# --- what runs in those processes ------------------------------------------------------------------------------------------

def groups():
    "Streaming metrics by the arrays they take: name → (metric and wanted value by name, arrays)"
    from test_streaming_laws import STREAMING, whole
    from calibrax.metrics.streaming import streaming
    from metric_inputs import SPECIAL, inputs
    found = {}
    for entry, how in STREAMING:
        kind = entry.name if entry.name in SPECIAL else f"{entry.inputs}-{entry.arguments.get('num_classes')}"
        found.setdefault(kind, ({}, inputs(entry)))[0][f"{entry.name} {' '.join(how)}"] = (streaming(entry.name, **how, **entry.arguments), whole(entry, how, inputs(entry)))
    return found

def devices():
    from jax.sharding import Mesh, PartitionSpec as P
    from calibrax.metrics.streaming import streaming_together
    from metric_inputs import same
    mesh = Mesh(np.array(jax.devices()), ('data',))
    assert mesh.size == 8
    for metrics, arrays in groups().values():
        all_of = streaming_together({k: m for k, (m, _) in metrics.items()})
        empty = all_of.init(*arrays)
        parted = jax.shard_map(lambda *a: all_of.sync(all_of.update(empty, *a), 'data'), mesh=mesh, in_specs=(P('data'),)*len(arrays), out_specs=P())
        values = all_of.compute(jax.jit(parted)(*arrays))
        for name, (_, wanted) in metrics.items():
            try: same(values[name], wanted, 3e-5, 3e-6)
            except AssertionError as e: raise AssertionError(f'{name}: {e}') from None
    print('equal')

def process(port, index):
    from jax.experimental import multihost_utils
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    jax.distributed.initialize(f'127.0.0.1:{port}', num_processes=2, process_id=int(index))
    from calibrax.metrics.functional.classification import f1_score
    from calibrax.metrics.functional.curves import roc_auc
    from calibrax.metrics.streaming import streaming
    mesh = Mesh(np.array(jax.devices()), ('data',))
    assert mesh.size == 4 and jax.process_count() == 2
    rng = np.random.default_rng(0)
    t = rng.integers(0, 3, 400).astype(np.int32)
    p = np.where(rng.random(400) < .7, t, 0).astype(np.int32)
    s, hits = rng.normal(size=400).astype(np.float32), (t > 0).astype(np.int32)
    mine = slice(200*int(index), 200*int(index) + 200)
    whole = [multihost_utils.host_local_array_to_global_array(x[mine], mesh, P('data')) for x in (p, t, s, hits)]
    f1, auc = streaming('f1_score', num_classes=3, average='macro'), streaming('roc_auc', capacity=400)
    @partial(jax.jit, out_shardings=NamedSharding(mesh, P()))
    def values(p, t, s, hits):
        def one(p, t, s, hits): return f1.compute(f1.sync(f1.update(f1.init(), p, t), 'data')), auc.compute(auc.sync(auc.update(auc.init(), s, hits), 'data'))
        return jax.shard_map(one, mesh=mesh, in_specs=(P('data'),)*4, out_specs=P())(p, t, s, hits)
    got = [float(x) for x in values(*whole)]
    np.testing.assert_allclose(got, [f1_score(p, t, num_classes=3, average='macro'), roc_auc(s, hits)], rtol=1e-5)
    host_metrics(int(index))
    print(got)

def host_metrics(index):
    "Each process has its own part; afterwards both have what one process has that saw everything"
    from calibrax.metrics.composition import MetricCollection
    from calibrax.metrics.plugins.embeddings import CLIPScoreMetric
    from calibrax.metrics.plugins.perceptual import LPIPSMetric
    from calibrax.metrics.plugins.image import FIDMetric, InceptionScoreMetric, KIDMetric
    from calibrax.metrics.plugins.text import BERTScoreMetric
    from calibrax.metrics.stateful import StatefulMetric, sync_processes
    rng = np.random.default_rng(1)
    features = {'real': rng.normal(size=(60, 8)), 'generated': rng.normal(1, 1, (60, 8))}
    probabilities = rng.dirichlet(np.ones(5), 60).astype(np.float32)
    tokens = [rng.normal(size=(60, 7, 4)).astype(np.float32) for _ in range(2)]
    labels = rng.integers(0, 2, (2, 60)), rng.normal(size=60).astype(np.float32)
    cases = {                   # how it is made, and how it takes rows
        'fid': (lambda: FIDMetric(feature_dim=8), lambda m, r: m.update(**{k: v[r] for k, v in features.items()})),
        'one side here, one there': (lambda: FIDMetric(feature_dim=8), lambda m, r: m.update(**{k: v for k, v in features.items() if r == slice(None) or (r.start == 0) == (k == 'real')})),
        'kid': (lambda: KIDMetric(subset_size=60), lambda m, r: m.update(**{k: v[r] for k, v in features.items()})),
        'inception score': (InceptionScoreMetric, lambda m, r: m.update(probabilities=probabilities[r])),
        'clip': (CLIPScoreMetric, lambda m, r: m.update(image_embeddings=features['real'][r], text_embeddings=features['generated'][r])),
        'bert': (BERTScoreMetric, lambda m, r: m.update(candidate_embeddings=tokens[0][r], reference_embeddings=tokens[1][r])),
        'lpips': (lambda: LPIPSMetric(heads=[np.ones(4, np.float32)], trained=True), lambda m, r: m.update(features_a=[tokens[0][r]], features_b=[tokens[1][r]])),
        'stateful': (lambda: StatefulMetric('f1_score'), lambda m, r: m.update(labels[0][0][r], labels[0][1][r])),
        'samples': (lambda: StatefulMetric('roc_auc', capacity=60), lambda m, r: m.update(labels[1][r], labels[0][1][r])),
        'nothing there': (lambda: StatefulMetric('brier_score'), lambda m, r: m.update(probabilities[:, :2][r], labels[0][1][r]) if r == slice(None) or r.start == 0 else None),
        'collection': (lambda: MetricCollection(['accuracy', 'f1_score'], num_classes=2), lambda m, r: m.update(labels[0][0][r], labels[0][1][r])),
    }
    for name, (make, take) in cases.items():
        mine, whole = make(), make()
        if name == 'nothing there': whole.update(probabilities[:30, :2], labels[0][1][:30])
        else: take(whole, slice(None))
        take(mine, slice(30*index, 30*index + 30))
        sync_processes(mine)
        got, wanted = mine.compute(), whole.compute()
        assert set(got) == set(wanted), name
        for k in wanted: np.testing.assert_allclose(got[k], wanted[k], rtol=1e-5, err_msg=name)


if __name__ == '__main__':
    jax.config.update('jax_platforms', 'cpu')
    {'devices': devices, 'process': process}[sys.argv[1]](*sys.argv[2:])
