"""Two functions to try a fleet with: peach run -n 4 -l multip.py func 1..3"""
import numpy as np


def func(x):
    """Five evenly spaced points from 0 to x."""
    return np.linspace(0, x, 5)


def fnc(x):
    """x itself."""
    return x
