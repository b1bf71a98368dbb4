"""What `prepare` hands to `act` and `report`: one cycle's view of every model, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hwprofiles.trust import Fault as ProfileFault
from placement.types import Demand, ModelDemand, Snapshot
from polyfleet.api import FleetPolicySpec, ModelDeploymentSpec
from polyfleet.children import Child, Children
from polyfleet.clearance.standing import OFF, Clearance
from polyfleet.fleet import Fleet
from polyfleet.objects import Objects
from polyfleet.progress import Late, RolledBack
from polyfleet.render.deployment import Rendered
from polyfleet.resolve import Fault, Resolution
from polyfleet.scaling.force import Force, Reference
from polyfleet.state import CustomState, PodState
from polyfleet.wake.path import UNKNOWN, Wake, Way

if TYPE_CHECKING:
    from polyfleet.clearance.candidates import Trial


@dataclass(frozen=True, slots=True)
class ModelView:
    state: CustomState
    spec: ModelDeploymentSpec | None
    resolution: Resolution
    children: tuple[Child, ...]
    target: int  # replicas that are kept or reached: what runs while the model is held
    accepted: Fault | None = None
    wanted: int = 0  # replicas that the spec asks for, held or not
    failed: bool = False  # this program failed on the object; `accepted` says how
    hold: bool = False  # sizes are kept and never grown: the spec is not accepted, or paused
    refill: bool = False  # held, and a dead replica is replaced
    in_drain: frozenset[str] = frozenset()  # leaving replicas whose requests have not ended: they are not removed yet
    clearance: Clearance = OFF  # which hardware is verified, and who of the replicas may serve
    rendered: tuple[Rendered, ...] = ()  # every child that the options may give, by (option, pool)
    frozen: frozenset[str] = frozenset()  # pods that count and stay, but are not shown to the placer
    superseded: frozenset[str] = frozenset()  # frozen pods that leave once their replacement serves
    outdated: frozenset[str] = frozenset()  # children of another revision through no change of the spec: their replicas stay
    # (option, pool) -> child of an earlier revision that takes new replicas there, because the wanted one may not have any
    earlier: Mapping[tuple[str, str], str] = field(default_factory=dict)
    rolled_back: tuple[RolledBack, ...] = ()  # wanted revisions that were given up, as stored
    late: tuple[Late, ...] = ()  # wanted revisions that make no progress
    waits_turn: bool = False  # its rollout begins when another model's has ended
    queued: frozenset[str] = frozenset()  # with `waits_turn`: what is superseded when its turn has come
    doomed: tuple[PodState, ...] = ()  # pinned, unbound, and the node can no longer take them; and those of `ended`
    ended: tuple[PodState, ...] = ()  # were promised a node whose devices did not come free within `preemption.reservationTimeout`
    force: Force | None = None  # what the autoscaler says of it
    way: Way | None = None  # back from zero; None: it has nothing to do with it, or nothing is known
    conflict: str = ""  # who else writes the sizes of its children: it is held at what they write
    unit: Reference | None = None  # of its work, where it is scaled automatically
    bounds: tuple[int, int] | None = None  # lowest and highest size, where the placer chooses it; None: `target` is asked for
    asked: ModelDemand | None = None  # with `bounds`: the work that it is to carry
    surplus: bool = False  # it was decided that it may shrink, and it carries the work with a replica less: the youngest may go too

    @property
    def key(self) -> str:
        return self.state.key

    @property
    def goes_on(self) -> frozenset[str]:
        """Children of an earlier revision that take new replicas."""
        return frozenset(self.earlier.values())

    def given_up(self, profile: str, variant: str, revision: str) -> bool:
        return any((item.profile, item.variant, item.revision) == (profile, variant, revision) for item in self.rolled_back)

    def child_for(self, option: str, pool: str) -> Rendered | None:
        return next((item for item in self.rendered if item.option == option and item.pool == pool), None)

    def earlier_child(self, option: str, pool: str) -> Child | None:
        """The child that takes new replicas in place of the wanted one."""
        name = self.earlier.get((option, pool))
        return next((child for child in self.children if child.name == name), None)

    def stored_child(self, option: str, pool: str) -> Child | None:
        """The existing child of a held model that can take a replacement for a dead pod."""
        return next((child for child in self.children if child.option == option and child.pool == pool), None)


@dataclass(frozen=True, slots=True)
class Inputs:
    snapshot: Snapshot
    demand: Demand
    objects: Objects
    fleet: Fleet
    children: Children
    models: Mapping[str, ModelView] = field(default_factory=dict)
    profile_faults: tuple[ProfileFault, ...] = ()  # entries of profiles that planning leaves out, or uses and flags
    trials: Mapping[str, Trial] = field(default_factory=dict)  # candidates that are to start now, by model
    wake: Wake = UNKNOWN

    def readable(self) -> list[tuple[CustomState, ModelDeploymentSpec]]:
        """Models whose volumes may be asked for the shape of the weights: somebody wants replicas of them. Sorted."""
        found = [self.models[key] for key in sorted(self.models)]
        return [(view.state, view.spec) for view in found if view.spec is not None and view.accepted is None and not view.spec.suspend]

    @property
    def policy(self) -> FleetPolicySpec:
        return self.objects.policy
