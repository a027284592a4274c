"""What anybody does with a deployment's log: read it, keep it, check it, follow it. No terminal in here."""
