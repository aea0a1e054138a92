-- Who may act, for how long. Times are milliseconds since 1970 by this database's own clock. One row is `leader`, and its
-- term only grows; the others are control planes that stand by.
CREATE TABLE leases (
    name       TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    term       BIGINT NOT NULL,
    holder     TEXT NOT NULL,
    -- Where the holder answers other control planes.
    http       TEXT NOT NULL,
    grpc       TEXT NOT NULL,
    expires_ms BIGINT NOT NULL,
    -- PostgreSQL: makes the term a key, so that a writer's lock on it (FOR KEY SHARE) delays a takeover and no renewal.
    UNIQUE (name, term)
);

-- Work that takes steps. A step is written down before it is done, so that the next control plane knows what was begun.
-- No foreign key: the deletion of a project is seen after the project is gone.
CREATE TABLE operations (
    id           TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    project_id   TEXT COLLATE "C" NOT NULL,
    kind         TEXT NOT NULL,
    state        TEXT NOT NULL,
    step         TEXT NOT NULL,
    error        TEXT,
    incarnation  BIGINT,
    requested_by TEXT NOT NULL,
    created_ms   BIGINT NOT NULL,
    updated_ms   BIGINT NOT NULL,
    ended_ms     BIGINT
);

-- Ids grow with time, so the order of ids is that of beginnings.
CREATE INDEX operations_of_project ON operations (project_id, id);
-- What has not ended: a handful among many.
CREATE INDEX operations_open ON operations (id) WHERE ended_ms IS NULL;
CREATE INDEX operations_ended ON operations (ended_ms) WHERE ended_ms IS NOT NULL;
