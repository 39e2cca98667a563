-- Epochs of the attribute keys: when each began, and from when publishers seal for it.
CREATE TABLE epoch (
    epoch     INTEGER NOT NULL PRIMARY KEY CHECK (epoch >= 0),
    started   INTEGER NOT NULL,
    seal_from INTEGER NOT NULL,
    -- init, schedule, operator, or what made it necessary.
    cause     TEXT    NOT NULL
) STRICT;

INSERT INTO epoch (epoch, started, seal_from, cause) SELECT epoch, 0, 0, 'init' FROM state;

-- One row: how the fleet is run. Spans are in seconds.
CREATE TABLE setting (
    one                INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    -- NULL: epochs advance on demand only.
    epoch_every        INTEGER CHECK (epoch_every > 0),
    overlap            INTEGER NOT NULL CHECK (overlap >= 0),
    revocation_overlap INTEGER NOT NULL CHECK (revocation_overlap >= 0),
    renewal_grace      INTEGER NOT NULL CHECK (renewal_grace >= 0),
    -- Where revocation lists are written, and how long each holds.
    crl_out            TEXT,
    crl_valid          INTEGER NOT NULL CHECK (crl_valid > 0),
    -- The number of the list that was last written there.
    crl_written        INTEGER NOT NULL
) STRICT;

INSERT INTO setting (one, epoch_every, overlap, revocation_overlap, renewal_grace, crl_out, crl_valid, crl_written)
VALUES (1, 604800, 86400, 0, 2592000, NULL, 604800, 0);

-- The lists themselves, so that one that could not be written is written later; older ones have NULL.
ALTER TABLE revocation_list ADD COLUMN der BLOB;

-- Signed states, as they are retained at smqtt/authority/state. Sequence numbers grow by one.
CREATE TABLE authority_state (
    sequence    INTEGER NOT NULL PRIMARY KEY,
    issued      INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    signed      BLOB    NOT NULL
) STRICT;

-- The brokers that get it, in the order in which they were given; devices are told the first.
CREATE TABLE broker (
    url       TEXT    NOT NULL PRIMARY KEY,
    position  INTEGER NOT NULL,
    -- The highest sequence number that this broker has acknowledged.
    published INTEGER NOT NULL
) STRICT;

INSERT INTO broker (url, position, published) SELECT broker, 0, 0 FROM state WHERE broker IS NOT NULL;
