-- Who woke it: JSON, on the way to `starting`.
ALTER TABLE compute_transitions ADD COLUMN cause TEXT;
