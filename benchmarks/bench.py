"""What the benchmark toolkit's runner costs, and what batches gain.

    python benchmarks/bench.py [--rounds 5] [--samples 512]

1. Throughput of the Flax networks that ship with the tasks, untrained, with batches of 32 against batches of 1: of the
   model's calls and end to end, medians over the rounds. The target is 5 times as many samples per second of the calls for
   the networks of digits and rows, where a single call is mostly the way into XLA and back. A U-Net has 14 million
   operations for each frame, and one frame keeps the processor busy by itself: its figure is shown without a target, beside
   that of a network that does nothing but read the frames.
2. What the runner adds to a sample: the time end to end less that of the bare loop over the same batches, which prepares,
   calls and finishes them and does nothing else. The figure contains loading, scoring, the log and the clock.
3. How long it takes to read a log that is gone on with, for a thousand samples.

The exit status is 1 when the target is missed. Nothing else should run on the machine meanwhile."""
import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from calibrax.bench.datasets import BenchmarkDataset
from calibrax.bench.metrics import MetricCalculator, register_calculator
from calibrax.bench.models import BenchmarkableModel, from_flax, from_function
from calibrax.bench.networks import convolutional_network, dense_network
from calibrax.bench.results import EvaluationResult
from calibrax.bench.runner import BenchmarkRunner
from calibrax.bench.sample_log import LogHeader, SampleLog
from calibrax.bench.samples import Sample
from calibrax.bench.tasks import TaskSpec, register_task
from calibrax.bench.tasks.scene_models import scene_network
from calibrax.core.display import Table, format_number
from calibrax.core.measurements import format_seconds
from calibrax.core.models import MetricDef, MetricDirection

@register_calculator('bench_digits')
class Right(MetricCalculator):
    name, metric_defs = 'right', {'right': MetricDef(name='right', unit='', direction=MetricDirection.HIGHER)}
    def compute(self, prediction: Any, sample: Sample) -> dict[str, float]: return {'right': float(int(np.argmax(prediction)) == int(sample.target('label')))}

TASK = register_task(TaskSpec(task='bench_digits', display_name='Digits', primary_metric='right', direction=MetricDirection.HIGHER, required_inputs=('image',),
                              required_targets=('label',)))


def frame_means() -> Any:
    "The least that a network can do with a frame: read it"
    from flax import nnx
    class FrameMeans(nnx.Module):
        def __call__(self, frames: Any) -> Any: return frames.astype(np.float32).reshape(len(frames), 8, -1).mean(2)
    return FrameMeans()


# name, network, shape of a sample, share of the samples that is used, wanted gain
NETWORKS: tuple[tuple[str, Callable[[], Any], tuple[int, ...], int, float | None], ...] = (
    ('digits, convolutions', lambda: convolutional_network(10), (8, 8), 1, 5.0),
    ('rows, dense', lambda: dense_network(8, 1), (8,), 1, 5.0),
    ('frames of 48 × 64, means', frame_means, (48, 64, 3), 1, None),
    ('frames of 48 × 64, U-Net', lambda: scene_network(1), (48, 64, 3), 4, None))


def images(n: int, shape: tuple[int, ...]) -> BenchmarkDataset:
    rng = np.random.default_rng(0)
    values, labels = rng.random(size=(n, *shape)).astype(np.float32), rng.integers(0, 10, n)
    return BenchmarkDataset.from_samples([Sample(id=f'{i:05}', inputs={'image': values[i]}, targets={'label': labels[i]}) for i in range(n)],
                                         task='bench_digits', name='noise', split='test')

def evaluate(model: BenchmarkableModel, data: BenchmarkDataset, batch_size: int) -> EvaluationResult:
    with tempfile.TemporaryDirectory() as folder:
        return BenchmarkRunner(model, data, TASK, batch_size=batch_size, folder=folder, flops=False).run()

def by_hand(model: BenchmarkableModel, data: BenchmarkDataset, batch_size: int) -> float:
    "Seconds of the loop that anybody would write: no metrics, no log, no clock"
    samples = [data[i] for i in range(len(data))]
    def call(part: list[Sample]) -> Any:
        batch = model.prepare(part, batch_size)
        return model.finalize(model.invoke(batch), batch, part)
    call(samples[:batch_size])
    start = time.perf_counter()
    for k in range(0, len(samples), batch_size): call(samples[k:k + batch_size])
    return time.perf_counter() - start


def batches(rounds: int, samples: int) -> tuple[Table, bool]:
    "Samples per second, batches of 32 against batches of 1, in alternating rounds"
    rows, met = [], True
    for name, network, shape, part, wanted in NETWORKS:
        data, model = images(samples//part, shape), from_flax(network(), task='bench_digits', name=name, inputs='image')
        found: dict[int, list[Any]] = {1: [], 32: []}
        for _ in range(rounds):
            for size in found: found[size].append(evaluate(model, data, size).efficiency)
        for field, title in (('throughput', "model's calls"), ('throughput_end_to_end', 'end to end')):
            one, many = (median(getattr(e, field) for e in found[size]) for size in (1, 32))
            target = wanted if field == 'throughput' else None
            good = target is None or many >= target*one
            met = met and good
            rows.append((name, title, format_number(one), format_number(many), f'{many/one:.1f} ×', f'{target:g} ×' if target else '', ('yes' if good else 'NO') if target else ''))
    return Table(('network', 'samples per second', 'batches of 1', 'batches of 32', 'gain', 'wanted', 'met'), tuple(rows), f'Medians of {rounds} rounds'), met

def overhead(rounds: int, data: BenchmarkDataset) -> Table:
    "What the runner adds to each sample, over the bare loop"
    model, rows = from_function(lambda x: x.reshape(len(x), -1)[:, :10], task='bench_digits', name='slice', inputs='image'), []
    for size in (1, 32):
        model.setup('cpu')
        bare, ours = [], []
        for _ in range(rounds):
            bare.append(by_hand(model, data, size)/len(data))
            ours.append(evaluate(model, data, size).seconds/len(data))
        rows.append((str(size), *map(format_seconds, (median(bare), median(ours), median(ours) - median(bare)))))
    return Table(('batch size', 'bare loop', 'runner', 'added to a sample'), tuple(rows), f'a model of NumPy that does nothing, {len(data)} samples, medians of {rounds} rounds')

def reading(rounds: int, data: BenchmarkDataset) -> Table:
    "How fast a log is read again"
    model = from_function(lambda x: x.reshape(len(x), -1)[:, :10], task='bench_digits', name='slice', inputs='image')
    with tempfile.TemporaryDirectory() as folder:
        runner = BenchmarkRunner(model, data, TASK, batch_size=32, folder=folder, flops=False)
        result, times = runner.run(), []
        for _ in range(rounds):
            start = time.perf_counter()
            SampleLog(Path(folder)/'samples.jsonl', LogHeader(job=runner.job, device=result.device), resume=True).close()
            times.append((time.perf_counter() - start)*1000/len(data))
    return Table(('figure', 'value'), (('reading a thousand samples to go on', format_seconds(median(times))),), '')


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--samples', type=int, default=512)
    args = parser.parse_args()
    table, met = batches(args.rounds, args.samples)
    data = images(args.samples, (8, 8))
    print(table, overhead(args.rounds, data), reading(args.rounds, data), sep='\n\n')
    return 0 if met else 1


if __name__ == '__main__': sys.exit(main())
