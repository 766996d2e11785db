"""`python -m pilvi` is the `pilvi` command."""

from pilvi.cli.main import main

raise SystemExit(main())
