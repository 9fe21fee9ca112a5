"""How measurements are shown."""

import statistics


def spread(values, form):
    """Median, smallest and largest."""
    shown = [form.format(value) for value in (statistics.median(values), min(values), max(values))]
    return f"{shown[0]} [{shown[1]}–{shown[2]}]"
