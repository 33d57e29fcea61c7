"The records of timings under their published path; they are written in `core.measurements`."
from calibrax.core.measurements import CallTiming, TimingSample

__all__ = ['CallTiming', 'TimingSample']
