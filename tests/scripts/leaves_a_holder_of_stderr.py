"""run() starts a program in a session of its own that keeps the process's stdout and stderr open."""
import subprocess


def run(mini_batch):
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    return mini_batch
