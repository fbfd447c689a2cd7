"""The trained model in the format of peft and transformers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lightning.pytorch.utilities import rank_zero_info

from lit_fed.atomic_files import whole_folder, write_file
from lit_fed.backbones import BlackBox
from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.callbacks.model_card import model_card

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


_LONGEST = 100


def folder_names(clients: Sequence[str]) -> list[str]:
    """A name for each client's folder: its own, percent-encoded, as far as file systems take it.

    Args:
        clients: The clients' names.

    Example:
        >>> folder_names(["ward 1", "north/east", "Ward 1", "..", "x" * 300])[:4]
        ['ward 1~0', 'north%2Feast', 'Ward 1~2', '%2E%2E']
    """
    encoded = [quote(client, safe=" ", errors="surrogatepass") for client in clients]
    encoded = [name.replace(".", "%2E") if not name.strip(".") else name for name in encoded]
    same = Counter(name.lower() for name in encoded)
    return [
        f"{name[:_LONGEST]}~{i}"
        if not name.strip() or len(name) > _LONGEST or same[name.lower()] > 1
        else name
        for i, name in enumerate(encoded)
    ]


class AdapterExport(FederatedCallback):
    """Saves the trained model to ``adapter/`` in the run's folder when a fit ends.

    The folder holds what :meth:`peft.PeftModel.from_pretrained` loads, and the tokenizer; without
    PEFT it holds the whole model, for ``from_pretrained`` of transformers. Its ``README.md`` is a model card with the
    hub's metadata (:func:`~lit_fed.callbacks.model_card.model_card`). A method without a
    global model (``has_global_model`` is false) leaves one such folder per client,
    ``adapter/<client>``, of those that have taken part; the client's name is percent-encoded and, where that
    is long or differs from another's in upper and lower case only, followed by the client's position. Where clients
    have models of their own beside the global one (``has_client_models``), these are in ``client_adapters/<client>``;
    one of several adapters, such as FedSDR's, is saved as one. A client whose model is a black box has nothing to be
    saved.

    Args:
        clients: Whether the clients' own models are saved.
    """

    def __init__(self, clients: bool = True) -> None:
        self.clients = clients

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Save the model or models; an earlier export of the same run is replaced."""
        folder = self.run_folder(trainer)
        # Of a sharded model every process has a part to give.
        if trainer.fast_dev_run or (folder is None and not module.backbone.is_sharded):
            return
        if not module.has_global_model and not self.clients:
            rank_zero_info(f"no adapter is saved: {type(module).__name__} has no global model")
            return
        both = module.has_global_model and module.has_client_models and self.clients
        kinds = {"adapter": _save_global if module.has_global_model else _save_clients}
        kinds |= {"client_adapters": _save_clients} if both else {}
        for name, save in kinds.items():
            if folder is None:
                save(trainer, module, None)
                continue
            with whole_folder(folder / name) as writing:
                save(trainer, module, writing)


def export_model(
    trainer: FederationView,
    module: FederatedModule,
    folder: Path,
    client: int | None = None,
    merge: bool = False,
) -> None:
    """Write the global model of a federation, or a client's own, to a folder, whole or not at all.

    Args:
        trainer: The run's.
        module: Its module.
        folder: Where to.
        client: The client's position among all. None: the global model.
        merge: Whether adapters are merged into the weights.

    Raises:
        ValueError: If there is no such model, or its adapters cannot be merged.
    """
    state = trainer.federation
    if not state.round:
        loaded = "" if module.loaded_from is None else f", such as {str(module.loaded_from)!r}"
        raise ValueError(
            "export expects a model that has been trained, but no round is finished: name a checkpoint as `ckpt_path`"
            f"{loaded}"
        )
    if client is None and not module.has_global_model:
        raise ValueError(
            f"export expects a method with a global model, but {type(module).__name__} has none: name the client whose "
            "model it is as `client`"
        )
    if client is not None:
        name = trainer.datamodule.clients[client].id
        if name not in state.clients or not state.clients[name].rounds:
            raise ValueError(
                f"`client` is expected to be one that has taken part, but {name!r} has not"
            )
        trainer.act_as_client(client)
        if isinstance(module.backbone, BlackBox):
            raise ValueError(
                f"`client` is expected to have a model of its own, but that of {name!r} answers alone"
            )
    else:
        trainer.act_as_server()
    if trainer.is_global_zero:
        with whole_folder(folder) as writing:
            save_model(trainer, module, writing, client is not None, merge)
    elif module.backbone.is_sharded and not merge:
        save_model(trainer, module, None, client is not None)
    trainer.act_as_server()


def _save_global(trainer: FederationView, module: FederatedModule, folder: Path | None) -> None:
    save_model(trainer, module, folder)


def _save_clients(trainer: FederationView, module: FederatedModule, folder: Path | None) -> None:
    states = trainer.federation.clients
    names = folder_names([client.id for client in trainer.datamodule.clients])
    for index, client in enumerate(trainer.datamodule.clients):
        if client.id in states and states[client.id].rounds:
            trainer.act_as_client(index)
            if isinstance(module.backbone, BlackBox):
                continue
            save_model(trainer, module, folder and folder / names[index], personal=True)
    trainer.act_as_server()


def save_model(
    trainer: FederationView,
    module: FederatedModule,
    folder: Path | None,
    personal: bool = False,
    merge: bool = False,
) -> None:
    """Write the model that a module is at the moment, and its card.

    Args:
        trainer: The run's.
        module: The server or a client.
        folder: Where to. None: nowhere, for the processes of a sharded model that do not write.
        personal: Whether it is a client's own model.
        merge: Whether adapters are merged into the weights, so that it is a whole model.

    Raises:
        ValueError: If adapters cannot be merged.
    """
    adapters = module.backbone.active_adapters if personal else ()
    if merge and folder is not None:
        module.backbone.save_merged(folder, *adapters)
    else:
        module.backbone.save_pretrained(folder, *adapters)
    if folder is not None:  # in the place of peft's form
        write_file(folder / "README.md", model_card(trainer, module, personal, merge))
