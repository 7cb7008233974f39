"""A scheduler or a gateway dies; the others go on, and the dead one is replaced."""

from __future__ import annotations

import os
import signal

from tests.e2e.faults.conftest import Cluster, RunTrial
from tests.e2e.faults.processes import children
from tests.e2e.faults.waiting import eventually


def test_the_standby_leads_when_the_active_scheduler_is_killed(
    cluster: Cluster, trial: RunTrial
) -> None:
    """All the dead one knew is in the store."""
    active = cluster.active_scheduler
    assert active is not None
    with trial("kill -9 of the active scheduler") as fault:
        fault.strike()
        os.kill(active, signal.SIGKILL)
        eventually(lambda: cluster.active_scheduler not in (None, active), "another that leads")


def test_a_gateway_process_that_is_killed_is_replaced(cluster: Cluster, trial: RunTrial) -> None:
    """Its callers' connections break; what they had been told is accepted is kept."""
    with trial("kill -9 of a gateway process") as fault:
        doomed = cluster.gateways[0]
        fault.strike()
        os.kill(doomed, signal.SIGKILL)
        eventually(
            lambda: len(set(cluster.gateways) - {doomed}) == 2, "a gateway in the dead one's place"
        )


def test_the_gateways_come_back_when_their_parent_is_killed(
    cluster: Cluster, trial: RunTrial
) -> None:
    """The processes it leaves behind still hold its output, and some of them its port."""
    with trial("kill -9 of the gateways' parent") as fault:
        doomed = cluster.gateway
        assert doomed is not None
        orphans = children(doomed)
        fault.strike()
        os.kill(doomed, signal.SIGKILL)
        eventually(lambda: cluster.gateway not in (None, doomed), "another parent")
        assert not set(orphans) & set(cluster.gateways)
