"Benchmarks from setup to verdict; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.bench.lifecycle import TargetResult as TargetResult, TargetResults as TargetResults, TargetVerdict as TargetVerdict
    from calibrax.bench.lifecycle import check_targets as check_targets, run_benchmark as run_benchmark

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'lifecycle': ('TargetResult', 'TargetResults', 'TargetVerdict', 'check_targets', 'run_benchmark'),
})
