"""What people write on jobs to find them again: tags and notes."""
