"Benchmarks of models: tasks, data, adapters, the runner and its reports, and the life of a benchmark; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.bench.adapters import ImageInput as ImageInput, Prepared as Prepared, ResizeToInput as ResizeToInput
    from calibrax.bench.adapters import labels_from_logits as labels_from_logits, probabilities_from_logits as probabilities_from_logits
    from calibrax.bench.configuration import BenchConfig as BenchConfig
    from calibrax.bench.datasets import BenchmarkDataset as BenchmarkDataset, Manifest as Manifest, make_manifest as make_manifest
    from calibrax.bench.datasets import verify_manifest as verify_manifest, write_manifest as write_manifest
    from calibrax.bench.devices import Device as Device, resolve_device as resolve_device, synchronize as synchronize
    from calibrax.bench.efficiency import Efficiency as Efficiency
    from calibrax.bench.hub import dataset_info as dataset_info, download_split as download_split, fetch_manifest as fetch_manifest
    from calibrax.bench.lifecycle import TargetResult as TargetResult, TargetResults as TargetResults, TargetVerdict as TargetVerdict
    from calibrax.bench.lifecycle import check_targets as check_targets, run_benchmark as run_benchmark
    from calibrax.bench.loading import Loaded as Loaded, load_batches as load_batches
    from calibrax.bench.metrics import CalculatorSuite as CalculatorSuite, MetricCalculator as MetricCalculator
    from calibrax.bench.metrics import calculators_for as calculators_for, register_calculator as register_calculator
    from calibrax.bench.models import BenchmarkableModel as BenchmarkableModel, from_flax as from_flax, from_function as from_function
    from calibrax.bench.models import from_huggingface as from_huggingface, from_torch as from_torch, get_model as get_model
    from calibrax.bench.models import list_models as list_models, register_model as register_model
    from calibrax.bench.pipeline import BenchOutcome as BenchOutcome, run_pipeline as run_pipeline, run_task as run_task
    from calibrax.bench.planning import PlannedJob as PlannedJob, SweepPlan as SweepPlan, plan_sweep as plan_sweep
    from calibrax.bench.plugins import catalogue as catalogue, load_plugin as load_plugin
    from calibrax.bench.readiness import DeploymentReadinessReport as DeploymentReadinessReport
    from calibrax.bench.readiness import deployment_readiness as deployment_readiness, merge_reports as merge_reports
    from calibrax.bench.readiness_plots import plot_pareto as plot_pareto
    from calibrax.bench.report import format_markdown_summary as format_markdown_summary, read_results as read_results
    from calibrax.bench.report import write_json as write_json, write_reports as write_reports
    from calibrax.bench.results import EvaluationResult as EvaluationResult, GroupResult as GroupResult, read_result as read_result
    from calibrax.bench.runner import BenchmarkRunner as BenchmarkRunner, job_of as job_of
    from calibrax.bench.sample_log import Job as Job, SampleLog as SampleLog, job_id as job_id, read_samples as read_samples
    from calibrax.bench.samples import DIFFICULTIES as DIFFICULTIES, PHASES as PHASES, Sample as Sample, SampleRecord as SampleRecord
    from calibrax.bench.samples import SampleStatus as SampleStatus, TemporalScore as TemporalScore
    from calibrax.bench.sweep_results import SweepResult as SweepResult
    from calibrax.bench.sweeps import sweep as sweep
    from calibrax.bench.tasks.spec import TaskSpec as TaskSpec, get_task as get_task, list_tasks as list_tasks
    from calibrax.bench.tasks.spec import register_task as register_task

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'adapters': ('ImageInput', 'Prepared', 'ResizeToInput', 'labels_from_logits', 'probabilities_from_logits'),
    'configuration': ('BenchConfig',),
    'datasets': ('BenchmarkDataset', 'Manifest', 'make_manifest', 'verify_manifest', 'write_manifest'),
    'devices': ('Device', 'resolve_device', 'synchronize'),
    'efficiency': ('Efficiency',),
    'hub': ('dataset_info', 'download_split', 'fetch_manifest'),
    'lifecycle': ('TargetResult', 'TargetResults', 'TargetVerdict', 'check_targets', 'run_benchmark'),
    'loading': ('Loaded', 'load_batches'),
    'metrics': ('CalculatorSuite', 'MetricCalculator', 'calculators_for', 'register_calculator'),
    'models': ('BenchmarkableModel', 'from_flax', 'from_function', 'from_huggingface', 'from_torch', 'get_model', 'list_models',
               'register_model'),
    'pipeline': ('BenchOutcome', 'run_pipeline', 'run_task'),
    'planning': ('PlannedJob', 'SweepPlan', 'plan_sweep'),
    'plugins': ('catalogue', 'load_plugin'),
    'readiness': ('DeploymentReadinessReport', 'deployment_readiness', 'merge_reports'),
    'readiness_plots': ('plot_pareto',),
    'report': ('format_markdown_summary', 'read_results', 'write_json', 'write_reports'),
    'results': ('EvaluationResult', 'GroupResult', 'read_result'),
    'runner': ('BenchmarkRunner', 'job_of'),
    'sample_log': ('Job', 'SampleLog', 'job_id', 'read_samples'),
    'samples': ('DIFFICULTIES', 'PHASES', 'Sample', 'SampleRecord', 'SampleStatus', 'TemporalScore'),
    'sweep_results': ('SweepResult',),
    'sweeps': ('sweep',),
    'tasks.spec': ('TaskSpec', 'get_task', 'list_tasks', 'register_task'),
})
