"""The commands that train or evaluate, and what each does."""

RUNS = {
    "fit": "Run the federation; `lit-fed fit --help` lists all settings.",
    "validate": "Evaluate a checkpoint on the validation rows.",
    "test": "Evaluate a checkpoint on the test sets.",
    "predict": "Predict the rows of the test sets.",
}
