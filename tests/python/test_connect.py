"""How a fleet is asked for: its slots, its addresses, how long one waits for it."""
import os

import pytest
from test_modules import run

import peach


@pytest.mark.parametrize("slots", ["", "0", "None", '"auto"'])
def test_slots_may_be_one_a_core(slots):
    """operations.N30: of the cores that the process may use, as peach worker --slots auto counts."""
    assert run(f"""
import os, peach
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
with peach.init({slots}) as client:
    print(client.slots)
""") == "1"


def test_a_client_grows_its_fleet_to_one_a_core(make_client):
    """operations.N30"""
    client = make_client(1)
    assert client.init("auto") == len(os.sched_getaffinity(0)) - 1
    assert client.init(None) == 0 and client.init(0) == 0


@pytest.mark.parametrize("slots", ["4", "all", -1, 1025, 1.0])
def test_slots_that_are_none_are_named(client, slots):
    """operations.N30"""
    with pytest.raises(ValueError, match=f"slots {slots!r}.*auto"):
        client.init(slots)
    with pytest.raises(ValueError, match=f"slots {slots!r}.*auto"):
        peach.init(slots)
