-- The size that a compute was started with, in millionths of a CU: whole numbers add up exactly.
ALTER TABLE computes ADD COLUMN size_ucu BIGINT NOT NULL DEFAULT 250000;
UPDATE computes SET size_ucu = (SELECT CAST(ROUND(p.size_cu * 1000000) AS BIGINT) FROM projects p WHERE p.id = computes.project_id);
-- The same at each transition. Of projects that are gone already it is not known; they had the default.
ALTER TABLE compute_transitions ADD COLUMN size_ucu BIGINT NOT NULL DEFAULT 250000;
UPDATE compute_transitions SET size_ucu = COALESCE((SELECT CAST(ROUND(p.size_cu * 1000000) AS BIGINT) FROM projects p
    WHERE p.id = compute_transitions.project_id AND p.created_ms = compute_transitions.project_created_ms), size_ucu);
