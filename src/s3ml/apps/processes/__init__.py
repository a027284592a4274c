"""Process mains: one module per process, each with a `main` that takes its settings from its start."""
