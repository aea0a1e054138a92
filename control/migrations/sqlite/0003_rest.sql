-- What REST keeps besides projects: their settings, scoped API keys, the audit log, answers to be given again.

-- Server variables that a project has set, as the server reports them. Their pending_changes are of kind 'setting'.
CREATE TABLE project_settings (
    project_id TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    value      TEXT NOT NULL,
    PRIMARY KEY (project_id, name)
);

-- 'admin', 'project' or 'read-only'.
ALTER TABLE api_keys ADD COLUMN scope TEXT NOT NULL DEFAULT 'admin';
-- The only project that the key sees; it goes with the project, so that it never opens a later one of the same id.
ALTER TABLE api_keys ADD COLUMN project_id TEXT REFERENCES projects (id) ON DELETE CASCADE;
ALTER TABLE api_keys ADD COLUMN expires_ms BIGINT;
-- To the hour.
ALTER TABLE api_keys ADD COLUMN last_used_ms BIGINT;
CREATE INDEX api_keys_of_project ON api_keys (project_id);

-- One row per change that was asked for, written before it is tried. No key to projects: it outlives them.
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    at_ms      BIGINT NOT NULL,
    key_name   TEXT NOT NULL,
    method     TEXT NOT NULL,
    path       TEXT NOT NULL,
    project_id TEXT,
    -- JSON; without secrets.
    changed    TEXT,
    request_id TEXT NOT NULL,
    -- NULL: it has not ended, or control ended before it did.
    status     BIGINT
);
CREATE INDEX audit_of_project ON audit (project_id, id);
CREATE INDEX audit_by_time ON audit (at_ms);

-- Answers to requests with an Idempotency-Key, to be given again.
CREATE TABLE replays (
    key_sha256      BLOB NOT NULL,
    idempotency_key TEXT NOT NULL,
    -- Of the request, mixed with the API key itself, so that nobody can guess what was in it.
    request_sha256  BLOB NOT NULL,
    at_ms           BIGINT NOT NULL,
    -- While status is NULL, somebody works on it until then.
    lease_ms        BIGINT NOT NULL,
    status          BIGINT,
    content_type    TEXT,
    etag            TEXT,
    body            TEXT,
    PRIMARY KEY (key_sha256, idempotency_key)
);
CREATE INDEX replays_by_time ON replays (at_ms);
