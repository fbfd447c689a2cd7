"""The token that ends a turn is learnt and stops generation, whatever the checkpoint says."""

from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from lit_fed.backbones import CausalLM
from lit_fed.data import (
    ChatTemplate,
    FederatedDataModule,
    InstructionEncoding,
    InstructionRecords,
)
from tests.data.encodings import chat_tokenizers
from tests.methods.toy_chats import chat_rows, llama_config


def saved(folder: Path) -> Path:
    """A model whose checkpoint does not know what ends a turn of its tokenizer's template."""
    tokenizer = chat_tokenizers.phi()
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(llama_config(len(tokenizer))).save_pretrained(folder)
    return folder


def test_the_end_of_a_turn_stops_generation(tmp_path: Path) -> None:
    backbone = CausalLM(str(saved(tmp_path)), peft=None)
    tokenizer = backbone.tokenizer
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    encoding = InstructionEncoding(InstructionRecords(context=None))
    assert encoding.stop_ids(tokenizer) == [end]
    rows = chat_rows(4)
    features = encoding.encode(rows, tokenizer, 300)
    optimizer = torch.optim.Adam(backbone.parameters(), lr=1e-2)
    batch = features.batch(range(4))
    for _ in range(150):
        prediction = backbone(batch)
        loss = torch.nn.functional.cross_entropy(
            prediction.logits[prediction.mask], prediction.targets[prediction.mask]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    answers = backbone.generate(encoding.prompt_ids(rows, tokenizer), max_new_tokens=60)
    assert answers == rows["response"][:]
    # an exported model stops there as well
    backbone.save_pretrained(tmp_path / "out")
    told = LlamaForCausalLM.from_pretrained(tmp_path / "out").generation_config.eos_token_id
    assert end in ([told] if isinstance(told, int) else told)


def test_the_end_of_another_template_is_told_by_the_data(tmp_path: Path) -> None:
    backbone = CausalLM(str(saved(tmp_path)), peft=None)
    text = "{% for m in messages %}{{ m.content + '<|user|>' }}{% endfor %}"
    encoding = InstructionEncoding(InstructionRecords(context=None), ChatTemplate(text))
    user = backbone.tokenizer.convert_tokens_to_ids("<|user|>")
    assert user not in backbone._ends()
    data = FederatedDataModule(chat_rows(20), encoding=encoding, num_clients=2)
    data.check({"backbone": backbone})
    assert user in backbone._ends()
