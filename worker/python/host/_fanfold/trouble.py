"""Says why a slice of a table can't be read: where its user has to look, and what is wrong there."""

from . import culprit
from .failure import reason_of, text_of


def explain(reader, where, error):
    """Why a slice can't be read, with the row that is in the way as far as it can be told."""
    if reader.kind != "parquet":
        try:
            told = _undecodable(reader, where, error)
            if told is None and reader.kind == "jsonl":
                told = _no_json(where)
            told = told or _search(reader, where, error)
            if told:
                return told
        except MemoryError:
            raise
        except Exception:
            # It is an explanation that failed, not what is explained.
            pass
    return "{}: {}".format(where.place(), reason_of(error))


def unit(packed):
    """What the bytes are of that are counted in a file which is packed so: goes behind their number."""
    return " once it is unpacked" if packed else ""


def of_row(reader, content, at, unit, error):
    """What is wrong with one row, these bytes, of which the first is the one behind so many of this unit: goes behind its place."""
    undecodable = culprit.undecodable([content], reader.encoding) if isinstance(error, UnicodeError) else None
    if undecodable:
        return _no_text(reader, at, unit, undecodable)
    if isinstance(error, reader.pandas.errors.ParserWarning):
        return ": it has more fields than the file has columns"
    found = culprit.json_line([content]) if reader.kind == "jsonl" else None
    if found:
        return ", byte {}{}: {}".format(at + found[1] + 1, unit, found[2])
    return ": " + culprit.without_line(reason_of(error))


def _undecodable(reader, where, error):
    if not isinstance(error, UnicodeError):
        return None
    for begin, parts in where.stretches():
        found = culprit.undecodable(parts, reader.encoding)
        if found is not None:
            break
    else:
        return None
    packed = where.compression
    row = _rows_before(reader, where, begin + found[0]) if begin == where.start and not packed else None
    place = where.file() if row is None else where.place_of(row)
    return place + _no_text(reader, begin, unit(packed), found)


def _no_text(reader, begin, unit, found):
    """That bytes are no text which were found behind so many of this unit."""
    offset, wrong, why = found
    if reader.kind == "jsonl":
        fix = "lines of JSON are read as UTF-8: if the file has another encoding, convert it (`iconv -f latin1 -t utf-8`)"
    else:
        fix = "if the file has another encoding, say which: `read_csv: {encoding: latin1}`"
    text = ", byte {}{}: {} is no {} ({}); {}"
    wrong = " ".join(map("0x{:02x}".format, wrong))
    return text.format(begin + offset + 1, unit, wrong, reader.encoding, why, fix)


def _rows_before(reader, where, at):
    """Rows of a slice before a byte of its file; None if that can't be told."""
    if reader.kind == "jsonl":
        return sum(1 for line in where.body(at).split(b"\n")[:-1] if line.strip())
    # All that is wanted is their number.
    options = dict(reader.csv_options(), dtype=str)
    # The row that is cut there is made one that ends, within quotes or without.
    for quote in ("", reader.options["quotechar"] or ""):
        try:
            body = where.body(at) + (quote + "x").encode(reader.encoding)
            rows = len(reader.rows(where, where.header(), body, options))
        except MemoryError:
            raise
        except Exception:
            continue
        return rows - 1 if rows else None
    return None


def _no_json(where):
    found = culprit.json_line(where.pieces())
    if found is None:
        return None
    row, at, reason = found
    return "{}, byte {}: {}".format(where.place_of(row), where.start + at + 1, reason)


def _search(reader, where, error):
    def read(rows):
        return reader.read(where, nrows=rows)

    found = culprit.search(read, error, reason_of(error))
    if found is None:
        return None
    rows = found.end - found.first
    column = _column_in_the_way(reader, where, found) if rows == 1 else None
    place = where.place_of(found.first, rows)
    if column is not None:
        place += ", column `{}`".format(column)
    return "{}: {}".format(place, culprit.without_line(reason_of(found.reason)))


def _column_in_the_way(reader, where, found):
    """Which of the columns with a dtype has a value that is none of it."""
    dtype = reader.options["dtype"]
    if reader.kind == "jsonl" or not isinstance(dtype, dict) or not reader.options["header"] or reader.mltable is not None:
        return None
    for name in dtype:
        try:
            reader.read(where, nrows=found.end, usecols=[name])
        except MemoryError:
            raise
        except Exception as error:
            if text_of(error) == text_of(found.reason):
                return name
    return None
