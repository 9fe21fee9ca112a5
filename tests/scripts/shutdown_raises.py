"""shutdown() raises: by then every result is in."""


def run(mini_batch):
    return mini_batch


def shutdown():
    raise RuntimeError("cannot close the session")
