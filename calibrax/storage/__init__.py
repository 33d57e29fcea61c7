"A store of runs: plain JSON files in a folder or in object storage; the name is loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.storage.store import Store as Store

__getattr__, __dir__, __all__ = lazy_names(__name__, {'store': ('Store',)})
