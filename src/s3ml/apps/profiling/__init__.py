"""What a model costs here: measured in processes of its own, judged, drawn. No terminal in here."""
