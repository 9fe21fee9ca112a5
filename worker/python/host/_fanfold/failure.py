"""Exceptions of the script, as text: one line, a traceback without our own frames, and whether the process may go on."""
import traceback

MESSAGE_LIMIT = 2000
TRACEBACK_LIMIT = 64 * 1024

_OUT_OF_MEMORY = ("cuda out of memory", "cuda_error_out_of_memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed",
                  "hip out of memory", "cuda error: out of memory")
_CUDA = ("cuda error", "device-side assert", "illegal memory access", "cublas_status", "cudnn_status", "cuda driver error")


def message(error):
    """`ValueError: bad pixel`, on one line."""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as broken:
        text = "(its text can't be had: %s)" % type(broken).__name__
    text = " ".join(text.split("\n")).strip()
    line = "%s: %s" % (name, text) if text else name
    return line if len(line) <= MESSAGE_LIMIT else line[:MESSAGE_LIMIT] + "..."


def trace(error):
    """The traceback, chained causes included, without the frames of this package."""
    seen, link = set(), error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        step = link.__traceback__
        while step is not None and _ours(step):
            step = step.tb_next
        link.__traceback__ = step
        link = link.__cause__ or link.__context__
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except BaseException as broken:
        text = "%s\n(the traceback can't be had: %s)\n" % (message(error), type(broken).__name__)
    if len(text) > TRACEBACK_LIMIT:
        half = TRACEBACK_LIMIT // 2
        text = "%s\n... %d characters left out ...\n%s" % (text[:half], len(text) - 2 * half, text[-half:])
    return text


def _ours(step):
    return step.tb_frame.f_globals.get("__name__", "").startswith("_fanfold.")


def classify(error):
    """(kind, message, whether the process must not be used again)."""
    line = message(error)
    if isinstance(error, SystemExit):
        return "exit", "run() called sys.exit(%s)" % ("" if error.code is None else repr(error.code)), True
    if isinstance(error, MemoryError):
        return "oom", line, True
    low = line.lower()
    if type(error).__name__ == "OutOfMemoryError" or any(word in low for word in _OUT_OF_MEMORY):
        return "oom", line, True
    return "exception", line, any(word in low for word in _CUDA)
