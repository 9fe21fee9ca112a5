"""The program that a fanfold worker starts for each process: it runs the entry script.

Started as `python fanfold_host.py <in fd> <out fd>`. Standard library only, Python 3.7 and later. The protocol is described in
docs/design/host-protocol.md of fanfold.
"""
import os
import sys


def main():
    # The folder of this file must not shadow modules of the script; the package below is imported first.
    here = os.path.dirname(os.path.abspath(__file__))
    from _fanfold import host

    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    host.run(int(sys.argv[1]), int(sys.argv[2]))


# multiprocessing with "spawn" imports this file again under another name.
if __name__ == "__main__":
    main()
