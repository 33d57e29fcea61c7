"""Benchmarks and evaluation for scientific machine learning in JAX.

`import calibrax as cx` loads nothing: a name is fetched from its module when it is first asked for, so that a script
that only reads runs never pays for JAX. The modules are written in the notebooks of `nbs/`."""
__version__ = "0.2.0"

from typing import TYPE_CHECKING

if TYPE_CHECKING:       # what a type checker and an editor see; the table below says the same to Python
    from .analysis.ranking import rank_table
    from .analysis.regression import compare_runs, detect_regressions
    from .ci.guard import CIGuard
    from .core.environment import capture_environment, capture_git
    from .core.errors import CalibraxError
    from .core.models import Metric, MetricDef, MetricDirection, MetricPriority, Point, Run
    from .core.result import BenchmarkResult
    from .profiling.timing import TimingCollector, time_calls
    from .storage.store import Store

_homes = {
    'analysis.ranking': ['rank_table'],
    'analysis.regression': ['compare_runs', 'detect_regressions'],
    'ci.guard': ['CIGuard'],
    'core.environment': ['capture_environment', 'capture_git'],
    'core.errors': ['CalibraxError'],
    'core.models': ['Metric', 'MetricDef', 'MetricDirection', 'MetricPriority', 'Point', 'Run'],
    'core.result': ['BenchmarkResult'],
    'profiling.timing': ['TimingCollector', 'time_calls'],
    'storage.store': ['Store'],
}
_home_of = {name: home for home, names in _homes.items() for name in names}
__all__ = ['BenchmarkResult', 'CIGuard', 'CalibraxError', 'Metric', 'MetricDef', 'MetricDirection', 'MetricPriority', 'Point',
           'Run', 'Store', 'TimingCollector', 'capture_environment', 'capture_git', 'compare_runs', 'detect_regressions',
           'rank_table', 'time_calls']


def __getattr__(name: str) -> object:
    from importlib import import_module
    if name not in _home_of: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(import_module(f'{__name__}.{_home_of[name]}'), name)
    return value


def __dir__() -> list[str]: return sorted({*globals(), *__all__})
