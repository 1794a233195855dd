"""What was decided about requests that are alike, so that it is decided once.

Most requests of a service say the same where it matters which policies they meet: method, path, status, and what
`match` compares. And users come again. What is remembered here is what would be worked out again from the same
attributes, resource and scope, and nothing else. Bounded: where memory is spent, it begins anew.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from weakref import WeakSet

from otel_usageflow.model.spans import Said
from otel_usageflow.policy.policy import Policy
from otel_usageflow.policy.request import Origin

MOST_BYTES: Final = 32 * 1024 * 1024
"""What is remembered takes about as much memory at most, over all sets of policies that share a `Budget`."""
LONGEST: Final = 2_000
"""Bytes of attributes beyond which nothing is remembered."""
_ENTRY: Final = 600
"""Bytes that an entry takes beside the attributes."""

User = tuple[str | None, str | None]
"""The user and where it was found."""
NOBODY: Final[User] = (None, None)


class Step(NamedTuple):
    """One policy that a request meets, or may meet."""

    policy: Policy
    billed: bool
    """Whether its status rule takes the request."""
    users: dict[Any, User]
    """What its readers said."""


class Decision(NamedTuple):
    """What becomes of a SERVER span."""

    request: bool
    """Whether it is one, of HTTP or of gRPC."""
    call: bool = False
    """Whether it is a gRPC call."""
    method: str | None = None
    path: list[str] | None = None
    steps: Sequence[Step] = ()
    """In order of precedence."""
    certain: bool = True
    """Whether the policies of all steps are met. Else each that is open has to be asked about the request."""
    plain: bool = False
    """Whether, besides, all of them are `Policy.plain`."""


NO_REQUEST: Final = Decision(request=False)


class Budget:
    """How much is remembered. Where it is spent, everything is forgotten."""

    def __init__(self, limit: int = MOST_BYTES) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._left = limit
        self._scenes: WeakSet[Scenes] = WeakSet()

    def share(self, scenes: "Scenes") -> None:
        """Let these be forgotten, too."""
        with self._lock:
            self._scenes.add(scenes)

    def grants(self, said: Said) -> bool:
        """Whether what is known of these attributes may be remembered; then it will be."""
        size = len(said) if isinstance(said, bytes) else sum(map(len, said))
        if size > LONGEST:
            return False
        with self._lock:
            self._left -= size + _ENTRY
            if self._left < 0:
                self._left = self._limit
                for scenes in self._scenes:
                    scenes.forget()
        return True


@dataclass(slots=True)
class Scene:
    """What is known of one instrumentation scope in one resource."""

    origin: Origin
    budget: Budget
    decisions: dict[Any, Decision] = field(default_factory=dict)
    users: dict[int, dict[Any, User]] = field(default_factory=dict)
    """Of plain policies: their position -> what their readers said."""

    def remember(self, said: Said, decision: Decision) -> Decision:
        """Keep what was decided of a span that says this."""
        if self.budget.grants(said):
            self.decisions[said] = decision
        return decision

    def remember_user(self, users: dict[Any, User], said: Said, user: User) -> None:
        """Keep whom the attributes name that say this."""
        if self.budget.grants(said):
            users[said] = user

    def users_of(self, policy: int) -> dict[Any, User]:
        """Where users of a plain policy are remembered, by its position."""
        return self.users.setdefault(policy, {})

    def forget(self) -> None:
        """Begin anew."""
        self.decisions.clear()
        for users in self.users.copy().values():
            users.clear()


class Scenes:
    """What is known of all scopes and resources, under one set of policies."""

    def __init__(self, policies: tuple[Policy, ...], budget: Budget) -> None:
        self.policies: Final = policies
        self.budget: Final = budget
        self._scenes: dict[Said, Scene] = {}
        budget.share(self)

    def of(
        self, scope: bytes, attributes: Sequence[bytes], origin: Callable[[bytes, Sequence[bytes]], Origin]
    ) -> Scene:
        """That of a scope in a resource with these attributes, all of them."""
        said = (scope, *attributes)
        scene = self._scenes.get(said)
        if scene is None:
            scene = Scene(origin(scope, attributes), self.budget)
            if self.budget.grants(said):
                self._scenes[said] = scene
        return scene

    def forget(self) -> None:
        """Begin anew. Who is at work on a scene goes on with it, and it is forgotten then."""
        for scene in self._scenes.copy().values():
            scene.forget()
        self._scenes.clear()
