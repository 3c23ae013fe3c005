-- Credentials that a host minted in an answer: of one session, and of the
-- credential that asked for them. They go with either.
ALTER TABLE vault.credential
    ADD COLUMN session_id text REFERENCES vault.session_grant,
    ADD COLUMN parent_id text REFERENCES vault.credential ON DELETE CASCADE,
    ADD CHECK ((session_id IS NULL) = (parent_id IS NULL));
CREATE INDEX ON vault.credential (session_id, id) WHERE session_id IS NOT NULL;
CREATE INDEX ON vault.credential (parent_id) WHERE parent_id IS NOT NULL;
