"What a piece of code costs: time, compiling, and later memory, energy and operations; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.core.measurements import CallTiming as CallTiming, ResourceSample as ResourceSample
    from calibrax.core.measurements import ResourceSummary as ResourceSummary, TimingSample as TimingSample
    from calibrax.profiling.timing import TimingCollector as TimingCollector, time_calls as time_calls
    from calibrax.profiling.timing import time_in_processes as time_in_processes

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    '.core.measurements': ('CallTiming', 'ResourceSample', 'ResourceSummary', 'TimingSample'),
    'timing': ('TimingCollector', 'time_calls', 'time_in_processes'),
})
