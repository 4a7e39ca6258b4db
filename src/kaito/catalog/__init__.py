"""Instance types and models: data files and their loaders. Loading is lazy and happens once a process."""
