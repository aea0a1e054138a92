-- Verifiers are sealed (control/src/store/seal.rs). What an earlier version left in the clear is sealed by the next control
-- plane that leads; until then the new columns are NULL, afterwards the old ones are empty.
ALTER TABLE users ADD COLUMN verifiers BYTEA;
ALTER TABLE servers ADD COLUMN sealed_accounts BYTEA;

-- The keys by which something here may be sealed; the keys themselves stand in a file elsewhere.
CREATE TABLE sealing_keys (
    id       TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    -- A known text, sealed: tells whether a key is the right one.
    probe    BYTEA NOT NULL,
    since_ms BIGINT NOT NULL,
    -- What was here before all was sealed by this key is gone from the files as well.
    wiped    BOOLEAN NOT NULL DEFAULT FALSE
);
