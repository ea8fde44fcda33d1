"""`python -m genplug`, as `accelerate launch -m genplug run ...` needs it."""

from genplug_cli.main import main

main()
