"""Composition roots: the command line, the local cluster, the demonstration, the mains of the processes."""
