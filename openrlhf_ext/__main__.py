"""`python -m openrlhf_ext` is the same program as `openrlhf-ext`."""

import sys

from openrlhf_ext.cli import main

if __name__ == "__main__":
    sys.exit(main())
