"""Which of the 1797 digits are held out: the model never sees them, the images are made of them and nothing else."""

EVERY = 5


def held_out(index):
    """Whether the digit at this index of load_digits() is one to predict."""
    return index % EVERY == 0
