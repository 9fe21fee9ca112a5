"""How much memory a program takes, without what it starts of other programs."""

import os


class Peak:
    """Called with a process id again and again while that runs: keeps the largest peak (`VmHWM`, MiB) of the process and of those of its
    children that run the same program."""

    def __init__(self):
        self.mib = 0.0

    def __call__(self, pid):
        family = [pid]
        try:
            program = os.readlink(f"/proc/{pid}/exe")
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as file:
                    family += file.read().split()
        except OSError:
            return  # it ended between two looks
        for member in family:
            try:
                with open(f"/proc/{member}/status") as file:
                    status = dict(line.rstrip().split(":", 1) for line in file)
                if os.readlink(f"/proc/{member}/exe") == program and "VmHWM" in status:
                    self.mib = max(self.mib, int(status["VmHWM"].split()[0]) / 1024)
            except OSError:
                pass
