-- A server has had the user, so its rights are what they are there: only its password is REST's to give.
ALTER TABLE users ADD COLUMN had BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE users SET had = known;
-- Made in SQL, and kept here since REST gave it a password.
ALTER TABLE users ADD COLUMN by_sql BOOLEAN NOT NULL DEFAULT FALSE;
