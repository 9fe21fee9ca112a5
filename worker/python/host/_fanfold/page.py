"""The page on which this process says what it is doing: words of a file that the worker has mapped as well."""
import mmap
import os

STARTING, IMPORTING, INIT, WAITING, OVERHEAD, RUN, SHUTDOWN = range(7)

PID, STATE, SINCE, ATTEMPT, FINISHED, STOP = 1, 2, 3, 4, 5, 6


def open_page(path):
    """The words of the page; assigning one is one store."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        page = mmap.mmap(fd, 4096)
    finally:
        os.close(fd)
    return memoryview(page).cast("Q")
