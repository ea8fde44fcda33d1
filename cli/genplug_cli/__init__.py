"""The command line of genplug: commands, terminal output and progress; what they do is in core."""
