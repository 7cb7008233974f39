"""Discrete events on a virtual clock: the scheduler's own policies over workers that are modelled.

`simulate` runs a policy of `workers.scheduling.policies` over a workload; service times are drawn
from a recorded profile. The same arguments give the same report.
"""

from .core import simulate
from .fleet import Device, Fleet
from .profiles import Delays, FunctionProfile, Profile
from .report import Answer, JobRecord, Report
from .workloads import Call, Workload

__all__ = [
    "Answer",
    "Call",
    "Delays",
    "Device",
    "Fleet",
    "FunctionProfile",
    "JobRecord",
    "Profile",
    "Report",
    "Workload",
    "simulate",
]
