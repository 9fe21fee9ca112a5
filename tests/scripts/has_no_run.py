"""The script has no run()."""


def init():
    pass
