"""The script imports a module that is not installed."""
import no_such_module_anywhere


def run(mini_batch):
    return no_such_module_anywhere.work(mini_batch)
