"""What can become of usage: every state, and every step between two of them.

A usage record belongs to one window, or stands in quarantine by itself when it is clear at once that it cannot be
billed. A window is open while it collects, is held while something that can still appear is missing, and is frozen
into a meter event (or into nothing, when it sums to 0). A meter event is sent until Stripe has given a definite
answer, and even that can be taken back: by Stripe, which validates a second time after it said yes, or by people.

    record   (comes in) ──────────────> in a window
               │ cannot be billed          ^
               v                           │ release: a person named what was missing
             quarantined ──────────────────┘
               └──discard──> discarded

    window   open ──freeze──> frozen in an event
               │ ^               │
             hold reopen         │ give back: the customer or the meter does not exist
               v │               │
              held <─────────────┘
               └──discard──> discarded

    event    frozen ──begin──> sending ──accept──> accepted ──cancel──> cancelled
               ^ ^              │ │ │ │             ^    │
               │ └not_processed─┘ │ │ └─────────┐ count  │ reject
               │                  │ └─expire──> unknown  │
               │                  │ refuse       │       │
               │                  v              │       │
               │     ┌───────> refused <─────────────────┘
               │     │            │ │ └──discard──> discarded
               ├─resend───────────┘ └──give_back──> returned
               └─resend (certainly not counted)──┘ unknown ──reject──> refused

Each step is one committed transaction. What is written here is all that the code may do: the storage asks
`step` before it writes. An event that takes a step out of a state with an answer leaves that answer in `answers`.
"""

from enum import IntEnum


class EventState(IntEnum):
    """Where a meter event is. The numbers are stored."""

    FROZEN = 0
    """Written down, and certainly not counted by Stripe: it may be sent."""
    SENDING = 1
    """An attempt was begun and has no definite answer: it may be sent again, unchanged, within 24 hours."""
    ACCEPTED = 2
    """Stripe has it."""
    REFUSED = 3
    """Stripe does not want it, said why, and has certainly not counted it. Kept until somebody acts."""
    UNKNOWN = 4
    """Perhaps counted, and not safe to be sent again: only the meter's summaries can tell."""
    RETURNED = 5
    """Certainly not counted, for want of a customer or a meter. What it covered waits again, for another event."""
    DISCARDED = 6
    """Somebody decided, with a reason, that this is not billed."""
    CANCELLED = 7
    """Stripe had it, and cancelled it because somebody asked for that, with a reason."""


class EventStep(IntEnum):
    """What can happen to a meter event."""

    BEGIN = 0
    ACCEPT = 1
    NOT_PROCESSED = 2
    UNCERTAIN = 3
    REFUSE = 4
    EXPIRE = 5
    """It can no longer be found out by sending it again."""
    GIVE_BACK = 6
    COUNT = 7
    """The meter's summaries show that it was counted."""
    RESEND = 8
    """It was certainly not counted, and is sent again under a derived identifier."""
    REJECT = 9
    """Stripe reports later that it has not counted it; or its summaries show so, too late to send it again."""
    DISCARD = 10
    CANCEL = 11


EVENT_STEPS: dict[tuple[EventState, EventStep], EventState] = {
    (EventState.FROZEN, EventStep.BEGIN): EventState.SENDING,
    (EventState.SENDING, EventStep.BEGIN): EventState.SENDING,
    (EventState.SENDING, EventStep.ACCEPT): EventState.ACCEPTED,
    (EventState.SENDING, EventStep.NOT_PROCESSED): EventState.FROZEN,
    (EventState.SENDING, EventStep.UNCERTAIN): EventState.SENDING,
    (EventState.SENDING, EventStep.REFUSE): EventState.REFUSED,
    (EventState.SENDING, EventStep.EXPIRE): EventState.UNKNOWN,
    (EventState.SENDING, EventStep.GIVE_BACK): EventState.RETURNED,
    (EventState.UNKNOWN, EventStep.COUNT): EventState.ACCEPTED,
    (EventState.UNKNOWN, EventStep.RESEND): EventState.FROZEN,
    (EventState.UNKNOWN, EventStep.REJECT): EventState.REFUSED,
    (EventState.ACCEPTED, EventStep.REJECT): EventState.REFUSED,
    (EventState.ACCEPTED, EventStep.CANCEL): EventState.CANCELLED,
    (EventState.REFUSED, EventStep.RESEND): EventState.FROZEN,
    (EventState.REFUSED, EventStep.GIVE_BACK): EventState.RETURNED,
    (EventState.REFUSED, EventStep.DISCARD): EventState.DISCARDED,
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
