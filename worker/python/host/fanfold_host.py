"""Starts the Python host of fanfold: ``<python> fanfold_host.py <in fd> <out fd>`` (docs/design/host-protocol.md).

This file alone also parses in older versions of Python, so that one of them is refused in words.
"""

import os
import sys

# multiprocessing imports this file under another name in the processes that a script spawns.
if __name__ == "__main__":
    if sys.version_info < (3, 7):
        import json
        import struct

        text = "fanfold needs Python 3.7 or later, and %s is Python %s" % (sys.executable, sys.version.split()[0])
        body = {"stage": "import", "type": "RuntimeError", "message": text, "traceback": ""}
        data = json.dumps(body).encode("ascii")
        os.write(int(sys.argv[2]), struct.pack("<I", len(data) + 1) + b"X" + data)
        sys.exit(1)

    here = os.path.dirname(os.path.abspath(__file__))
    # First for the imports below; main() moves it behind the script's own folders.
    sys.path[:] = [here] + [entry for entry in sys.path if entry != here]

    from _fanfold.main import main

    main(here, int(sys.argv[1]), int(sys.argv[2]))
