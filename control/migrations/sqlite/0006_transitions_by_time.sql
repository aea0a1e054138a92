-- What is too old is forgotten every hour.
CREATE INDEX compute_transitions_by_time ON compute_transitions (at_ms);
