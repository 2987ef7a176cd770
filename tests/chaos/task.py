"""What every item of chaos does."""
import os
import time


def job(x, runs):
    with open(runs, "a") as file:
        file.write(f"{x}\n")
    time.sleep(0.0005)
    if x % 3001 == 3000:
        os.kill(os.getpid(), 9)
    if x % 701 == 700:
        raise ValueError(x)
    return x * 7 + 1
