"""run() starts a program and forgets it."""
import subprocess


def run(mini_batch):
    subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return mini_batch
