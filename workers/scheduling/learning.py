"""What the scheduler has learned of costs, on its way to the store and back."""

from __future__ import annotations

from contract.log import Log
from contract.store import Store
from workers.scheduling.costs import Costs

log = Log("scheduler")
# Fields of one write: what changes faster is written later, never a group's time at the loop.
SAVED_AT_ONCE = 256


def load_costs(store: Store) -> Costs:
    """What earlier schedulers have learned, of versions that are still there."""
    costs = Costs.of(store.costs.load())
    for ref in store.functions.removed(costs.refs()):
        costs.forget(ref)
    log.info("costs_read", functions=len(costs.refs()))
    return costs


def save_costs(store: Store, token: str, costs: Costs) -> None:
    """Write what has changed since the last time, and how far predictions were off.

    A scheduler that leads no more writes nothing: another one learns.
    """
    changes = costs.take_changes(SAVED_AT_ONCE)
    if changes and store.costs.save(token, changes):
        store.telemetry.set_prediction_error(costs.errors().as_fields())
