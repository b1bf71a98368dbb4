"""One thread for numpy's linear algebra, in every test and in every process that a test starts.

The tests multiply small matrices by the thousand. With a thread per core each product ends with the threads waiting busily for each other,
and where other tests have the cores a product of microseconds takes a slice of the scheduler: the accuracy tests took ten times as long
beside others. One thread also adds up in the same order on every machine. Replicas and the solver's process do so too.

The libraries read these when numpy is imported first, so they stand in front of every import of a test.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
