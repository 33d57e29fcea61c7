"Protocols: names decide at run time, signatures for the type checker, and JAX is not needed."
import subprocess, sys
from pathlib import Path

import pytest

from calibrax.core import protocols
from calibrax.core.protocols import (BatchableDatasetProtocol, BenchmarkProtocol, DatasetProtocol, MetricLearningProtocol,
                                     MetricProtocol, StatefulMetricProtocol)

MEMBERS = {
    BenchmarkProtocol: ('setup', 'run_training', 'run_evaluation', 'teardown', 'get_performance_targets'),
    DatasetProtocol: ('__len__', '__getitem__'),
    BatchableDatasetProtocol: ('__len__', '__getitem__', 'get_batch'),
    MetricProtocol: ('name', 'higher_is_better', 'compute', 'validate_inputs'),
    StatefulMetricProtocol: ('name', 'update', 'compute', 'reset'),
    MetricLearningProtocol: ('__call__',),
}
each = pytest.mark.parametrize('protocol', MEMBERS, ids=lambda p: p.__name__)

def make(names): return type('Made', (), {n: (lambda self, *a, **k: None) for n in names})()


@each
def test_all_members_fit(protocol): assert isinstance(make(MEMBERS[protocol]), protocol)


@each
def test_each_missing_member_is_seen(protocol):
    for missing in MEMBERS[protocol]:
        assert not isinstance(make([n for n in MEMBERS[protocol] if n != missing]), protocol), missing


@each
def test_clients_pin_where_it_lives(protocol):
    assert protocol.__module__ == 'calibrax.core.protocols' and protocol.__doc__
    import calibrax.core
    assert getattr(calibrax.core, protocol.__name__) is protocol


def test_batchable_is_a_dataset():
    assert issubclass(BatchableDatasetProtocol, DatasetProtocol)
    assert isinstance([1, 2], DatasetProtocol) and not isinstance([1, 2], BatchableDatasetProtocol)


def test_generic_in_the_example(): assert DatasetProtocol[int] and BatchableDatasetProtocol[dict]


def test_a_base_class_is_allowed():
    class Mine(BenchmarkProtocol):
        def setup(self): self.ready = True
    mine = Mine()
    mine.setup()
    assert mine.ready and isinstance(mine, BenchmarkProtocol) and mine.teardown() is None


def test_the_module_exports_nothing_else(): assert sorted(protocols.__all__) == sorted(p.__name__ for p in MEMBERS)


USE = '''
from calibrax.core.protocols import *
import jax, numpy as np
class Good:
    def setup(self) -> None: ...
    def run_training(self) -> dict[str, float]: return {}
    def run_evaluation(self) -> dict[str, float]: return {}
    def teardown(self) -> None: ...
    def get_performance_targets(self) -> dict[str, float]: return {}
class Bad(Good):
    def run_training(self) -> str: return ''  # type: ignore[override]
def loss(embeddings: jax.Array, labels: jax.Array) -> jax.Array: return embeddings.sum()
good: BenchmarkProtocol = Good()
bad: BenchmarkProtocol = Bad()
learned: MetricLearningProtocol = loss
numbers: DatasetProtocol[int] = [1, 2, 3]
texts: DatasetProtocol[str] = [1, 2, 3]
'''

@pytest.mark.slow
def test_a_type_checker_compares_signatures(tmp_path):
    (tmp_path/'use.py').write_text(USE)
    out = subprocess.run([sys.executable, '-m', 'mypy', '--follow-imports=silent', '--cache-dir', str(tmp_path/'cache'), str(tmp_path/'use.py')],
                         capture_output=True, text=True, cwd=Path(__file__).parents[1]).stdout
    wrong = {int(line.split(':')[1]) for line in out.splitlines() if ': error:' in line}
    assert [USE.splitlines()[n - 1].split(':')[0] for n in sorted(wrong)] == ['bad', 'texts'], out
