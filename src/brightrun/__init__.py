"""BrightRun: from what an expert knows to a language model that answers as they would, with proof."""

__version__ = "0.1.0"
