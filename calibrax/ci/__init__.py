"The gate for continuous integration, its reports, and measuring commits; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.ci.ancestry import Ancestor as Ancestor, nearest_measured_ancestor as nearest_measured_ancestor
    from calibrax.ci.guard import CIGuard as CIGuard, GuardResult as GuardResult
    from calibrax.ci.measuring import Workload as Workload
    from calibrax.ci.report import to_json as to_json, to_junit as to_junit, to_markdown as to_markdown, to_text as to_text

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'ancestry': ('Ancestor', 'nearest_measured_ancestor'),
    'guard': ('CIGuard', 'GuardResult'),
    'measuring': ('Workload',),
    'report': ('to_json', 'to_junit', 'to_markdown', 'to_text'),
})
