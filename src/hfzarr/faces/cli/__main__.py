"""``python -m hfzarr.faces.cli``: the same as ``hfzarr``."""

import sys

from hfzarr.faces.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
