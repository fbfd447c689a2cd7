"""The lexicon and the grammar of the embedded sentence pairs."""
