"""The configurations by kind, and those that an overlay's first line names."""

from pathlib import Path

CONFIGS = Path(__file__).parents[2] / "configs"
OVERLAYS = sorted((CONFIGS / "data").glob("*.yaml"))
REWRITINGS = sorted((CONFIGS / "rewriting").glob("*.yaml"))
ATTACKS = sorted((CONFIGS / "attacks").glob("*.yaml"))
DEFENSES = sorted((CONFIGS / "defenses").glob("*.yaml"))
INPUT_DEFENSES = CONFIGS / "defenses" / "inputs.yaml"
ANSWER_FILTERS = [
    CONFIGS / "defenses" / f"{name}.yaml" for name in ("perplexity", "prototype_filter")
]
ROW_DEFENSES = [path for path in DEFENSES if path not in (INPUT_DEFENSES, *ANSWER_FILTERS)]
BACKBONES = sorted((CONFIGS / "backbones").glob("*.yaml"))
COMPRESSIONS = sorted((CONFIGS / "compression").glob("*.yaml"))
PRIVACY = sorted((CONFIGS / "privacy").glob("*.yaml"))
EVALUATIONS = sorted((CONFIGS / "evaluations").glob("*.yaml"))
FEW_REFERENCES = [
    "--data.public.init_args.size=60",
    "--model.encoder.init_args.epochs=1",
    "--model.num_prototypes=12",
]
ANSWERED = ("answers", "embedded_answers")
BLACK_BOXES = sorted((CONFIGS / "black_boxes").glob("*.yaml"))
CONSENSUS = sorted((CONFIGS / "consensus").glob("*.yaml"))
CLIENTS = sorted((CONFIGS / "clients").glob("*.yaml"))
THREE_MODELS = CONFIGS / "clients" / "three_models.yaml"
POOLED = CONFIGS / "clients" / "pooled.yaml"
FEW_OF_FILES = CONFIGS / "clients" / "few_rows_of_files.yaml"
BACKDOORS = sorted((CONFIGS / "backdoors").glob("*.yaml"))
OTHERWISE = sorted(
    path
    for kind in ("optimizers", "prototypes", "ranks", "selectors", "teachers", "weak")
    for path in (CONFIGS / kind).glob("*.yaml")
)
COME_OVER = [
    *OVERLAYS,
    *REWRITINGS,
    *ATTACKS,
    *DEFENSES,
    *BACKBONES,
    *COMPRESSIONS,
    *PRIVACY,
    *EVALUATIONS,
    *BLACK_BOXES,
    *CONSENSUS,
    *CLIENTS,
    *BACKDOORS,
    *OTHERWISE,
]
CLAIMS = sorted((CONFIGS / "studies").rglob("claims.yaml"))
STUDIES = sorted(set((CONFIGS / "studies").rglob("*.yaml")) - set(CLAIMS))
PATHS = sorted([*CONFIGS.glob("*.yaml"), *(CONFIGS / "gpu").glob("*.yaml")])
NAMES = [str(path.relative_to(CONFIGS)) for path in PATHS]
QUICK = ("lora_fedavg", "ddg_msi", "semantic_consensus", "prototype_defense")
OVERLAY_NAMES = [str(path.relative_to(CONFIGS)) for path in OVERLAYS]
CLASSIFIERS = [p for p in sorted(CONFIGS.glob("*.yaml")) if "CausalLM" not in p.read_text("utf-8")]
METHOD = CONFIGS / "lora_fedavg.yaml"
GENERATING = CONFIGS / "lora_fedavg_instructions.yaml"
INSTRUCTIONS = ("alpaca", "chats", "dolly_clients", "questions")
TABLE_1 = ["fed_pet", "lora_fedavg", "fed_prompt", "fed_adapters", "ddg_msi"]


def read_with(path: Path, method: str) -> list[Path]:
    """The configurations that the first line of an overlay names, with another method's in place of the first."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    files = [CONFIGS.parent / file for file in first.split(" --config ")[1:]]
    assert first == " ".join(
        ["# lit-fed fit", *(f"--config {file.relative_to(CONFIGS.parent)}" for file in files)]
    )
    assert files[-1] == path
    return [CONFIGS / f"{method}.yaml", *files[1:]]
