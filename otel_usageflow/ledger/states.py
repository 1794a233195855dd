"""What can become of usage: every state, and every step between two of them.

A usage record belongs to one window. A window is open while it collects, is held while something that can
still appear is missing, and is frozen into a meter event (or into nothing, when it sums to 0). A meter event
is sent until Stripe has given a definite answer.

    window   open ──freeze──> frozen
               │ ^               │
             hold reopen         │ refused because the customer or the meter does not exist
               v │               │
              held <─────────────┘

    event    frozen ──begin──> sending ──accept──> accepted
               ^                │ │ │ └──expire──> unknown
               └──not_processed─┘ │ └──give_back──> returned
                                  └──refuse──> refused

Each step is one committed transaction. What is written here is all that the code may do: the storage asks
`step` before it writes.
"""

from enum import IntEnum


class EventState(IntEnum):
    """Where a meter event is. The numbers are stored."""

    FROZEN = 0
    """Written down, and certainly not processed by Stripe: it may be sent."""
    SENDING = 1
    """An attempt was begun and has no definite answer: it may be sent again, unchanged, within 24 hours."""
    ACCEPTED = 2
    """Stripe has it."""
    REFUSED = 3
    """Stripe does not want it, and said why. Kept until somebody acts."""
    UNKNOWN = 4
    """Older than Stripe's memory of identifiers, and perhaps counted: only the meter's summaries can tell."""
    RETURNED = 5
    """Certainly not counted, for want of a customer or a meter. What it covered waits again, for another event."""


class EventStep(IntEnum):
    """What can happen to a meter event."""

    BEGIN = 0
    ACCEPT = 1
    NOT_PROCESSED = 2
    UNCERTAIN = 3
    REFUSE = 4
    EXPIRE = 5
    GIVE_BACK = 6


EVENT_STEPS: dict[tuple[EventState, EventStep], EventState] = {
    (EventState.FROZEN, EventStep.BEGIN): EventState.SENDING,
    (EventState.SENDING, EventStep.BEGIN): EventState.SENDING,
    (EventState.SENDING, EventStep.ACCEPT): EventState.ACCEPTED,
    (EventState.SENDING, EventStep.NOT_PROCESSED): EventState.FROZEN,
    (EventState.SENDING, EventStep.UNCERTAIN): EventState.SENDING,
    (EventState.SENDING, EventStep.REFUSE): EventState.REFUSED,
    (EventState.SENDING, EventStep.EXPIRE): EventState.UNKNOWN,
    (EventState.SENDING, EventStep.GIVE_BACK): EventState.RETURNED,
}

UNSETTLED = (EventState.FROZEN, EventState.SENDING)


class IllegalStep(AssertionError):
    """A step that the table does not allow: a bug, and the transaction must not commit."""


def step(state: EventState, what: EventStep) -> EventState:
    """The state after `what`.

    Raises:
        IllegalStep: the table has no such step.
    """
    try:
        return EVENT_STEPS[state, what]
    except KeyError:
        raise IllegalStep(f"a meter event that is {state.name} cannot {what.name}") from None
