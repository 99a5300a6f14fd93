"""`python -m restrl`: the command, for launchers that start modules."""

import sys

from restrl.cli import main

sys.exit(main())
