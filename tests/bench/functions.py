"""What tests/bench runs on the fleet."""
import time


def same(x):
    return x


def nap(seconds):
    time.sleep(seconds)
    return seconds
