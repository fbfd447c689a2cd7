"""Generation: how a language model continues prompts, in parts that know nothing of backbones."""
