"""What the texts say: checks of replies, of language, of what should never be learned."""
