"""What owners and model owners do with their keys: propose, sign, begin, pack. No terminal in here."""
