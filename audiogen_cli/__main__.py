"""`python -m audiogen_cli`, and so `accelerate launch -m audiogen_cli`."""

from audiogen_cli.app import main

main()
