"""`python -m manylambda`."""

from manylambda.cli import main

raise SystemExit(main())
