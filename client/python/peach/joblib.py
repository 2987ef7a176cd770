# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""joblib on a fleet, and with it scikit-learn.

    import peach.joblib
    peach.joblib.register()
    with joblib.parallel_backend("peach"):      # joblib 1.3: parallel_config(backend="peach")
        GridSearchCV(model, grid, n_jobs=-1).fit(x, y)

n_jobs=-1 is every slot of the fleet. Arrays of 1 MB or more go to each host once for a call of
Parallel, and arrive read-only, as joblib's memory maps do. A task that calls Parallel itself
runs that in its own process, unless it chooses another backend.
"""
from __future__ import annotations

import copy
import weakref

from joblib.parallel import AutoBatchingMixin, ParallelBackendBase, register_parallel_backend

from . import _fleet
from ._client import Client
from ._functions import Source

LEAST = 1 << 20  # bytes of an array that is put

# A batch whose arguments are (False, value), or (True, i) for arrays[i].
BATCH = Source('''
def run(batch, *arrays):
    def get(argument):
        return arrays[argument[1]] if argument[0] else argument[1]
    batch.items = [(f, [get(a) for a in args], {k: get(a) for k, a in keywords.items()})
                   for f, args, keywords in batch.items]
    return batch()
''')


class PeachBackend(AutoBatchingMixin, ParallelBackendBase):
    """joblib's backend; client: whose fleet it uses (default: peach.init's or a new one)."""

    supports_timeout = True
    supports_return_generator = True
    supports_retrieve_callback = True
    uses_threads = False
    supports_sharedmem = False

    def __init__(self, client: Client | None = None, nesting_level=None, inner_max_num_threads=None,
                 **more):
        super().__init__(nesting_level=nesting_level, **more)
        self._chosen = client
        self._arrays: dict = {}
        self._futures: weakref.WeakSet = weakref.WeakSet()

    def __reduce__(self):
        return PeachBackend, (None, self.nesting_level)

    @property
    def _client(self) -> Client:
        return self._chosen or _fleet.current()

    def effective_n_jobs(self, n_jobs):
        """Calls at a time: all slots for -1, all but one for -2."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        slots = max(1, self._client.slots)
        return max(1, slots + 1 + n_jobs) if n_jobs < 0 else n_jobs

    def configure(self, n_jobs=1, parallel=None, **more):
        self.parallel = parallel
        self._arrays = {}
        return self.effective_n_jobs(n_jobs)

    def terminate(self):
        self._arrays = {}
        self.reset_batch_stats()

    def stop_call(self):
        self._arrays = {}

    def abort_everything(self, ensure_ready=True):
        for future in list(self._futures):
            future.cancel()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)

    def apply_async(self, func, callback=None):
        client = self._client
        refs: dict = {}  # id of an array: of this batch
        batch = copy.copy(func)
        batch.items = [(f, [self._argument(client, a, refs) for a in args],
                        {k: self._argument(client, a, refs) for k, a in keywords.items()})
                       for f, args, keywords in func.items]
        future = client.submit(BATCH, batch, *refs.values())
        self._futures.add(future)
        future.get = future.result  # joblib 1.2 asks so
        if callback is not None:
            future.add_done_callback(callback)
        return future

    submit = apply_async  # its name from joblib 1.5 on

    def _argument(self, client, value, refs):
        if type(value).__name__ != "ndarray" or value.nbytes < LEAST:
            return False, value
        if id(value) not in refs:
            refs[id(value)] = self._ref(client, value)
        return True, list(refs).index(id(value))

    def _ref(self, client, value):
        """Of the array as it is now: somebody may have written to it since the last batch."""
        known = self._arrays.get(id(value))
        if known is None or not known[1]._holds(value):
            # With the array: its id is not to be another's.
            known = self._arrays[id(value)] = value, client.put(value)
        return known[1]

    @staticmethod
    def retrieve_result_callback(future):
        return future.result()


def register(client: Client | None = None) -> None:
    """Make "peach" the name of this backend in joblib."""
    register_parallel_backend("peach", lambda **more: PeachBackend(client, **more))
