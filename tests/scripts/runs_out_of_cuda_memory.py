"""run() raises what PyTorch raises when a GPU has no memory left, for one item; that process is of no use any more."""
broken = False


def run(mini_batch):
    global broken
    broken = broken or "item-003" in mini_batch
    if broken:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 15.78 GiB total capacity)")
    return mini_batch
