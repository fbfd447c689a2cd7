"""The commands that train or evaluate, what each does, and an example of each command."""

RUNS = {
    "fit": "Run the federation; `lit-fed fit --help` lists all settings.",
    "validate": "Evaluate a checkpoint on the validation rows.",
    "test": "Evaluate a checkpoint on the test sets.",
    "predict": "Predict the rows of the test sets.",
    "export": "Write the model of a checkpoint, the global or a client's, to a folder that peft or transformers loads.",
}

EXAMPLES = {
    "fit": "lit-fed fit --config lora_fedavg --trainer.default_root_dir runs/mine",
    "validate": "lit-fed validate --config runs/mine/config.yaml --ckpt_path last",
    "test": "lit-fed test --config runs/mine/config.yaml --ckpt_path last",
    "predict": "lit-fed predict --config runs/mine/config.yaml --ckpt_path last --output predictions.jsonl",
    "export": "lit-fed export --config runs/mine/config.yaml --output my_model --merge true",
    "quickstart": "lit-fed quickstart --seeds 3 --root runs/quickstart",
    "init": "lit-fed init my_federation --config lora_fedavg",
    "list": "lit-fed list | grep -i krum",
    "completion": "lit-fed completion bash > ~/.local/share/bash-completion/completions/lit-fed",
}
"""A line for each command, which its help ends with."""
