"""What every part shares: root errors, time, secret bytes, encodings, signing and sealing helpers."""
