# SPDX-License-Identifier: Apache-2.0
"""`python -m jaxinit`."""

import sys

from jaxinit.cli import main

if __name__ == "__main__":
    sys.exit(main())
