"""What a long run leaves behind in Dask's scheduler: nothing that grows with the tiles."""

from __future__ import annotations

import gc
from collections import deque

import dask.array as da
import numpy as np
from distributed.scheduler import TaskGroup

from scanner.config import RunConfig
from scanner.run.cluster import hand_over, open_client


def summed(block, other):
    out = np.empty((), dtype=object)
    out[()] = int(block.sum() + other.sum())
    return out


def graph(number):
    """Return a graph like a tile's: two chains of a block each, and an object made of both."""
    one = da.full((4, 4), number, chunks=-1)
    chains = (one.map_blocks(np.negative), one.map_blocks(np.abs))
    meta = np.empty((), dtype=object)
    return da.map_blocks(summed, *chains, drop_axis=[0, 1], dtype=object, meta=meta)


def kept():
    """Return how many task groups there are in this process, the scheduler's own among them."""
    gc.collect()
    return sum(type(one) is TaskGroup for one in gc.get_objects())


def test_the_scheduler_forgets_tiles_while_others_are_under_way():
    with open_client(RunConfig(workers=1)) as client:
        under_way, counts = deque(), []
        for number in range(90):
            under_way.append((number, hand_over(client, graph(number), 0)))
            if len(under_way) > 4:  # always some, so that nothing ever comes to rest
                done, future = under_way.popleft()
                assert future.result()[()] == 0, done
                future.release()
            if number % 30 == 29:
                counts.append(kept())
    assert counts[-1] <= counts[0] + 10, counts
