"""The sections of a page as Markdown: its tables, pairs and notes. Charts and pictures are left to the page."""

from collections.abc import Iterable, Sequence

from sightline.report.blocks import Block, Cell, Charts, Code, Note, Pairs, Pictures, Section, Table, Tile, Tiles

__all__ = ["sections_to_markdown"]

_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>|#"})


def sections_to_markdown(title: str, lead: str, tiles: Iterable[Tile], sections: Iterable[Section]) -> str:
    """A Markdown document; every text from the data is escaped."""
    lines = [f"# {_plain(title)}", "", _plain(lead), ""]
    lines += [f"- **{_plain(tile.label)}**: {_plain(tile.number)}. {_plain(tile.meaning)}" for tile in tiles]
    for section in sections:
        lines += ["", f"## {_plain(section.title)}", ""]
        lines += [_plain(text) for text in (section.intro, section.missing) if text]
        for block in section.blocks:
            body = _block(block)
            lines += ["", *body] if body else []
    return "\n".join(lines).rstrip() + "\n"


def _block(block: Block) -> list[str]:
    match block:
        case Table():
            return [*_caption(block.caption), *_table(block.head, block.rows)]
        case Pairs():
            return [*_caption(block.caption), *_table(["", ""], block.rows)]
        case Tiles():
            return [f"- **{_plain(t.label)}**: {_plain(t.number)}. {_plain(t.meaning)}" for t in block.tiles]
        case Note():
            return [f"> {_plain(block.text)}"]
        case Code():
            return [*_caption(block.caption), *(f"    {line}" for line in block.text.splitlines())]
        case Charts() | Pictures():
            return ["*Drawn in the HTML page.*"]
        case _:
            raise TypeError(f"no Markdown for a block of kind {block.kind}")


def _caption(text: str) -> list[str]:
    return [f"**{_plain(text)}**", ""] if text else []


def _table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> list[str]:
    lines = [head, *rows]
    first, *body = ("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)
    return [first, "|" + "---|" * len(head), *body]


def _plain(value: Cell) -> str:
    """A cell on one line, with nothing in it that Markdown would act on."""
    return " ".join(("–" if value is None else str(value)).split()).translate(_SPECIAL)
