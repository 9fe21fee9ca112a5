"""run() returns elements that are no strings: each row is what str() makes of it."""


class Scalar:
    """As numpy's scalars do, it prints as one thing and represents itself as another."""

    def __init__(self, value):
        self.value = value

    def __str__(self):
        return str(self.value)

    def __repr__(self):
        return f"Scalar({self.value!r})"


def run(mini_batch):
    return [[Scalar(7), float("nan"), None, {"a": 1}, ("b", 2.5), True][int(item[-1])] for item in mini_batch]
