-- Times are milliseconds since 1970 in UTC. Verifiers are opaque to SQL. Names sort by their bytes (COLLATE "C"), whatever
-- the language of the database is: pages are in that order.

CREATE TABLE projects (
    id              TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    size_cu         DOUBLE PRECISION NOT NULL,
    wake_timeout_ms BIGINT,
    -- The OS user of the project's processes; one project each.
    os_uid          BIGINT UNIQUE,
    created_ms      BIGINT NOT NULL,
    -- Set when deleting has begun: from then on nobody sees the project, and a restart goes on deleting it.
    deleting        BOOLEAN NOT NULL DEFAULT FALSE,
    -- Grows with every change of its users and databases.
    access_revision BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE users (
    project_id   TEXT COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name         TEXT COLLATE "C" NOT NULL,
    native_sha1  BYTEA NOT NULL,
    caching_sha2 BYTEA NOT NULL,
    admin        BOOLEAN NOT NULL,
    created_ms   BIGINT NOT NULL,
    PRIMARY KEY (project_id, name)
);

CREATE TABLE databases (
    project_id TEXT COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name       TEXT COLLATE "C" NOT NULL,
    -- The agent has reported it; if a later report lacks it, it was dropped in SQL.
    seen       BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (project_id, name)
);

-- Users and databases whose last change no running server is known to have. What was added, the next start brings;
-- what was removed stays here until a server has been told.
CREATE TABLE pending_changes (
    project_id TEXT COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    -- 'user' or 'database'.
    kind       TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    -- The access revision of the change.
    revision   BIGINT NOT NULL,
    PRIMARY KEY (project_id, kind, name)
);

CREATE TABLE computes (
    project_id  TEXT COLLATE "C" PRIMARY KEY NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    state       TEXT NOT NULL,
    -- Only grows.
    incarnation BIGINT NOT NULL,
    since_ms    BIGINT NOT NULL,
    reason      TEXT
);

-- What the agent said last of the project's server; JSON.
CREATE TABLE servers (
    project_id TEXT COLLATE "C" PRIMARY KEY NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    version    TEXT NOT NULL,
    variables  TEXT NOT NULL,
    databases  TEXT NOT NULL,
    grants     TEXT NOT NULL
);

CREATE TABLE api_keys (
    name       TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    key_sha256 BYTEA NOT NULL UNIQUE,
    created_ms BIGINT NOT NULL
);
