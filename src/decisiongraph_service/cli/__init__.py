"""The `decisiongraph` command, one file per command group."""
