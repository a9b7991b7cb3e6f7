"""``python -m hfzarr``: the same as the command ``hfzarr``."""

import sys

from hfzarr.faces.cli import main

if __name__ == "__main__":
    sys.exit(main())
