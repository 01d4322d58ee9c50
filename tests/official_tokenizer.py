"""The official tokenizer's rules written out anew, and what spans must hold."""

import unicodedata

import numpy as np
import sentencepiece as spm

GOLDEN = {
    "this is a test": [48, 25, 21, 1289],
    # fmt: off
    "ALBERT: A Lite BERT for Self-supervised Learning of Language Representations": [
        2953,
        45,
        21,
        13,
        10601,
        11502,
        26,
        1119,
        8,
        8542,
        3762,
        69,
        2477,
        16,
        816,
        18667,
    ],
    # fmt: on
}


def official_normalize(
    text: str, lower_case: bool = True, keep_accents: bool = False
) -> str:
    """``preprocess_text``, a character at a time, with Hugging Face's options."""
    text = " ".join(text.strip().split())
    if not keep_accents:
        text = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in text if not unicodedata.combining(c))
    return text.lower() if lower_case else text


def official_pieces(
    model: spm.SentencePieceProcessor, text: str, **options: bool
) -> list[str]:
    """``encode_pieces``, one piece after another."""
    pieces = []
    for piece in model.encode(official_normalize(text, **options), out_type=str):
        if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
            again = model.encode(piece[:-1].replace("▁", ""), out_type=str)
            if piece[0] != "▁" and again[0][0] == "▁":
                if len(again[0]) == 1:
                    again = again[1:]
                else:
                    again[0] = again[0][1:]
            pieces += [*again, ","]
        else:
            pieces.append(piece)
    return pieces


def official_ids(model: spm.SentencePieceProcessor, text: str) -> list[int]:
    """Ids by ``encode_pieces`` and ``PieceToId``."""
    return [model.piece_to_id(piece) for piece in official_pieces(model, text)]


def shared_spans(
    model: spm.SentencePieceProcessor,
    text: str,
    pieces: list[str],
    offsets: np.ndarray,
    **options: bool,
) -> list[tuple[str, str]]:
    """Checks that the slice of ``text`` at each piece, normalised, is the piece.

    Returns:
      (slice, piece) wherever the slice holds more, because a character of it became
      characters of several pieces, which then all have it in their spans.
    """

    def shown(part: str) -> str:
        # A sigma's form depends on the letters around it, which a slice has lost.
        normal = model.normalize(official_normalize(part, **options))
        return normal.replace("▁", "").replace("ς", "σ")

    shared, covered = [], np.zeros(len(text) + 1, int)
    assert (np.diff(offsets[:, 0]) >= 0).all(), text
    assert (np.diff(offsets[offsets[:, 0] < offsets[:, 1], 1]) >= 0).all(), text
    for piece, (start, end) in zip(pieces, offsets.tolist(), strict=True):
        assert 0 <= start <= end <= len(text), text
        covered[start:end] += 1
        part, characters = text[start:end], piece.replace("▁", "").replace("ς", "σ")
        if part.lower() != characters and shown(part) != characters:
            assert characters in shown(part), (text, part, piece)
            shared.append((start, end, part, piece))
    for start, end, part, piece in shared:
        assert (covered[start:end] > 1).any(), (text, part, piece)
    left_out = "".join(c for c, n in zip(text, covered, strict=False) if not n)
    assert not shown(left_out), (text, left_out)
    return [(part, piece) for *_, part, piece in shared]
