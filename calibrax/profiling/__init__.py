"What a piece of code costs: time, compiling, operations, memory, energy; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.core.measurements import CallTiming as CallTiming, GpuClocks as GpuClocks, GpuMemory as GpuMemory, GpuPower as GpuPower
    from calibrax.core.measurements import ResourceSample as ResourceSample, ResourceSummary as ResourceSummary
    from calibrax.core.measurements import TimingSample as TimingSample
    from calibrax.profiling.carbon import CarbonResult as CarbonResult, CarbonTracker as CarbonTracker, carbon_of as carbon_of
    from calibrax.profiling.compilation import Compilation as Compilation, CompilationProfiler as CompilationProfiler
    from calibrax.profiling.compilation import CompilationResult as CompilationResult, Compilations as Compilations
    from calibrax.profiling.compilation import XLAOptimizationResult as XLAOptimizationResult
    from calibrax.profiling.complexity import ComplexityResult as ComplexityResult, LayerComplexity as LayerComplexity
    from calibrax.profiling.complexity import analyze_complexity as analyze_complexity
    from calibrax.profiling.energy import CallEnergy as CallEnergy, EnergyMonitor as EnergyMonitor, EnergySample as EnergySample
    from calibrax.profiling.energy import EnergySummary as EnergySummary, GpuEnergySource as GpuEnergySource
    from calibrax.profiling.energy import GpuPowerSource as GpuPowerSource, RaplCounters as RaplCounters, measure_energy as measure_energy
    from calibrax.profiling.flops import FlopsCounter as FlopsCounter, FlopsResult as FlopsResult
    from calibrax.profiling.flops import FlopsUnavailableError as FlopsUnavailableError, count_flops as count_flops
    from calibrax.profiling.flops import program_flops as program_flops
    from calibrax.profiling.gpu import AdaptiveOperation as AdaptiveOperation, GPUMemoryProfiler as GPUMemoryProfiler
    from calibrax.profiling.gpu import HardwareConfig as HardwareConfig, MemoryAnalysis as MemoryAnalysis
    from calibrax.profiling.gpu import MemoryOptimizer as MemoryOptimizer, analyze_memory_pattern as analyze_memory_pattern
    from calibrax.profiling.gpu import detect_gpus as detect_gpus
    from calibrax.profiling.hardware import HARDWARE_SPECS as HARDWARE_SPECS, HardwareSpec as HardwareSpec
    from calibrax.profiling.hardware import UnknownHardwareError as UnknownHardwareError, detect_hardware_specs as detect_hardware_specs
    from calibrax.profiling.hardware import measure_execution_time as measure_execution_time, measure_hardware_spec as measure_hardware_spec
    from calibrax.profiling.hardware import resolve_hardware_spec as resolve_hardware_spec, spec_for_device_kind as spec_for_device_kind
    from calibrax.profiling.nvml import NvmlDevice as NvmlDevice, NvmlMissingError as NvmlMissingError, nvml_devices as nvml_devices
    from calibrax.profiling.operations import OperationCost as OperationCost, operation_costs as operation_costs
    from calibrax.profiling.profiles import Profile as Profile, profile as profile
    from calibrax.profiling.programs import Program as Program, trace_program as trace_program
    from calibrax.profiling.resources import GPUProfilerProtocol as GPUProfilerProtocol, GpuGroup as GpuGroup
    from calibrax.profiling.resources import ResourceMonitor as ResourceMonitor, reader_table as reader_table
    from calibrax.profiling.roofline import RooflineAnalyzer as RooflineAnalyzer, RooflineResult as RooflineResult
    from calibrax.profiling.roofline import plot_roofline as plot_roofline
    from calibrax.profiling.runs import median_interval as median_interval, timing_run as timing_run
    from calibrax.profiling.timing import TimingCollector as TimingCollector, time_calls as time_calls
    from calibrax.profiling.timing import time_in_processes as time_in_processes
    from calibrax.profiling.tracing import TraceLinker as TraceLinker, TraceOperation as TraceOperation, TraceReference as TraceReference
    from calibrax.profiling.tracing import TraceSummary as TraceSummary, summarize_trace as summarize_trace

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    '.core.measurements': ('CallTiming', 'GpuClocks', 'GpuMemory', 'GpuPower', 'ResourceSample', 'ResourceSummary', 'TimingSample'),
    'carbon': ('CarbonResult', 'CarbonTracker', 'carbon_of'),
    'compilation': ('Compilation', 'CompilationProfiler', 'CompilationResult', 'Compilations', 'XLAOptimizationResult'),
    'complexity': ('ComplexityResult', 'LayerComplexity', 'analyze_complexity'),
    'energy': ('CallEnergy', 'EnergyMonitor', 'EnergySample', 'EnergySummary', 'GpuEnergySource', 'GpuPowerSource', 'RaplCounters',
               'measure_energy'),
    'flops': ('FlopsCounter', 'FlopsResult', 'FlopsUnavailableError', 'count_flops', 'program_flops'),
    'gpu': ('AdaptiveOperation', 'GPUMemoryProfiler', 'HardwareConfig', 'MemoryAnalysis', 'MemoryOptimizer', 'analyze_memory_pattern',
            'detect_gpus'),
    'hardware': ('HARDWARE_SPECS', 'HardwareSpec', 'UnknownHardwareError', 'detect_hardware_specs', 'measure_execution_time',
                 'measure_hardware_spec', 'resolve_hardware_spec', 'spec_for_device_kind'),
    'nvml': ('NvmlDevice', 'NvmlMissingError', 'nvml_devices'),
    'operations': ('OperationCost', 'operation_costs'),
    'profiles': ('Profile', 'profile'),
    'programs': ('Program', 'trace_program'),
    'resources': ('GPUProfilerProtocol', 'GpuGroup', 'ResourceMonitor', 'reader_table'),
    'roofline': ('RooflineAnalyzer', 'RooflineResult', 'plot_roofline'),
    'runs': ('median_interval', 'timing_run'),
    'timing': ('TimingCollector', 'time_calls', 'time_in_processes'),
    'tracing': ('TraceLinker', 'TraceOperation', 'TraceReference', 'TraceSummary', 'summarize_trace'),
})
