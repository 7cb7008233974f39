"""The garbage collector's share of every request, paid once."""

from __future__ import annotations

import gc

# Objects made and not freed before the youngest generation is looked at; the default is 700, which
# a group of jobs passes several times.
YOUNG_OBJECTS = 20_000


def settle_heap() -> None:
    """Keep what start-up made out of later collections; called when a process is set up.

    Modules alone are some hundred thousand objects: each full collection would walk all of them,
    for 70 ms and more where torch is imported, in the middle of a request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
