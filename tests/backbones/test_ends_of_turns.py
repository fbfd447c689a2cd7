"""The token that ends a turn is learnt and stops generation, whatever the checkpoint says."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GenerationConfig, LlamaForCausalLM

from lit_fed import FedAvg
from lit_fed.backbones import CausalLM
from lit_fed.data import (
    ChatMLTemplate,
    ChatTemplate,
    FederatedDataModule,
    InstructionEncoding,
    InstructionRecords,
)
from tests.data.encodings import chat_tokenizers
from tests.federation.toy import toy_trainer
from tests.methods.toy_chats import chat_rows, llama_config, save_chat_lm


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


def test_a_loaded_run_and_an_exported_adapter_end_and_write_as_the_run(tmp_path: Path) -> None:
    """Of a tokenizer without a chat template, the data's has to come with the model."""
    folder = save_chat_lm(tmp_path / "model")
    tokenizer = chat_tokenizers.smollm()
    tokenizer.chat_template = None
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    template = ChatMLTemplate()
    encoding = InstructionEncoding(
        InstructionRecords(context=None), template, variables={"shout": True}
    )
    rows = chat_rows(12)
    data = FederatedDataModule(
        rows, encoding=encoding, num_clients=2, batch_size=4, max_length=128, seed=0
    )
    module = FedAvg(CausalLM(str(folder)))
    own = module.backbone.tokenizer
    trainer = toy_trainer(tmp_path / "run", max_rounds=1, clients_per_round=2, local_steps=1)
    trainer.fit(module, data)
    ends = module.backbone._ends()
    end = own.convert_tokens_to_ids("<|im_end|>")
    assert end in ends
    assert end != own.eos_token_id
    assert own.chat_template is None
    loaded = FedAvg.from_run(trainer.log_dir, module=FedAvg(CausalLM(str(folder))))
    assert loaded.backbone._ends() == ends
    export = Path(trainer.log_dir) / "adapter"
    assert GenerationConfig.from_pretrained(export).eos_token_id == ends
    exported: Any = AutoTokenizer.from_pretrained(export)
    for i, ids in enumerate(encoding.prompt_ids(rows, own)):
        asked = [{"role": "user", "content": rows[i]["instruction"]}]
        text = exported.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        assert exported(text, add_special_tokens=False)["input_ids"] == ids
    # what the template gets beside the conversation is there, and may be given
    text = f"{encoding.chat_template(own)}{{{{ shout }}}}"
    cases: list[tuple[dict[str, Any], str]] = [({}, "True"), ({"shout": 3}, "3")]
    for given, told in cases:
        written = exported.apply_chat_template(asked, chat_template=text, tokenize=False, **given)
        assert written.endswith(told)
