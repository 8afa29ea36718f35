"""Plain tasks: what a checkpoint holds, other formats, masks filled in."""
