"""run() asks a question on standard input, for one item: nobody is there to answer."""


def run(mini_batch):
    if "item-003" in mini_batch:
        input("continue? ")
    return mini_batch
