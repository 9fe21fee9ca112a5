"""Exceptions of the script, told for the user: without our frames, capped, and whatever their ``__str__`` does."""

import os
import traceback

MESSAGE_CHARS = 2000
TRACEBACK_BYTES = 64 * 1024

# A recursion limit raised to a million makes a stack that takes longer to format than the mini-batch took to run.
_FRAMES = 2000

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_START = os.path.join(os.path.dirname(os.path.dirname(_HERE)), "fanfold_host.py")

# How the line of a frame of the script begins, once it is known where it lies.
_FROM = {"file": None}

_DEVICE_MEMORY = (
    "cuda out of memory",
    "cuda error: out of memory",
    "hip out of memory",
    "cuda_error_out_of_memory",
    "cudaerrormemoryallocation",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "oom when allocating tensor",
    "resource_exhausted: out of memory",
)
# How CPython says that memory ran out while it was telling that memory ran out.
_NO_MEMORY_TO_TELL = "error return without exception set"
_DEVICE_LOST = (
    "cuda error",
    "cuda_error_",
    "cudaerror",
    "hip error",
    "cublas_status_",
    "cudnn_status_",
    "cudnn error",
    "device-side assert",
    "an illegal memory access",
)


def type_name(cls):
    """``ValueError``, ``numpy.ndarray``: as Python's tracebacks spell a class."""
    module = getattr(cls, "__module__", None)
    name = getattr(cls, "__qualname__", cls.__name__)
    return name if module in (None, "builtins", "__main__") else "{}.{}".format(module, name)


def text_of(error):
    """``str(error)``, which the script may have broken."""
    try:
        return str(error)
    except BaseException:
        return "<its text can't be had: {}.__str__() raised>".format(type(error).__name__)


def reason_of(error):
    """One line: what an error says, or its type where it says nothing."""
    return one_line(text_of(error)) or type(error).__name__


def message_of(error, calling):
    """One line: ``ValueError: bad pixel``. ``calling`` names what was running: ``run()``."""
    if isinstance(error, SystemExit):
        return _exit_message(error, calling)
    text = one_line(text_of(error))
    name = type_name(type(error))
    return one_line("{}: {}".format(name, text) if text else name)


def _exit_message(error, calling):
    code = "" if error.code is None else one_line(_repr(error.code))
    message = "{} called sys.exit({})".format(calling, code)
    last = None
    frame = error.__traceback__
    while frame is not None:
        last, frame = frame, frame.tb_next
    if last is not None and os.path.basename(last.tb_frame.f_code.co_filename) == "argparse.py":
        message += ": argparse does that for arguments it does not know, and a job has more than the script's own; "
        message += "use parse_known_args() in place of parse_args()"
    return message


def _repr(value):
    try:
        return repr(value)
    except BaseException:
        return "<{}>".format(type(value).__name__)


def one_line(text):
    """``text`` on one line, at most MESSAGE_CHARS long, without what UTF-8 can't carry."""
    if len(text) > 4 * MESSAGE_CHARS:
        text = text[: 4 * MESSAGE_CHARS]
    text = " ".join(line.strip() for line in text.splitlines() if line.strip())
    if len(text) > MESSAGE_CHARS:
        text = text[: MESSAGE_CHARS - 1] + "\u2026"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def tell_from(working_dir):
    """From now on, files in ``working_dir`` are told relative to it: the user knows his script by that name, not by our copy's."""
    _FROM["file"] = '  File "{}{}'.format(working_dir, os.sep)


def traceback_of(error):
    """The traceback text, causes and contexts included, without the host's frames."""
    try:
        text = _format(error)
    except BaseException:
        # Out of memory or out of stack once more, or an exception class that breaks the formatter.
        text = "{}: {}\n".format(type_name(type(error)), text_of(error))
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > TRACEBACK_BYTES:
        half = TRACEBACK_BYTES // 2 - 40
        head = data[:half].decode("utf-8", "ignore")
        tail = data[-half:].decode("utf-8", "ignore")
        return "{}\n... {} bytes left out ...\n{}".format(head, len(data) - 2 * half, tail)
    return data.decode("utf-8")


def _format(error):
    frames, frame = 0, error.__traceback__
    while frame is not None:
        frames, frame = frames + 1, frame.tb_next
    limit = None if frames <= _FRAMES else -_FRAMES
    told = traceback.TracebackException(type(error), error, error.__traceback__, limit=limit)
    _drop_our_frames(told, set())
    text = "".join(told.format())
    return text.replace(_FROM["file"], '  File "') if _FROM["file"] else text


def _drop_our_frames(told, seen):
    if told is None or id(told) in seen:
        return
    seen.add(id(told))
    frames = [frame for frame in told.stack if not _is_ours(frame.filename)]
    # Between us and the script there may be the import system or a profiler.
    while frames and _is_between(frames[0].filename):
        del frames[0]
    told.stack[:] = frames
    _drop_our_frames(told.__cause__, seen)
    _drop_our_frames(told.__context__, seen)
    for part in getattr(told, "exceptions", None) or ():
        _drop_our_frames(part, seen)


def _is_ours(path):
    return path.startswith(_HERE) or path == _START


def _is_between(path):
    if path.startswith("<frozen importlib") or os.path.basename(path) in ("cProfile.py", "profile.py"):
        return True
    return os.path.basename(path) == "__init__.py" and os.path.basename(os.path.dirname(path)) == "importlib"


def make_room(error):
    """Gives back what the frames of ``error`` hold, so that there is memory left to tell of it. Costs the traceback nothing."""
    if isinstance(error, (MemoryError, SystemError)):
        traceback.clear_frames(error.__traceback__)


def classify(error):
    """``(kind, retire)`` of an exception out of ``run()``: what class it is, and whether the process is done for.

    Looks through the causes too: frameworks wrap the error that says the device is lost.
    """
    if isinstance(error, SystemExit):
        return "exit", True
    lost = False
    for _ in range(32):
        if error is None:
            break
        text = text_of(error)[:10000].lower()
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return "oom", True
        if isinstance(error, SystemError):
            # The interpreter's own state is broken, or a C module's: nothing that runs here later is to be trusted.
            return ("oom" if text == _NO_MEMORY_TO_TELL else "exception"), True
        if any(sign in text for sign in _DEVICE_MEMORY):
            return "oom", True
        lost = lost or any(sign in text for sign in _DEVICE_LOST)
        if error.__cause__ is not None or error.__suppress_context__:
            error = error.__cause__
        else:
            error = error.__context__
    return "exception", lost
