"""run() uses a pool of forked processes, which is legal."""
import multiprocessing


def same(item):
    return item


def run(mini_batch):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(same, mini_batch)
