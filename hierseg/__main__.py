"""Run the command line: `python -m hierseg`."""

import sys

from hierseg.cli import main

sys.exit(main())
