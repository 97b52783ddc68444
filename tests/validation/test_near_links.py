"""Links between near-duplicates, as a split takes them."""

from brightrun.formats.records import Message, Record
from brightrun.formats.split import heldout_ids, stratum_of
from brightrun.validation.near_links import near_links

WORDS = "the kiln must cool with the door shut for at least {} hours before anybody opens it or the glaze will craze"


def record(number: int, text: str) -> Record:
    said = [Message("user", f"Tell me about {number * 'kilns and '}glazes."), Message("assistant", text, trained=True)]
    return Record(conversation_id=f"c{number}", index=number, line=number + 1, byte_offset=0, messages=said)


def test_a_conversation_is_linked_to_the_earlier_one_that_it_repeats() -> None:
    long = " ".join(WORDS.format(n) for n in range(30))
    records = [record(0, long), record(1, "Slip is liquid clay."), record(2, long + " So wait.")]
    links = near_links(records)
    assert links == {"c2": ["c0"]}
    assert near_links(records[:2]) == {}
    held = heldout_ids(((r.conversation_id, stratum_of(None)) for r in records), fraction=0.5, seed=1, near=links)
    assert held == ["c1"]
