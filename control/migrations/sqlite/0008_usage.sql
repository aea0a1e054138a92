-- Windows of usage that gateways have told of: each counts once, however often it comes. Kept for 35 days, and a window
-- that began before that is not taken any more.
CREATE TABLE usage_windows (
    gateway_id TEXT NOT NULL,
    sequence   BIGINT NOT NULL,
    start_ms   BIGINT NOT NULL,
    PRIMARY KEY (gateway_id, sequence, start_ms)
);

CREATE INDEX usage_windows_by_time ON usage_windows (start_ms);

-- What clients did in each hour, UTC. No reference to projects: what was used stays when the project goes, and
-- `project_created_ms` tells it from a later project of the same name.
CREATE TABLE usage_hours (
    project_id         TEXT NOT NULL,
    project_created_ms BIGINT NOT NULL,
    hour_ms            BIGINT NOT NULL,
    selects            BIGINT NOT NULL,
    inserts            BIGINT NOT NULL,
    updates            BIGINT NOT NULL,
    deletes            BIGINT NOT NULL,
    ddl                BIGINT NOT NULL,
    others             BIGINT NOT NULL,
    row_count          BIGINT NOT NULL,
    bytes_out          BIGINT NOT NULL,
    bytes_in           BIGINT NOT NULL,
    logins             BIGINT NOT NULL,
    logins_failed      BIGINT NOT NULL,
    attached_us        BIGINT NOT NULL,
    wakes_query        BIGINT NOT NULL,
    wakes_prepare      BIGINT NOT NULL,
    wakes_execute      BIGINT NOT NULL,
    wakes_other        BIGINT NOT NULL,
    PRIMARY KEY (project_id, project_created_ms, hour_ms)
);

CREATE INDEX usage_hours_by_time ON usage_hours (hour_ms);
