"""The state of a link: what we have signed is read, to the letter, and nothing else."""

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from otel_usageflow.exporters.stripe_meter.connect_keys import KeyRing
from otel_usageflow.exporters.stripe_meter.connect_state import Forged, State, read, written

KEYS = KeyRing.of_text(Fernet.generate_key().decode())
OTHERS = KeyRing.of_text(Fernet.generate_key().decode())
STATES = st.builds(
    State,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**40),
    st.text(st.characters(codec="utf-8"), max_size=60),
)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


@given(STATES)
def test_a_state_is_read_as_it_was_written(state: State) -> None:
    """What goes out in a link comes back as it was, and needs no escapes in an address."""
    text = written(state, KEYS)
    assert set(text) <= set(ALPHABET)
    assert read(text, KEYS) == state


@given(STATES, st.data())
def test_a_changed_character_is_refused(state: State, data: st.DataObject) -> None:
    """Whichever character is another one, the state is none of ours; also the last, of which base64 ignores bits."""
    text = written(state, KEYS)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from([one for one in ALPHABET + "+/= é" if one != text[place]]))
    with pytest.raises(Forged):
        read(text[:place] + other + text[place + 1 :], KEYS)


@given(STATES, st.data())
def test_a_longer_or_shorter_state_is_refused(state: State, data: st.DataObject) -> None:
    """Cut off, or with something in front or behind, it is none of ours."""
    text = written(state, KEYS)
    cut = data.draw(st.integers(0, len(text) - 1))
    more = data.draw(st.text(min_size=1, max_size=5))
    for wrong in (text[:cut], text + more, more + text, text + "=", f"{text}.{text}"):
        with pytest.raises(Forged):
            read(wrong, KEYS)


@given(STATES)
def test_another_key_signs_nothing_of_ours(state: State) -> None:
    """A state signed with a key that we do not have is refused."""
    with pytest.raises(Forged):
        read(written(state, OTHERS), KEYS)


@given(st.text(max_size=400))
def test_anything_else_is_refused(text: str) -> None:
    """Whatever comes, the answer is that it is none of ours, and no other error."""
    with pytest.raises(Forged):
        read(text, KEYS)
