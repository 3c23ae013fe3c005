-- An append has its session's row locked already: looking the session up again for
-- each event took a fifth of an append. What goes with a session goes by a trigger.
ALTER TABLE brain.event DROP CONSTRAINT event_session_id_fkey;

CREATE FUNCTION brain.session_deleted() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM brain.event WHERE session_id = OLD.id;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION brain.session_deleted() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION brain.session_deleted() TO brain_run;
CREATE TRIGGER session_deleted AFTER DELETE ON brain.session
    FOR EACH ROW EXECUTE FUNCTION brain.session_deleted();
