"""The worlds of the embedded data: their words and sentences, and what is drawn from them."""
