"""Money spent, recorded once per charge."""
