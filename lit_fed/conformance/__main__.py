"""``python -m lit_fed.conformance lora --rule <class path>``: what holds of a rule that aggregates LoRA updates."""

from lit_fed.conformance.command import main

if __name__ == "__main__":
    main()
