"""run() allocates, for one item, until a limit on its address space stops it."""
import resource


def run(mini_batch):
    if "item-003" in mini_batch:
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20), resource.getrlimit(resource.RLIMIT_AS)[1]))
        kept = []
        while True:
            kept.append(bytearray(4 << 20))
    return mini_batch
