-- A server has had the user as it is here: what the server says of the account since is the truth.
ALTER TABLE users ADD COLUMN known BOOLEAN NOT NULL DEFAULT FALSE;

-- All accounts that the agent sees, with the databases that each may use; JSON.
ALTER TABLE servers ADD COLUMN accounts TEXT NOT NULL DEFAULT '[]';
ALTER TABLE servers DROP COLUMN grants;
