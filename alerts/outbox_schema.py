"""The tables of the outbox, and the order in which it is emptied.

`VERSION` goes up with every change of the tables.
"""

from typing import Final

__all__ = ["NEXT", "SCHEMA", "VERSION"]

VERSION: Final = 1

SCHEMA: Final = """
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    receiver TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'dead')),
    body TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    put_at REAL NOT NULL,
    expires REAL NOT NULL,
    due REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    lease TEXT,
    leased_until REAL,
    settled_at REAL,
    why TEXT
);
CREATE INDEX waiting ON messages (receiver, seq) WHERE state = 'waiting';
CREATE INDEX settled ON messages (state, settled_at) WHERE state <> 'waiting';
CREATE INDEX held ON messages (lease) WHERE lease IS NOT NULL;
CREATE INDEX named ON messages (id);

-- Every event a receiver has or will have: what tells a repetition, and the order of an incident.
CREATE TABLE events (
    receiver TEXT NOT NULL,
    key TEXT NOT NULL,
    incident TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES messages (seq) ON DELETE CASCADE,
    PRIMARY KEY (receiver, key)
) WITHOUT ROWID;
CREATE INDEX ordered ON events (receiver, incident, seq);
CREATE INDEX told ON events (seq, incident);

-- How much there is, kept by triggers, for counting rows takes longer the more of them there are.
CREATE TABLE queues (
    receiver TEXT NOT NULL,
    state TEXT NOT NULL,
    messages INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (receiver, state)
) WITHOUT ROWID;
CREATE TRIGGER comes AFTER INSERT ON messages BEGIN
    INSERT INTO queues VALUES (new.receiver, new.state, 1, new.bytes)
    ON CONFLICT (receiver, state) DO UPDATE SET messages = messages + 1, bytes = bytes + new.bytes;
END;
CREATE TRIGGER goes AFTER DELETE ON messages BEGIN
    UPDATE queues SET messages = messages - 1, bytes = bytes - old.bytes
    WHERE receiver = old.receiver AND state = old.state;
END;
CREATE TRIGGER turns AFTER UPDATE OF state, bytes ON messages BEGIN
    UPDATE queues SET messages = messages - 1, bytes = bytes - old.bytes
    WHERE receiver = old.receiver AND state = old.state;
    INSERT INTO queues VALUES (new.receiver, new.state, 1, new.bytes)
    ON CONFLICT (receiver, state) DO UPDATE SET messages = messages + 1, bytes = bytes + new.bytes;
END;
CREATE TABLE flushes (at REAL NOT NULL);
INSERT INTO flushes VALUES (0);
"""

# The first message of a receiver that is due, held by nobody, and behind no other of an incident in
# it. A lease or a pause far in the future is of a clock that was wrong.
NEXT: Final = """
SELECT seq, body, attempts, put_at FROM messages AS message
WHERE state = 'waiting' AND receiver = :receiver
  AND (:early OR due <= :now OR due > :now + :longest)
  AND (lease IS NULL OR leased_until <= :now OR leased_until > :now + 2 * :lease)
  AND NOT EXISTS (
    SELECT 1 FROM events AS own
    JOIN events AS other
      ON other.receiver = own.receiver AND other.incident = own.incident AND other.seq < own.seq
    JOIN messages AS before ON before.seq = other.seq AND before.state = 'waiting'
    WHERE own.seq = message.seq)
ORDER BY seq LIMIT 1
"""
