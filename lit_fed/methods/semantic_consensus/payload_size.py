"""Payload ratio: how many times fewer bytes answers are than the parameters of an adapter."""

from __future__ import annotations

from lit_fed.limits import require_positive


def payload_ratio(
    parameters: int, bytes_per_parameter: float, prompts: int, mean_reply_bytes: float
) -> float:
    """Bytes of an adapter's upload divided by those of the answers to a public set.

    Abourayya et al., "Beyond Parameter Aggregation: Semantic Consensus for Federated Fine-Tuning of LLMs" (2026),
    https://arxiv.org/abs/2605.11857, say 1006 for Llama3.1-405B without saying what they count. The example is one
    consistent reading, no replication.

    Args:
        parameters: Of the adapter, at least 1.
        bytes_per_parameter: 2 in half precision.
        prompts: Of the public set, at least 1.
        mean_reply_bytes: Of an answer, in UTF-8.

    Returns:
        The ratio; above 1 where answers are the smaller upload.

    Raises:
        ValueError: If one is not above 0.

    Example:
        >>> layers, width, keys, rank = 126, 16384, 1024, 16  # Llama3.1-405B, LoRA on queries and values
        >>> parameters = layers * rank * ((width + width) + (width + keys))
        >>> parameters * 2  # bytes in half precision
        202309632
        >>> round(payload_ratio(parameters, 2, prompts=1000, mean_reply_bytes=201.1))
        1006
    """
    sent = require_positive("parameters", parameters) * require_positive(
        "bytes_per_parameter", bytes_per_parameter
    )
    answers = require_positive("prompts", prompts) * require_positive(
        "mean_reply_bytes", mean_reply_bytes
    )
    return sent / answers
