"""The network of Seq2Seq: a recurrent encoder read in both directions, and a recurrent decoder that attends to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

PAD, UNK, BOS, EOS = 0, 1, 2, 3
_CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


class Attention(nn.Module):
    """How much each source position counts for the present state: dot, bilinear, mlp, or the last one alone (fixed)."""

    def __init__(self, kind: str, queries: int, keys: int, hidden: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "mlp":
            self.query, self.key, self.score = (
                nn.Linear(queries, hidden),
                nn.Linear(keys, hidden, bias=False),
                nn.Linear(hidden, 1, bias=False),
            )
        elif kind != "fixed":
            self.key = nn.Linear(keys, queries, bias=False)

    def forward(self, query: torch.Tensor, keys: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """query: batch x steps x q; keys: batch x source x k. The context and the weights, batch x steps x source."""
        place = torch.arange(keys.shape[1], device=keys.device)[None, None]
        if self.kind == "fixed":
            weights = (place == (lengths - 1)[:, None, None]).float().expand(-1, query.shape[1], -1)
        else:
            if self.kind == "mlp":
                scores = self.score(torch.tanh(self.query(query)[:, :, None] + self.key(keys)[:, None]))[..., 0]
            else:
                scores = query @ self.key(keys).mT
            weights = torch.softmax(scores.masked_fill(place >= lengths[:, None, None], -1e9), 2)
        return weights @ keys, weights


class Translator(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = config
        hidden, cell = config["rnn_num_hidden"], _CELLS[config["rnn_cell_type"]]
        self.source = nn.Embedding(config["source_vocab"], config["num_embed_source"], padding_idx=PAD)
        self.target = nn.Embedding(config["target_vocab"], config["num_embed_target"], padding_idx=PAD)
        self.drop_source, self.drop_target = nn.Dropout(config["embed_dropout_source"]), nn.Dropout(config["embed_dropout_target"])
        layers = config["num_layers_encoder"]
        self.encoder = cell(config["num_embed_source"], (hidden + 1) // 2, layers, batch_first=True, bidirectional=True)
        self.width = (hidden + 1) // 2 * 2
        self.decoder = cell(config["num_embed_target"], hidden, config["num_layers_decoder"], batch_first=True)
        self.start = nn.Linear(self.width, hidden)
        self.attention = Attention(config["rnn_attention_type"], hidden, self.width, config["rnn_attention_num_hidden"] or hidden)
        self.joined = nn.Linear(hidden + self.width, hidden)
        self.drop_hidden = nn.Dropout(config["rnn_decoder_hidden_dropout"])
        self.out = nn.Linear(hidden, config["target_vocab"])
        scale = config["weight_init_scale"]
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2 and not name.startswith(("source", "target")):
                if config["weight_init_type"] == "xavier":
                    nn.init.xavier_uniform_(parameter, (scale / 3) ** 0.5)
                else:
                    nn.init.uniform_(parameter, -scale, scale)

    def encode(self, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """What the source says at each place, its lengths, and the decoder's first state."""
        lengths = (source != PAD).sum(1).clamp(min=1)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.drop_source(self.source(source)), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        keys, _ = nn.utils.rnn.pad_packed_sequence(self.encoder(packed)[0], batch_first=True)
        return keys, lengths, self._first_state(keys, lengths)

    def _first_state(self, keys: torch.Tensor, lengths: torch.Tensor) -> Any:
        how, layers = self.config["rnn_decoder_state_init"], self.config["num_layers_decoder"]
        if how == "zero":
            seen = keys.new_zeros(keys.shape[0], self.width)
        elif how == "avg":
            seen = keys.sum(1) / lengths[:, None]
        else:  # the forward direction's last place beside the backward direction's first
            half = self.width // 2
            last = keys[torch.arange(len(keys), device=keys.device), lengths - 1, :half]
            seen = torch.cat((last, keys[:, 0, half:]), 1)
        state = torch.tanh(self.start(seen))[None].repeat(layers, 1, 1)
        return (state, torch.zeros_like(state)) if self.config["rnn_cell_type"] == "lstm" else state

    def decode(
        self, previous: torch.Tensor, keys: torch.Tensor, lengths: torch.Tensor, state: Any
    ) -> tuple[torch.Tensor, Any, torch.Tensor]:
        """Logits after each of the previous words, the state behind the last, and the attention."""
        hidden, state = self.decoder(self.drop_target(self.target(previous)), state)
        context, weights = self.attention(hidden, keys, lengths)
        merged = torch.tanh(self.joined(torch.cat((hidden, context), 2)))
        return self.out(self.drop_hidden(merged)), state, weights

    def forward(self, source: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        keys, lengths, state = self.encode(source)
        found: torch.Tensor = self.decode(previous, keys, lengths, state)[0]
        return found

    @torch.no_grad()
    def translate(self, source: list[int], beam: int, longest: int) -> tuple[list[int], Any]:
        """The likeliest target by beam search, scores per word; and its attention, target x source."""
        self.eval()
        device = self.out.weight.device
        keys, lengths, state = self.encode(torch.tensor([source or [UNK]], device=device))
        beams: list[tuple[float, list[int], Any, list[Any]]] = [(0.0, [BOS], state, [])]
        ended: list[tuple[float, list[int], list[Any]]] = []
        for _ in range(longest):
            grown = []
            for score, words, state, seen in beams:
                logits, after, weights = self.decode(torch.tensor([[words[-1]]], device=device), keys, lengths, state)
                logits[..., [PAD, BOS]] = -1e9
                best = functional.log_softmax(logits[0, -1], 0).topk(min(beam, logits.shape[-1]))
                row = weights[0, -1].cpu().tolist()
                for value, word in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                    grown.append((score + value, [*words, word], after, [*seen, row]))
            grown.sort(key=lambda one: -one[0] / len(one[1]))
            ended += [(score / len(words), words[1:-1], seen[:-1]) for score, words, _, seen in grown[:beam] if words[-1] == EOS]
            beams = [one for one in grown[:beam] if one[1][-1] != EOS]
            if not beams or (ended and max(one[0] for one in ended) >= max(one[0] / len(one[1]) for one in beams)):
                break
        ended += [(score / len(words), words[1:], seen) for score, words, _, seen in beams if not ended]
        _, words, seen = max(ended, key=lambda one: one[0])
        return words, seen


def bleu(found: list[list[int]], truth: list[list[int]]) -> float:
    """Corpus BLEU of up to four words in a row, one reference each."""
    import math
    from collections import Counter

    total = 0.0
    for length in range(1, 5):
        hits = claims = 0
        for said, told in zip(found, truth, strict=True):
            grams = [Counter(tuple(one[at : at + length]) for at in range(len(one) - length + 1)) for one in (said, told)]
            hits += (grams[0] & grams[1]).total()
            claims += grams[0].total()
        if not hits:
            return 0.0
        total += math.log(hits / claims) / 4
    said_words, told_words = sum(map(len, found)), sum(map(len, truth))
    return math.exp(total + min(0.0, 1 - told_words / max(said_words, 1)))
