-- Projects that were deleted, for as long as what they used is kept: a bill outlives its project.
CREATE TABLE past_projects (
    number             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id         TEXT NOT NULL,
    project_created_ms BIGINT NOT NULL,
    deleted_ms         BIGINT NOT NULL,
    size_cu            DOUBLE PRECISION NOT NULL,
    UNIQUE (project_id, project_created_ms)
);

CREATE INDEX past_projects_by_time ON past_projects (deleted_ms);

-- Those that are gone already left what they used; of them it is not known when they went nor how large they were.
INSERT INTO past_projects (project_id, project_created_ms, deleted_ms, size_cu)
SELECT u.project_id, u.project_created_ms, MAX(u.at_ms), 0.25 FROM (
    SELECT project_id, project_created_ms, hour_ms + 3600000 AS at_ms FROM usage_hours
    UNION ALL
    SELECT project_id, project_created_ms, at_ms FROM compute_transitions
) u
WHERE NOT EXISTS (SELECT 1 FROM projects p WHERE p.id = u.project_id AND p.created_ms = u.project_created_ms)
GROUP BY u.project_id, u.project_created_ms ORDER BY MAX(u.at_ms);
