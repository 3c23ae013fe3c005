-- Each event keeps the SHA-256 of its text, so that a replay can tell one that
-- was changed afterwards. No defence against who can write the table: that is
-- what the vault's audit is for.

ALTER TABLE brain.event ADD COLUMN digest bytea;

CREATE FUNCTION brain.event_digest() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.digest := sha256(convert_to(NEW.body::text, 'UTF8'));
    RETURN NEW;
END $$;

CREATE TRIGGER event_digest BEFORE INSERT ON brain.event
    FOR EACH ROW EXECUTE FUNCTION brain.event_digest();
