"""What promises are made from beside the model, and how they were kept: probes, counted lengths, the record."""
