"Records, errors and everything else that the rest of calibrax stands on; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.core.adapters import Adapter as Adapter, AdapterClass as AdapterClass, AdapterRegistry as AdapterRegistry
    from calibrax.core.adapters import BenchmarkAdapter as BenchmarkAdapter, CallableAdapter as CallableAdapter
    from calibrax.core.adapters import NNXBenchmarkAdapter as NNXBenchmarkAdapter, TorchAdapter as TorchAdapter
    from calibrax.core.adapters import adapt as adapt, register_adapter as register_adapter
    from calibrax.core.models import Metric as Metric, MetricDef as MetricDef, MetricDirection as MetricDirection
    from calibrax.core.models import MetricPriority as MetricPriority, Point as Point, RankEntry as RankEntry, Regression as Regression
    from calibrax.core.models import Run as Run, ScalingLaw as ScalingLaw, SignificanceResult as SignificanceResult
    from calibrax.core.models import TrendPoint as TrendPoint, TrendSeries as TrendSeries
    from calibrax.core.models import extract_framework_metrics as extract_framework_metrics, is_higher_better as is_higher_better
    from calibrax.core.protocols import BatchableDatasetProtocol as BatchableDatasetProtocol, BenchmarkProtocol as BenchmarkProtocol
    from calibrax.core.protocols import DatasetProtocol as DatasetProtocol, MetricLearningProtocol as MetricLearningProtocol
    from calibrax.core.protocols import MetricProtocol as MetricProtocol, StatefulMetricProtocol as StatefulMetricProtocol
    from calibrax.core.record_values import Metadata as Metadata, MetadataValue as MetadataValue, SupportsItem as SupportsItem
    from calibrax.core.record_values import read_metadata as read_metadata, read_metadata_entry as read_metadata_entry
    from calibrax.core.registry import BenchmarkRegistry as BenchmarkRegistry, Registry as Registry, SingletonRegistry as SingletonRegistry
    from calibrax.core.registry import get_benchmark as get_benchmark, list_benchmarks as list_benchmarks
    from calibrax.core.registry import register_benchmark as register_benchmark
    from calibrax.core.result import BenchmarkResult as BenchmarkResult

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'adapters': ('Adapter', 'AdapterClass', 'AdapterRegistry', 'BenchmarkAdapter', 'CallableAdapter', 'NNXBenchmarkAdapter',
                 'TorchAdapter', 'adapt', 'register_adapter'),
    'models': ('Metric', 'MetricDef', 'MetricDirection', 'MetricPriority', 'Point', 'RankEntry', 'Regression', 'Run', 'ScalingLaw',
               'SignificanceResult', 'TrendPoint', 'TrendSeries', 'extract_framework_metrics', 'is_higher_better'),
    'protocols': ('BatchableDatasetProtocol', 'BenchmarkProtocol', 'DatasetProtocol', 'MetricLearningProtocol', 'MetricProtocol',
                  'StatefulMetricProtocol'),
    'record_values': ('Metadata', 'MetadataValue', 'SupportsItem', 'read_metadata', 'read_metadata_entry'),
    'registry': ('BenchmarkRegistry', 'Registry', 'SingletonRegistry', 'get_benchmark', 'list_benchmarks', 'register_benchmark'),
    'result': ('BenchmarkResult',),
})
