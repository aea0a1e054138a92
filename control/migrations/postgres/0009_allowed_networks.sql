-- Where clients may come from, as a list in JSON; NULL: from anywhere.
ALTER TABLE projects ADD COLUMN allowed_networks TEXT;
