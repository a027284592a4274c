"""What happens to a model before it is encrypted: found, converted, tried, declared. No terminal in here."""
