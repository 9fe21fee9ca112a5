"""run() raises a CUDA error for one item, and from then on for everything: only a new process helps."""
broken = False


def run(mini_batch):
    global broken
    broken = broken or "item-003" in mini_batch
    if broken:
        raise RuntimeError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`.")
    return mini_batch
