"""The yardstick for maps: seconds for a million ints, of the standard library's pools.
Prints JSON: the median of RUNS runs each."""
import concurrent.futures
import json
import multiprocessing
import statistics
import sys
import time


def same(x):
    return x


def seconds(function, runs):
    took = []
    function()  # warm
    for _ in range(runs):
        begin = time.perf_counter()
        function()
        took.append(time.perf_counter() - begin)
    return statistics.median(took)


if __name__ == "__main__":
    items, runs = list(range(1000000)), int(sys.argv[1])
    figures = {}
    with multiprocessing.Pool(4) as pool:
        pool.map(same, range(1000))
        figures["pool"] = seconds(lambda: pool.map(same, items), runs)
    with concurrent.futures.ProcessPoolExecutor(4) as executor:
        list(executor.map(same, range(1000), chunksize=100))
        figures["futures"] = seconds(
            lambda: list(executor.map(same, items, chunksize=15625)), runs)
    print(json.dumps(figures))
