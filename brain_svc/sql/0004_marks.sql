-- Where a turn and a compaction begin is found without a look at what is
-- between, however long the log is.

CREATE INDEX event_marks ON brain.event (session_id, type, seq)
    WHERE type IN ('session.status_idle', 'agent.thread_context_compacted');
