"""Benchmarks and evaluation for scientific machine learning in JAX.

`import calibrax as cx` loads nothing: a name is fetched from its module when it is first asked for, so that a script
which only reads runs never waits for JAX. The modules are written in the notebooks of `nbs/`."""
__version__ = "0.2.0"

from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.bench.lifecycle import run_benchmark as run_benchmark
    from calibrax.analysis.assessment import assess as assess
    from calibrax.analysis.ranking import rank_table as rank_table
    from calibrax.analysis.regression import compare_runs as compare_runs, detect_regressions as detect_regressions
    from calibrax.ci.guard import CIGuard as CIGuard
    from calibrax.core.environment import capture_environment as capture_environment, capture_git as capture_git
    from calibrax.core.errors import CalibraxError as CalibraxError
    from calibrax.core.models import Metric as Metric, MetricDef as MetricDef, MetricDirection as MetricDirection
    from calibrax.core.models import MetricPriority as MetricPriority, Point as Point, Run as Run
    from calibrax.core.registry import register_benchmark as register_benchmark
    from calibrax.core.result import BenchmarkResult as BenchmarkResult
    from calibrax.profiling.flops import count_flops as count_flops
    from calibrax.profiling.profiles import Profile as Profile, profile as profile
    from calibrax.profiling.resources import ResourceMonitor as ResourceMonitor
    from calibrax.profiling.runs import timing_run as timing_run
    from calibrax.profiling.timing import TimingCollector as TimingCollector, time_calls as time_calls
    from calibrax.storage.store import Store as Store

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'analysis.assessment': ('assess',),
    'analysis.ranking': ('rank_table',),
    'analysis.regression': ('compare_runs', 'detect_regressions'),
    'bench.lifecycle': ('run_benchmark',),
    'ci.guard': ('CIGuard',),
    'core.environment': ('capture_environment', 'capture_git'),
    'core.errors': ('CalibraxError',),
    'core.models': ('Metric', 'MetricDef', 'MetricDirection', 'MetricPriority', 'Point', 'Run'),
    'core.registry': ('register_benchmark',),
    'core.result': ('BenchmarkResult',),
    'profiling.flops': ('count_flops',),
    'profiling.profiles': ('Profile', 'profile'),
    'profiling.resources': ('ResourceMonitor',),
    'profiling.runs': ('timing_run',),
    'profiling.timing': ('TimingCollector', 'time_calls'),
    'storage.store': ('Store',),
})
