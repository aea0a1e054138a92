-- How long the project's compute may be idle: NULL is the control plane's setting, 0 is never.
ALTER TABLE projects ADD COLUMN suspend_after_ms BIGINT;
-- How long a session that is tied to its compute connection may be idle: NULL is the control plane's setting.
ALTER TABLE projects ADD COLUMN pinned_idle_timeout_ms BIGINT;

-- Grows within an incarnation when a suspend is called off; gateways order what they hear by it.
ALTER TABLE computes ADD COLUMN drain_round BIGINT NOT NULL DEFAULT 0;
-- The suspend that the compute is in is not called off by anybody; one that is not forced ends with its control plane.
ALTER TABLE computes ADD COLUMN drain_forced BOOLEAN NOT NULL DEFAULT FALSE;

-- Every change of a compute's outward state, written with it. No reference to projects: what was used stays when the
-- project goes, and `project_created_ms` tells it from a later project of the same name.
CREATE TABLE compute_transitions (
    id                 INTEGER PRIMARY KEY NOT NULL,
    project_id         TEXT NOT NULL,
    project_created_ms BIGINT NOT NULL,
    incarnation        BIGINT NOT NULL,
    from_state         TEXT NOT NULL,
    to_state           TEXT NOT NULL,
    at_ms              BIGINT NOT NULL,
    reason             TEXT
);

CREATE INDEX compute_transitions_by_project ON compute_transitions (project_id, id);
