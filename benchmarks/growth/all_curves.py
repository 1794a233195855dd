"""All curves."""

from growth import backlog, directory, policies, quarantine, records, together, users

CURVES = {
    module.CURVE.name: module.CURVE for module in (policies, records, users, directory, quarantine, backlog, together)
}
