"""What makes a log one that everybody sees alike: Merkle proofs, signed notes, checkpoints."""
