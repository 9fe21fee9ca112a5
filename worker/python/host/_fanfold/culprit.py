"""Finds the row that keeps a part of a table from being read, so that its user need not look for it among thousands.

pandas names no row, or one that is counted from the beginning of what it was given. What is read here is read again, in ever smaller
parts: it must not take longer than ``task_overhead_timeout`` leaves, so whoever has searched for some seconds tells what he knows by then.
"""

import codecs
import json
import re
import time

# For the search. An attempt that fails has read its part once already, within 30 s unless the job says otherwise.
_SECONDS = 3.0
_LINE = re.compile(r" (?:in|starting at|at) (?:line|row) (\d+)")


class Culprit:
    """The first row that can't be read: the rows before ``first``, counted from 0 in what was read, can be, those up to ``end`` can't."""

    def __init__(self, first, end, reason):
        self.first = first
        self.end = end
        self.reason = reason


def search(read, error, reason, seconds=_SECONDS, clock=time.monotonic):
    """Where in a table lies what ``error`` was raised for, or None. ``read(rows)`` reads that many of its rows, or raises it again."""
    until = clock() + seconds
    last = {"error": error, "took": 0.0, "rows": 1}

    def fails(rows):
        began = clock()
        try:
            return rows > len(read(rows))
        except MemoryError:
            raise
        except Exception as again:
            last["error"] = again
            return True
        finally:
            last.update(took=clock() - began, rows=rows)

    good, bad = 0, None
    found = _LINE.search(reason)
    if found:
        # Lines are rows where none is blank and no field has a newline.
        guess = max(1, int(found.group(1)) - 2)
        probes = [guess, guess + 1, guess - 1, guess + 2]
    else:
        probes = []
    while bad is None or bad - good > 1:
        rows = next((probe for probe in probes if good < probe and (bad is None or probe < bad)), None)
        if rows is None:
            rows = 2 * good or 1 if bad is None else (good + bad) // 2
        else:
            probes.remove(rows)
        if clock() + last["took"] * rows / last["rows"] > until:
            break
        if fails(rows):
            bad = rows
        else:
            good = rows
    if bad is None:
        return None
    return Culprit(good, bad, last["error"])


def without_line(reason):
    """What pandas says, without a line that is counted from where no user counts."""
    return _LINE.sub("", reason).replace("Error tokenizing data. C error: ", "")


def undecodable(parts, encoding):
    """The offset of the first bytes that are no text in this encoding, these bytes and why; None if there are none, or the encoding
    can't be read in pieces."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        return None
    at = 0
    try:
        for piece in parts:
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(piece)
            except UnicodeDecodeError as error:
                return at - held + error.start, bytes(error.object[error.start : error.end]), error.reason
            at += len(piece)
        held = decoder.getstate()[0]
        try:
            decoder.decode(b"", True)
        except UnicodeDecodeError as error:
            return at - len(held) + error.start, bytes(error.object[error.start : error.end]), error.reason
    except OSError:
        return None
    return None


def json_line(parts, seconds=_SECONDS, clock=time.monotonic):
    """The number of the first line that is no JSON, from 0 and without blank ones, where it begins and why; None if all are, or for want of time."""
    until = clock() + seconds
    row, at, rest = 0, 0, b""
    for part in parts:
        lines = (rest + part).split(b"\n")
        rest = lines.pop()
        for line in lines:
            reason = _no_json(line)
            if reason:
                return row, at, reason
            row += bool(line.strip())
            at += len(line) + 1
        if clock() > until:
            return None
    reason = _no_json(rest)
    return (row, at, reason) if reason else None


def _no_json(line):
    if not line.strip():
        return None
    try:
        json.loads(line[3:] if line.startswith(codecs.BOM_UTF8) else line)
    except json.JSONDecodeError as error:
        return "{} at character {} of its line".format(error.msg, error.pos + 1)
    except ValueError as error:
        return str(error)
    return None
